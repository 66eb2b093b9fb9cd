"""Sessions of an invented tea shop's team, each in Chinese (some of it mixed with English) and in English.

Written for this project, about nobody. Commands, outputs and identifiers are the same in both languages; only the prose
differs. What is asked about them stands in `multilingual_questions.py`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """The same thing in both languages."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Ran:
    """A shell command and what it printed."""

    command: str
    output: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """A prompt and what the agent did and said after it."""

    prompt: Said
    steps: tuple[Said | Ran, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """One session of one day."""

    name: str
    day: str
    exchanges: tuple[Exchange, ...]


def _exchange(zh: str, en: str, *steps: Said | Ran) -> Exchange:
    return Exchange(Said(zh, en), steps)


SESSIONS = (
    Session(
        "database port",
        "2026-02-03",
        (
            _exchange(
                "本地开发库连不上，报端口被占用，帮我看看",
                "I cannot connect to the local development database, it says the port is taken, please have a look",
                Ran(
                    "docker compose up -d pg-dev",
                    "Error: bind for 0.0.0.0:5432 failed: port is already allocated",
                    True,
                ),
                Said(
                    "5432 被系统自带的 Postgres 占了。我把开发数据库的端口改成 5437，写在 compose.override.yml 里。",
                    "5432 is taken by the Postgres of the system. I moved the development database to port 5437, in compose.override.yml.",
                ),
                Ran("docker compose up -d pg-dev && psql -p 5437 -c 'select 1'", "1 row"),
            ),
            _exchange(
                "顺便把种子数据也导进去",
                "while you are there, load the seed data too",
                Ran("python -m mingshan.seed --teas 120 --customers 40", "seeded 120 teas, 40 customers"),
                Said("种子数据导入完成：120 种茶，40 个客户。", "Seed data is loaded: 120 teas and 40 customers."),
            ),
        ),
    ),
    Session(
        "payment callback",
        "2026-02-05",
        (
            _exchange(
                "支付回调一直验签失败，客户付了钱订单还是未支付",
                "the payment callback keeps failing its signature check, customers paid and the orders stay unpaid",
                Ran("pytest -q tests/test_notify.py", "SignatureMismatch: digest differs at byte 17", True),
                Said(
                    "原因找到了：JsonBodyMiddleware 把请求体重新序列化了，字段顺序变了，所以签名对不上。",
                    "Found the cause: JsonBodyMiddleware serialises the body again, the order of the fields changes, so the signature does not match.",
                ),
                Said(
                    "修复：验签改用原始请求体 request.get_data(cache=True)，改动在 pay/notify.py。",
                    "The fix: the check uses the raw body, request.get_data(cache=True), in pay/notify.py.",
                ),
                Ran("pytest -q tests/test_notify.py", "9 passed"),
            ),
            _exchange(
                "那已经付款但没更新的订单怎么补？",
                "and how do we repair the orders that were paid but not updated?",
                Said(
                    "写了一个补单命令，按支付流水逐笔核对，可以重复执行。",
                    "I wrote a repair command that compares payment records one by one and can be run again.",
                ),
                Ran("python -m mingshan.pay.reconcile --since 2026-02-01", "reconciled 37 orders"),
            ),
        ),
    ),
    Session(
        "export",
        "2026-02-09",
        (
            _exchange(
                "运营说导出的订单表格用 Excel 打开全是乱码",
                "operations says the exported order table is garbled when opened in Excel",
                Said(
                    'Excel 没有 BOM 就按 GBK 解码。导出改成 encoding="utf-8-sig"，文件开头会带 BOM。',
                    'Without a BOM Excel decodes it as GBK. The export now uses encoding="utf-8-sig", so the file begins with a BOM.',
                ),
                Ran("pytest -q tests/test_export.py", "4 passed"),
            ),
            _exchange(
                "再加一列快递单号",
                "add a column with the tracking number as well",
                Said(
                    "加好了，列名是「快递单号」，取自 shipment.tracking_no。",
                    "Added; the column is called tracking number and comes from shipment.tracking_no.",
                ),
            ),
        ),
    ),
    Session(
        "deploy",
        "2026-02-12",
        (
            _exchange(
                "把预发环境的部署步骤整理一下",
                "write down the steps to deploy to the staging environment",
                Said(
                    "步骤：先 make deploy ENV=staging，再等 kubectl rollout status deploy/mingshan-api -n tea 结束，最后跑冒烟测试。",
                    "The steps: first make deploy ENV=staging, then wait for kubectl rollout status deploy/mingshan-api -n tea, at last run the smoke test.",
                ),
                Ran("make deploy ENV=staging", "image pushed: mingshan-api:20260212"),
                Ran("kubectl rollout status deploy/mingshan-api -n tea", "deployment successfully rolled out"),
            ),
            _exchange(
                "如果新版本有问题怎么退回上一版？",
                "what if the new version is broken, how do we go back to the previous one?",
                Said(
                    "执行 kubectl rollout undo deploy/mingshan-api -n tea，数据库迁移要先确认能向后兼容。",
                    "Run kubectl rollout undo deploy/mingshan-api -n tea; check first that the database migration is backward compatible.",
                ),
            ),
        ),
    ),
    Session(
        "overselling",
        "2026-02-17",
        (
            _exchange(
                "秒杀的时候库存变成负数了，用分布式锁还是别的办法？",
                "stock went negative during the flash sale, a distributed lock or something else?",
                Said(
                    "比较了两种方案：Redis 锁要处理过期和续期；条件更新只要一条 SQL。",
                    "I compared two ways: a Redis lock needs expiry and renewal; a conditional update is a single SQL statement.",
                ),
                Said(
                    "决定：用条件更新 UPDATE stock SET qty = qty - :n WHERE qty >= :n，不引入锁服务，因为少一个会坏的部件。",
                    "Decision: the conditional update, UPDATE stock SET qty = qty - :n WHERE qty >= :n, and no lock service, because that is one part less that can break.",
                ),
                Ran("pytest -q tests/test_stock.py -k concurrent", "6 passed"),
            ),
        ),
    ),
    Session(
        "settlement",
        "2026-02-20",
        (
            _exchange(
                "每日结算任务总是晚八个小时才跑",
                "the daily settlement job always runs eight hours late",
                Said(
                    "集群的 cron 按 UTC 算。给 daily_settle 加了 timeZone: Asia/Shanghai，现在北京时间 02:30 执行。",
                    "The cluster's cron counts in UTC. I gave daily_settle timeZone: Asia/Shanghai; it now runs at 02:30 Beijing time.",
                ),
                Ran("kubectl apply -f cron/daily_settle.yaml", "cronjob.batch/daily_settle configured"),
            ),
            _exchange(
                "结算金额还差一分钱",
                "the settled amount is one cent off as well",
                Said(
                    "浮点数累加造成的，金额全部换成 Decimal，四舍五入用 ROUND_HALF_UP。",
                    "That came from adding floats; all amounts are Decimal now and rounded with ROUND_HALF_UP.",
                ),
            ),
        ),
    ),
    Session(
        "house rules",
        "2026-02-24",
        (
            _exchange(
                "以后提交信息统一用英文小写一句话，不要表情符号；函数超过 40 行就拆开",
                "from now on commit messages are one lower-case English sentence without emoji; functions of more than 40 lines are split",
                Said("记住了，已写进 CONTRIBUTING.md。", "Understood, it is in CONTRIBUTING.md."),
            ),
            _exchange(
                "还有，合并之前必须有两个人评审，小周负责支付相关的代码",
                "also, two people review before a merge, and Xiao Zhou is responsible for the payment code",
                Said(
                    "已更新 CODEOWNERS：pay/ 目录归 @xiaozhou。",
                    "CODEOWNERS is updated: the folder pay/ belongs to @xiaozhou.",
                ),
            ),
        ),
    ),
    Session(
        "cache",
        "2026-02-27",
        (
            _exchange(
                "首页缓存同时过期，数据库一下子被打满",
                "the home page caches expire all at once and the database is flooded",
                Said(
                    "给过期时间加随机抖动：ttl = 900 + random.randint(0, 60)，原来固定 300 秒。",
                    "I added jitter to the expiry: ttl = 900 + random.randint(0, 60), before it was 300 seconds flat.",
                ),
                Said(
                    "另外用 singleflight 合并并发的回源请求，入口在 cache/fill.py。",
                    "And singleflight merges concurrent refills, see cache/fill.py.",
                ),
            ),
        ),
    ),
    Session(
        "front end build",
        "2026-03-03",
        (
            _exchange(
                "CI 上 npm run build 崩了，本地没问题",
                "npm run build crashes in CI and works locally",
                Ran(
                    "npm run build",
                    "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
                    True,
                ),
                Said(
                    "构建机内存小，Node 默认的堆上限不够。设置 NODE_OPTIONS=--max-old-space-size=4096 之后通过。",
                    "The build machine is small and Node's default heap limit is too low. With NODE_OPTIONS=--max-old-space-size=4096 it passes.",
                ),
                Ran("NODE_OPTIONS=--max-old-space-size=4096 npm run build", "built in 48.1s"),
            ),
        ),
    ),
    Session(
        "text messages",
        "2026-03-06",
        (
            _exchange(
                "验证码短信被人刷了，要限制频率",
                "somebody floods our verification text messages, limit the rate",
                Said(
                    "每个手机号每小时最多 5 条，计数放在 Redis，键前缀 sms:quota:，超过返回 429。",
                    "At most 5 an hour for each number, counted in Redis under the key prefix sms:quota:, beyond that we answer 429.",
                ),
                Ran("pytest -q tests/test_sms.py", "7 passed"),
            ),
            _exchange(
                "换掉现在的短信供应商吧，到达率太低",
                "let us replace the text message provider, too few arrive",
                Said(
                    "已从 Hongyan 换成 Qingniao，原因是 Hongyan 的到达率只有 91%，Qingniao 是 98%。",
                    "Moved from Hongyan to Qingniao, because only 91% arrive with Hongyan and 98% with Qingniao.",
                ),
            ),
        ),
    ),
    Session(
        "tea search",
        "2026-03-10",
        (
            _exchange(
                "用户用拼音搜不到茶叶，比如 longjing",
                "customers cannot find teas by pinyin, longjing for instance",
                Said(
                    "给 tea 表加了 name_pinyin 列，用 pypinyin 生成，再建 pg_trgm 索引。",
                    "The table tea has a new column name_pinyin, filled by pypinyin, with a pg_trgm index.",
                ),
                Said(
                    "没有采用 Meilisearch：商品只有两千多个，多维护一个服务不划算。",
                    "We did not take Meilisearch: with some two thousand products one more service to maintain does not pay.",
                ),
                Ran("alembic upgrade head", "Running upgrade 8c1 -> 9d4, add name_pinyin"),
            ),
        ),
    ),
    Session(
        "slow tests",
        "2026-03-13",
        (
            _exchange(
                "测试要跑十一分钟，太慢了",
                "the tests take eleven minutes, that is too slow",
                Ran("pytest --durations=5", "setup of database fixture: 412s"),
                Said(
                    "慢在每个模块都重新建库。改成 pytest -n 4 --dist loadfile，并让建库的 fixture 变成 session 级，现在三分钟。",
                    "The time goes into making the database for every module. With pytest -n 4 --dist loadfile and a session-scoped fixture it is three minutes now.",
                ),
            ),
        ),
    ),
    Session(
        "image upload",
        "2026-03-17",
        (
            _exchange(
                "店家上传茶园照片报 413",
                "merchants get a 413 when they upload photos of their gardens",
                Said(
                    "nginx 默认只允许 1 MB。改成 client_max_body_size 12m，应用层限制单张 8 MB。",
                    "nginx allows 1 MB only. It is client_max_body_size 12m now, and the application limits one photo to 8 MB.",
                ),
                Ran("nginx -t && nginx -s reload", "syntax is ok"),
            ),
        ),
    ),
    Session(
        "database port again",
        "2026-03-20",
        (
            _exchange(
                "公司新的 VPN 客户端也用 5437，数据库又连不上了",
                "the company's new VPN client uses 5437 too, the database cannot be reached again",
                Said(
                    "开发数据库的端口从 5437 换到 5441，compose.override.yml 和 .env.example 都改了。",
                    "The development database moved from port 5437 to 5441, in compose.override.yml and .env.example.",
                ),
                Ran("psql -p 5441 -c 'select 1'", "1 row"),
            ),
        ),
    ),
)
