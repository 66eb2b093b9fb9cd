"""What somebody says in, statements out: rules, preferences, decisions with their reason, what is used and avoided, ports.

Pure, by the cues of `cues.py`. Every value is a stretch of the text itself. Who says it decides what may be taken from it: of an
agent only what it says was decided or found, of a person also what they wish.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ingest import cues
from ingest.naming import DATABASES, NAME, PLATFORMS, named
from ingest.prose import Sentence, sentences
from lmm_mcp.recall import remarks

MAX_TYPED_chars = 1_500
"""A longer prompt was pasted or made by a program, nearly always: its imperatives are a document's."""
_MADE_BY_PROGRAM = re.compile(
    r"\s*(?:<|\{|\[|#\s|You are (?:a|an|the|now)\b|Caveat:|This session is being continued|Base directory for)"
)
_NOT = r"(?:don(?:'|’)t|do not|never|stop|no longer|not|avoid)"
_PAST = r"(?:(?:'|’)(?:ve|re)|(?:'|’)d| have| are| had)?"
_USES = (
    re.compile(
        rf"\bwe{_PAST} (?:only |always |now |already )?(?:use|using|run|standardi[sz]ed on) (?P<value>{NAME})(?: (?:for|to) (?P<subject>[a-z][\w -]{{2,40}}?))?(?=[.,;:!]| here| in this| everywhere|, not| instead| because| since| as |$)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?:use|using|switch(?:ed)? to|move(?:d)? to|migrate(?:d)? to) (?P<value>{NAME})(?: (?:for) (?P<subject>[a-z][\w -]{{2,40}}?))?,? (?:instead of|not|rather than|and not|over) (?P<avoided>{NAME})",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?:switch(?:ed)?|move(?:d)?|migrate(?:d)?) from (?P<avoided>{NAME}) to (?P<value>{NAME})", re.IGNORECASE
    ),
    re.compile(rf"\breplace(?:d)? (?P<avoided>{NAME}) (?:with|by) (?P<value>{NAME})", re.IGNORECASE),
    re.compile(rf"(?:我们|本项目|这个项目|项目里?)(?:都|只|一直|现在)?(?:用|使用|采用)(?:的是)?\s*(?P<value>{NAME})"),
    re.compile(rf"(?:改用|换成|切换到|就用|一律用|统一用)\s*(?P<value>{NAME})"),
    re.compile(rf"用\s*(?P<value>{NAME})\s*[,，]?\s*(?:而不是|不要用|别用|不用|代替)\s*(?P<avoided>{NAME})"),
    re.compile(rf"把\s*(?P<avoided>{NAME})\s*(?:换成|改成|替换为)\s*(?P<value>{NAME})"),
)
_AVOIDS = (
    re.compile(
        rf"\b{_NOT} (?:use|using|run|install) (?P<avoided>{NAME})(?=[.,;:!]| here| in this| anywhere| any ?more| for | because| at all|$)",
        re.IGNORECASE,
    ),
    re.compile(rf"(?:不要|别|不再|禁止|不能|不许)(?:使?用|安装)\s*(?P<avoided>{NAME})"),
)
_DATABASE = (
    re.compile(
        rf"\b(?:the|our|its|this) (?:main |primary |production |dev )?(?:database|db|datastore) (?:is|runs on|will be|should be) (?:a |an |now )?(?P<value>{DATABASES})\b",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?:use|using|uses|chose|picked|runs on|with) (?P<value>{DATABASES})(?: \d+(?:\.\d+)*)? (?:as|for) (?:the|our|its|a|my)? ?(?:main |primary )?(?:database|db|datastore|storage)\b",
        re.IGNORECASE,
    ),
    re.compile(rf"数据库(?:是|用|使用|换成|改成|改用|采用)(?:了|的是)?\s*(?P<value>{DATABASES})", re.IGNORECASE),
)
_DEPLOY = (
    re.compile(
        rf"\b(?:we|it(?:'|’)?s?|this|app|site|service|project|backend|frontend|production|prod|staging|everything)\b[^.]{{0,20}}\b(?:deploy(?:s|ed)?|hosted|runs?|running) (?:is |are )?(?:to|on) (?P<value>{PLATFORMS})\b",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\bdeploy(?:ment|ments|s)? (?:target )?(?:is|are|goes|go) (?:to |on )?(?P<value>{PLATFORMS})\b", re.IGNORECASE
    ),
    re.compile(rf"部署(?:到|在|于)\s*(?P<value>{PLATFORMS})", re.IGNORECASE),
)
_PORT = (
    re.compile(
        r"(?<!['’\w])(?P<subject>[A-Za-z][\w.-]*(?: (?:server|api|service|db|database|ui|app|proxy|dashboard|frontend|backend))?) (?:now )?(?:runs|listens|is running|is listening|running|listening|is served|is exposed|is available|is reachable|starts|binds)(?: locally)? (?:on|at|to) (?:the )?(?:port |(?:https?://)?(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::\]):)(?P<value>\d{2,5})\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"\bport (?:of|for) (?:the |our )?(?P<subject>[A-Za-z][\w.-]*(?: (?:server|api|service|db|database|ui|app))?) (?:is|to|should be|will be|=) (?P<value>\d{2,5})\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?<!['’\w])(?:the |our )?(?P<subject>[A-Za-z][\w.-]*(?: (?:server|api|service|db|database|ui|app))?)(?:'s)? port (?:is|=|should be|will be) (?:now )?(?P<value>\d{2,5})\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<subject>[A-Za-z][\w.-]*|数据库|前端|后端|服务器?)\s*(?:的)?端口(?:号)?(?:是|改成|改为|换成|用|为|在)\s*(?P<value>\d{2,5})"
    ),
)
_NO_SERVICE = frozenset(
    "it this that which what and the a an app one now server there also already port default something default only".split()
)
_HEADING = re.compile(
    r"(?:[-—–✅✓✔•\s]*(?:[A-Z][\w /-]{1,30}:\*\*|\*\*[^*]{2,60}\*\*:?|[^*]{2,60}\*\*:?|Root [Cc]ause:|(?:The )?(?:[Ff]ix|[Dd]ecision|[Ww]orkaround):))?[-—–:✅✓✔•\s]+"
)
"""What stands before a sentence and is no part of it: `Root cause:** ...`, `- ...`."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that was said, with the place of its sentence in the text."""

    relation: str
    value: str
    subject: str
    start: int
    end: int


def is_typed(text: str) -> bool:
    """Whether a prompt is somebody's own words, as far as its length and beginning tell."""
    return len(text) <= MAX_TYPED_chars and not _MADE_BY_PROGRAM.match(text)


def by_person(text: str) -> Iterator[Statement]:
    """What a person settled, wishes or forbids; nothing where a program or a paste speaks."""
    if not is_typed(text):
        return
    for each in sentences(text):
        if each.is_question:
            continue
        yield from _said_of_tools(each, by_user=True)
        if cues.RULE.search(each.text):
            yield _whole("standing rule", each)
        elif cues.PREFERENCE.search(each.text):
            yield _whole("preference", each)
        elif cues.DECIDED_BY_USER.search(each.text) and _has_content(each.text):
            yield _whole("decision", each)


def by_note(text: str) -> Iterator[Statement]:
    """What somebody had remembered: each note is one statement, beside what it says of tools."""
    found = list(sentences(text))
    for each in found:
        yield from _said_of_tools(each, by_user=True)
        if cues.RULE.search(each.text):
            yield _whole("standing rule", each)
        elif cues.PREFERENCE.search(each.text):
            yield _whole("preference", each)
        elif cues.DECIDED_BY_USER.search(each.text):
            yield _whole("decision", each)


def correction(text: str) -> Statement | None:
    """What a prompt takes back of what was done before it; None where it does not, or says too little to be learnt from."""
    if not is_typed(text):
        return None
    first = next(sentences(text), None)
    if first is None or first.is_question or not _has_content(first.text):
        return None
    return _whole("correction", first) if remarks.corrects(first.text) else None


def by_agent(text: str) -> Iterator[Statement]:
    """What an agent says was decided and why, what something was caused by, how it was worked around."""
    causes: list[Statement] = []
    for each in sentences(text):
        if each.is_question or cues.HEDGED.search(each.text):
            continue
        yield from _said_of_tools(each, by_user=False)
        if cues.ROOT_CAUSE.search(each.text) and _has_content(each.text):
            causes.append(_whole("root cause", each))
        elif cues.WORKAROUND.search(each.text) and _has_content(each.text):
            yield _whole("workaround", each)
        elif cues.DECIDED_BY_USER_RETOLD.search(each.text) or (
            cues.DECIDED_BY_AGENT.search(each.text)
            and cues.REASON.search(each.text)
            and not cues.AT_IT.search(each.text)
        ):
            yield from [_whole("decision", each)] if _has_content(each.text) else []
    yield from causes[-1:]  # what it found in the end; the ones before were steps on the way


def left_open(text: str) -> Iterator[Statement]:
    """What the last reply of a session leaves to be done."""
    for each in list(sentences(text))[-8:]:
        if (
            not each.is_question
            and cues.OPEN.search(each.text)
            and not cues.DONE.search(each.text)
            and _has_content(each.text)
        ):
            yield _whole("open task", each)


def ports(text: str) -> Iterator[Statement]:
    """Services with their ports, as a program says when it starts."""
    at = 0
    for line in text[:20_000].split("\n"):
        yield from _port(Sentence(line, at)) if len(line) <= 200 else ()
        at += len(line) + 1


def _said_of_tools(said: Sentence, *, by_user: bool) -> Iterator[Statement]:
    if by_user:
        yield from _used(said)
    yield from _matched("database", _DATABASE, said)
    yield from _matched("deploy target", _DEPLOY, said)
    yield from _port(said)


def _used(said: Sentence) -> Iterator[Statement]:
    for pattern in _USES:
        for found in pattern.finditer(said.text):
            value, subject = named(found["value"]), (found.groupdict().get("subject") or "").strip()
            avoided = named(found.groupdict().get("avoided") or "")
            if not value or (found.groupdict().get("avoided") and not avoided) or _is_negated(said.text, found.start()):
                continue
            yield _part("uses for" if subject else "uses", value, said, subject)
            if avoided:
                yield _part("avoids", avoided, said)
    for pattern in _AVOIDS:
        for found in pattern.finditer(said.text):
            if avoided := named(found["avoided"]):
                yield _part("avoids", avoided, said)


def _matched(relation: str, patterns: tuple[re.Pattern[str], ...], said: Sentence) -> Iterator[Statement]:
    for pattern in patterns:
        found = pattern.search(said.text)
        if found is not None and not _is_negated(said.text, found.start()):
            yield _part(relation, found["value"], said)
            return


def _port(said: Sentence) -> Iterator[Statement]:
    for pattern in _PORT:
        found = pattern.search(said.text)
        if found is None or _is_negated(said.text, found.start()) or not 1 < int(found["value"]) < 65_536:
            continue
        subject = re.sub(r"^(?:the|our|a|an) ", "", found["subject"], flags=re.IGNORECASE)
        if subject.lower().split()[0] not in _NO_SERVICE:
            yield _part("port", found["value"], said, subject)
            return


def _whole(relation: str, said: Sentence) -> Statement:
    """The sentence as it stands, without a heading before it: `Root cause:** ...`."""
    heading = _HEADING.match(said.text)
    value = (
        said.text[heading.end() :] if heading is not None and _has_content(said.text[heading.end() :]) else said.text
    )
    at = said.start + len(said.text) - len(value)
    return Statement(relation, value, "", at, at + len(value))


def _part(relation: str, value: str, said: Sentence, subject: str = "") -> Statement:
    return Statement(relation, value, subject, said.start, said.start + len(said.text))


def _is_negated(text: str, at: int) -> bool:
    return (
        re.search(
            r"\b(?:not|don(?:'|’)t|never|no longer|instead of|without|if|unless|should we|could|might|would|can)\b[^,;]{0,20}$|(?:不|别|没有?|如果)[^，,]{0,6}$",
            text[:at],
            re.IGNORECASE,
        )
        is not None
    )


def _has_content(text: str) -> bool:
    """Whether it says enough to be understood without what came before it."""
    words = text.split()
    return (
        len(words) >= 6
        or (len(words) >= 4 and re.search(r"`|\w[._/]\w|[a-z][A-Z]", text) is not None)
        or len(re.findall(r"[㐀-鿿]", text)) >= 6
    )
