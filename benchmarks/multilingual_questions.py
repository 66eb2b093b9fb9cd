"""Questions about the invented sessions of `multilingual_sessions.py`, each in Chinese and in English.

Most of the items that an answer must hold are the same in both languages: a port, a command, an identifier. Eleven of the
Chinese questions are Chinese alone, nine mix in English; six share few words with what answers them.
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
