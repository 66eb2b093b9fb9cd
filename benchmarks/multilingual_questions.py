"""Questions about the invented sessions of `multilingual_sessions.py`, each in Chinese and in English.

Most of the items that an answer must hold are the same in both languages: a port, a command, an identifier. Of the
Chinese questions 22 are Chinese alone and 18 mix in English; ten share few words with what answers them.
"""

from dataclasses import dataclass

from multilingual_sessions import Said


@dataclass(frozen=True, slots=True)
class Asked:
    """A question in both languages."""

    text: Said
    session: str
    """Name of the session that holds the answer."""
    needed: tuple[tuple[str, ...], ...]
    """Items that the brief must hold, each a tuple of alternatives."""
    is_mixed: bool = False
    """Whether the Chinese question holds English words or identifiers."""
    paraphrase: bool = False
    """Whether it shares few words with its evidence."""


def _asked(
    zh: str, en: str, session: str, *needed: tuple[str, ...], mixed: bool = False, paraphrase: bool = False
) -> Asked:
    return Asked(Said(zh, en), session, needed, mixed, paraphrase)


QUESTIONS = (
    _asked("开发数据库现在用哪个端口？", "Which port does the development database use now?", "database port again", ("5441",)),
    _asked("支付回调验签失败的原因是什么？", "Why did the signature check of the payment callback fail?", "payment callback", ("JsonBodyMiddleware",)),
    _asked("SignatureMismatch: digest differs at byte 17 怎么修？", "SignatureMismatch: digest differs at byte 17, what was the fix?", "payment callback", ("get_data(cache=True)",), mixed=True),
    _asked("付款后没有更新的订单用什么命令补？", "Which command repairs paid orders that were not updated?", "payment callback", ("mingshan.pay.reconcile",)),
    _asked("导出的订单在 Excel 里乱码怎么解决的？", "How was the garbled order export in Excel solved?", "export", ("utf-8-sig",), mixed=True),
    _asked("部署到预发环境的命令是什么？", "What is the command to deploy to staging?", "deploy", ("make deploy ENV=staging",)),
    _asked("上线之后发现故障，怎样恢复到之前的状态？", "A release turned out bad; how do we restore what ran before?", "deploy", ("kubectl rollout undo",), paraphrase=True),
    _asked("库存扣减为什么不用 Redis 锁？", "Why is there no Redis lock around taking stock?", "overselling", ("少一个会坏的部件", "one part less"), mixed=True),
    _asked("抢购时卖出的数量超过实际存货，最后怎么处理的？", "More was sold in the rush than we had; what did we settle on?", "overselling", ("WHERE qty >= :n",), paraphrase=True),
    _asked("daily_settle 几点执行，时区怎么配的？", "When does daily_settle run, and how is its time zone set?", "settlement", ("02:30",), ("Asia/Shanghai",), mixed=True),
    _asked("金额计算有误差，用什么类型和舍入方式？", "Amounts were slightly wrong: which type and which rounding do we use?", "settlement", ("Decimal",), ("ROUND_HALF_UP",), paraphrase=True),
    _asked("提交信息有什么规定？", "What are the rules for commit messages?", "house rules", ("英文小写", "lower-case English")),
    _asked("pay/ 目录的代码归谁负责？", "Who is responsible for the code in pay/?", "house rules", ("xiaozhou", "小周"), mixed=True),
    _asked("首页缓存的过期时间是多少？", "What is the expiry of the home page cache?", "cache", ("900",)),
    _asked("npm run build 在 CI 上内存不够，设置哪个变量？", "npm run build runs out of memory in CI, which variable helps?", "front end build", ("--max-old-space-size=4096",), mixed=True),
    _asked("同一个人一小时能收到几次登录口令？", "How often can one person get a login code within sixty minutes?", "text messages", ("5 条", "5 an hour"), paraphrase=True),
    _asked("为什么换掉短信供应商 Hongyan？", "Why was the text message provider Hongyan replaced?", "text messages", ("91%",), mixed=True),
    _asked("为什么没有用 Meilisearch 做搜索？", "Why was Meilisearch not taken for search?", "tea search", ("不划算", "does not pay"), mixed=True),
    _asked("怎样让自动化检查跑得更快？", "What made the automated checks finish sooner?", "slow tests", ("--dist loadfile",), paraphrase=True),
    _asked("图片太大传不上去，nginx 改了哪个参数？", "Pictures were too big to send; which nginx directive was changed?", "image upload", ("client_max_body_size 12m",), mixed=True, paraphrase=True),
    _asked("种子数据里有多少种茶？", "How many teas are in the seed data?", "database port", ("120",)),
    _asked("快递单号取自哪个字段？", "Which field does the tracking number come from?", "export", ("shipment.tracking_no",)),
    _asked("合并代码之前要几个人看过？", "How many people have to look at code before it goes in?", "house rules", ("两个人", "two people"), paraphrase=True),
    _asked("singleflight 的代码在哪个文件？", "Which file is the singleflight code in?", "cache", ("cache/fill.py",), mixed=True),
    _asked("拼音搜索用的是哪个 index？", "Which index does the pinyin search use?", "tea search", ("pg_trgm",), mixed=True),
    _asked("Playwright 的结账用例为什么不稳定，怎么修的？", "Why was the Playwright checkout case flaky, and what was the fix?", "flaky checkout test", ("reducedMotion",), mixed=True),
    _asked("汇率每天几点更新？", "At what time are exchange rates fetched every day?", "exchange rates", ("16:30",)),
    _asked("放假那天拿不到兑换比例，按哪一天的算？", "On a public holiday there is nothing to convert with; which day counts?", "exchange rates", ("前一个工作日", "last working day"), paraphrase=True),
    _asked("商品列表接口慢的原因是什么？", "Why was the product list slow?", "slow product list", ("N+1",)),
    _asked("用了 selectinload 之后，/api/teas 要发几条查询？", "How many queries does /api/teas make with selectinload?", "slow product list", ("3 条查询", "3 queries"), mixed=True),
    _asked("多少钱以上的退款要店长批准？", "Above which amount must the shop manager approve a refund?", "refunds", ("500 元", "五百块", "500 yuan", "five hundred yuan")),
    _asked("新同事怎样把项目需要的库装好？", "How does a newcomer get all the libraries the project needs?", "package installer", ("uv sync --frozen",), paraphrase=True),
    _asked("p95 延迟超过多少会报警，发到哪个 channel？", "Above which p95 latency is there an alert, and to which channel?", "too many alerts", ("800",), ("#tea-oncall",), mixed=True),
    _asked("reading 'skuId' 这个 TypeError 是什么原因？", "What caused the TypeError reading 'skuId'?", "broken carts", ("旧格式", "old shape"), mixed=True),
    _asked("localStorage 里购物车的 key 是什么？", "What is the key of the cart in localStorage?", "broken carts", ("cart:v3",), mixed=True),
    _asked("注销账号的个人信息多久以后清除？", "After how long is the personal data of a closed account erased?", "deleted accounts", ("三十天", "thirty days")),
    _asked("订单数据要保留几年？", "For how many years are orders kept?", "deleted accounts", ("五年", "five years")),
    _asked("怎样让访客立刻拿到刚发布的脚本？", "How do visitors get the scripts that were just published, at once?", "stale scripts", ("mingshan.cdn purge",), paraphrase=True),
    _asked("branch 的名字应该怎么起？", "How should a branch be named?", "branches", ("TEA-",), mixed=True),
    _asked("面单的左边距在 ZPL 里怎么写？", "How is the left margin of the labels written in ZPL?", "label printer", ("^LH16,0",), mixed=True),
)  # fmt: skip

UNANSWERABLE = (
    Said("团建去哪里吃饭？", "Where do we eat at the team outing?"),
    Said("发票抬头怎么填？", "How is the invoice title filled in?"),
    Said("手机推送用的是哪家服务？", "Which service sends our mobile push notifications?"),
    Said("谁负责招聘面试？", "Who does the hiring interviews?"),
    Said("MongoDB 备份多久一次？", "How often is MongoDB backed up?"),
    Said("鉴权用 OAuth 还是 JWT？", "Is authentication done with OAuth or JWT?"),
    Said("会员积分怎么计算？", "How are loyalty points computed?"),
    Said("为什么换掉日志系统？", "Why was the logging system replaced?"),
    Said("Kafka 的分区数是多少？", "How many partitions does Kafka have?"),
    Said("仓库的温度报警阈值设的多少？", "What is the temperature alarm threshold of the warehouse?"),
)
"""Nothing of this was ever spoken of: the right answer is that nothing is remembered."""
