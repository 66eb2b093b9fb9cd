"""The second half of the invented tea shop's sessions: see `multilingual_sessions.py`, which the first half stands in."""

from multilingual_sessions import Exchange, Ran, Said, Session


def _exchange(zh: str, en: str, *steps: Said | Ran) -> Exchange:
    return Exchange(Said(zh, en), steps)


LATER_SESSIONS = (
    Session(
        "flaky checkout test",
        "2026-03-24",
        (
            _exchange(
                "结账的 Playwright 用例时好时坏，重跑一次又过了",
                "the Playwright case of the checkout fails now and then and passes when run again",
                Ran(
                    "npx playwright test checkout.spec.ts --repeat-each 20",
                    "3 failed, 17 passed: element is moving",
                    True,
                ),
                Said(
                    "抽屉的滑出动画还没结束就点了按钮。测试里加上 reducedMotion: 'reduce' 关掉动画，二十次全过。",
                    "The button is clicked while the drawer still slides out. With reducedMotion: 'reduce' the tests run without animation, and twenty of twenty pass.",
                ),
                Ran("npx playwright test checkout.spec.ts --repeat-each 20", "20 passed"),
            ),
            _exchange(
                "CI 上再留两次重试吧，免得挡住别人",
                "leave two retries in CI all the same, so that nobody is blocked",
                Said(
                    "playwright.config.ts 里 retries 设为 2，只在 CI 生效。",
                    "retries is 2 in playwright.config.ts, in CI only.",
                ),
            ),
        ),
    ),
    Session(
        "exchange rates",
        "2026-03-27",
        (
            _exchange(
                "海外订单的汇率从哪里来？财务说昨天的不对",
                "where do the exchange rates of overseas orders come from? finance says yesterday's were wrong",
                Said(
                    "每天 16:30 取一次中间价，写进 fx_rate 表。昨天是节假日，接口返回空，程序把空当成了 0。",
                    "The central rate is fetched once a day at 16:30 and written to the table fx_rate. Yesterday was a holiday, the interface returned nothing, and nothing was taken for 0.",
                ),
                Said(
                    "改成：没有数据就沿用前一个工作日的汇率，并发一封邮件给财务。",
                    "Changed: where there is no rate, that of the last working day holds, and finance gets a mail.",
                ),
                Ran("pytest -q tests/test_fx.py", "11 passed"),
            ),
        ),
    ),
    Session(
        "slow product list",
        "2026-03-31",
        (
            _exchange(
                "商品列表接口要 1.8 秒，帮我查一下慢在哪",
                "the product list takes 1.8 seconds, find out where the time goes",
                Ran("python -m mingshan.profile GET /api/teas", "203 queries, 1790 ms"),
                Said(
                    "典型的 N+1：每个商品单独查一次产地。用 selectinload(Tea.garden) 一次取完，现在 3 条查询，110 毫秒。",
                    "A classic N+1: the garden of each product is queried on its own. selectinload(Tea.garden) fetches them at once: 3 queries now, 110 ms.",
                ),
                Ran("python -m mingshan.profile GET /api/teas", "3 queries, 110 ms"),
            ),
        ),
    ),
    Session(
        "refunds",
        "2026-04-07",
        (
            _exchange(
                "退款规则定一下：拆封的茶不退，没拆封的七天内可以退；五百块以上要店长批准",
                "let us settle refunds: opened tea is not taken back, unopened within seven days; above five hundred yuan the shop manager must approve",
                Said(
                    "已写成状态机，见 pay/refund.py：超过 500 元进入 waiting_approval，由店长在后台点同意。",
                    "Written as a state machine in pay/refund.py: above 500 yuan it goes to waiting_approval, and the shop manager approves in the back office.",
                ),
                Ran("pytest -q tests/test_refund.py", "16 passed"),
            ),
            _exchange(
                "运费退不退？",
                "do we give the postage back?",
                Said(
                    "按刚才的规则，质量问题退运费，其他情况不退，字段是 refund_shipping。",
                    "By the same rules only where the goods were faulty; the field is refund_shipping.",
                ),
            ),
        ),
    ),
    Session(
        "package installer",
        "2026-04-10",
        (
            _exchange(
                "装依赖太慢，而且每个人装出来的版本不一样",
                "installing dependencies is slow and everybody ends up with other versions",
                Said(
                    "从 pip 换成 uv，锁文件是 uv.lock。新人执行 uv sync --frozen 就行，CI 也一样，从 95 秒降到 8 秒。",
                    "Moved from pip to uv, the lock file is uv.lock. New people run uv sync --frozen, and so does CI: 8 seconds instead of 95.",
                ),
                Ran("uv sync --frozen", "Installed 143 packages in 2.1s"),
            ),
        ),
    ),
    Session(
        "too many alerts",
        "2026-04-14",
        (
            _exchange(
                "半夜报警太多，大家都不看了，改一改阈值",
                "too many alerts at night, nobody looks at them any more, change the thresholds",
                Said(
                    "现在只有 p95 延迟连续五分钟超过 800 毫秒才报警，发到 #tea-oncall；单个 5xx 不再叫醒人。",
                    "An alert is sent only if the p95 latency is above 800 ms for five minutes, to #tea-oncall; a single 5xx wakes nobody any more.",
                ),
                Ran("promtool test rules alerts/api_test.yml", "SUCCESS"),
            ),
        ),
    ),
    Session(
        "broken carts",
        "2026-04-17",
        (
            _exchange(
                "老用户打开购物车白屏，控制台报 TypeError: Cannot read properties of undefined (reading 'skuId')",
                "returning customers see a blank cart, the console says TypeError: Cannot read properties of undefined (reading 'skuId')",
                Said(
                    "localStorage 里还是旧格式的购物车。给键加上版本号 cart:v3，读到旧的就转换一次再保存。",
                    "Their localStorage still holds a cart of the old shape. The key has a version now, cart:v3; an old cart is converted once and saved.",
                ),
                Ran("npm test -- cart", "Tests: 23 passed"),
            ),
        ),
    ),
    Session(
        "deleted accounts",
        "2026-04-21",
        (
            _exchange(
                "法务问：用户注销以后，他的数据我们留多久？",
                "legal asks how long we keep the data of somebody who has closed their account",
                Said(
                    "现在是永远留着，这不行。建议个人信息三十天后清除，订单为了对账保留五年，姓名和电话打码。",
                    "For ever at present, which will not do. I propose to erase personal data after thirty days and to keep orders for five years for the books, with name and phone masked.",
                ),
            ),
            _exchange(
                "同意，就这么做",
                "agreed, do it",
                Said(
                    "写好了清除任务 mingshan.privacy.purge，每周日跑一次，会先打印要删的数量。",
                    "The job mingshan.privacy.purge is written; it runs every Sunday and first prints how many it is going to delete.",
                ),
                Ran("python -m mingshan.privacy.purge --dry-run", "would erase 58 accounts"),
            ),
        ),
    ),
    Session(
        "stale scripts",
        "2026-04-24",
        (
            _exchange(
                "发版以后有的客户还在用旧的 JS，按钮点了没反应",
                "after a release some customers still run the old JS and the buttons do nothing",
                Said(
                    "CDN 缓存了没有哈希的文件名。构建改成 [name].[contenthash].js，index.html 设为 no-cache。",
                    "The CDN cached file names without a hash. The build writes [name].[contenthash].js now, and index.html is no-cache.",
                ),
                Said(
                    "要马上清掉的话，执行 python -m mingshan.cdn purge --prefix /static。",
                    "To clear it at once, run python -m mingshan.cdn purge --prefix /static.",
                ),
                Ran("python -m mingshan.cdn purge --prefix /static", "purged 412 objects"),
            ),
        ),
    ),
    Session(
        "branches",
        "2026-04-28",
        (
            _exchange(
                "分支名字乱七八糟，以后一律用任务号开头，比如 TEA-214-refund，合并以后删掉",
                "branch names are a mess; from now on they begin with the ticket, such as TEA-214-refund, and are deleted after the merge",
                Said(
                    "服务器上加了检查，不以 TEA- 加数字开头的分支推不上去；合并后自动删除也打开了。",
                    "The server checks it: a branch that does not begin with TEA- and a number is refused; deleting after the merge is switched on.",
                ),
            ),
            _exchange(
                "线上紧急修复呢？",
                "and urgent repairs of what is live?",
                Said(
                    "从最近的 tag 拉 hotfix 分支，修完先发版再合回 main。",
                    "They branch off the latest tag as hotfix, are released first and then merged back into main.",
                ),
            ),
        ),
    ),
    Session(
        "label printer",
        "2026-05-06",
        (
            _exchange(
                "仓库的面单打出来总是偏右，条码扫不出来",
                "the shipping labels in the warehouse are printed too far to the right and the bar code cannot be scanned",
                Said(
                    "面单是 100×150 毫米，驱动却按 A6 排版。改用 ZPL 直接发给打印机，左边距 ^LH16,0。",
                    "The labels are 100 by 150 mm, but the driver lays them out as A6. ZPL goes to the printer directly now, with ^LH16,0 as the left margin.",
                ),
                Ran("python -m mingshan.labels test-print --printer wh-2", "sent 1 label"),
            ),
        ),
    ),
)
