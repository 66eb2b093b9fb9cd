"""What somebody said, and whether it is worth telling at the start of a session: decisions, corrections, what is left open.

By plain patterns, no model: what they miss, `recall` still finds. Pure.
"""

import re
from collections.abc import Iterator
from itertools import islice

MIN_chars = 16
MIN_CJK_chars = 6
MAX_chars = 1_200
"""A longer paragraph without a sentence's end is no remark."""
_MAX_LOOKED_AT_chars = 20_000
_MAX_TYPED_chars = 1_500
"""A longer prompt was pasted, nearly always: its imperatives are a document's."""

_MAX_LEADING = 4
"""Short sentences of thanks and the like that may stand before a correction, with it."""

_CJK = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯]")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])|\n+")
_NOT_PROSE = re.compile(
    r"^(?:```|\||<|\{|\[|\$ |//|/\*|#!|@|diff |import |from \S+ import|\d{4}-\d\d-\d\d[T ]\d\d:)|[{};]$"
)
_BULLET = re.compile(r"^(?:[-*•>]+|\d{1,2}[.)]|#{1,6})\s+")
_DECIDED = re.compile(
    r"\b(?:decided|decision(?: is|:)|settled on|agreed (?:on|to|that)|we(?:'ll|’ll| will| should) (?:use|go with|keep|stick with|stay with|call|name)|"
    r"going with|(?:chose|picked|opted for|switched (?:from|to)|moved (?:from \S+ )?to|replaced \S+ (?:with|by))\b.{3,80}\b(?:because|since|so that|instead)|"
    r"from now on|must (?:always|never)|(?:always|never) (?:use|run|commit|push|add|write|call|put|edit|touch|change)|prefer(?:s|red)?\b.{2,60}\b(?:over|to|instead)|"
    r"instead of .{3,80}\bbecause)\b",
    re.IGNORECASE,
)
_ASKED_FOR = re.compile(
    r"^(?:(?:ok|okay|yes|right|good|great|fine|please|agreed|settled|sure|alright)[,.!:]?\s+)*(?:let(?:'|’)?s (?:use|go with|keep|stick|call|stay|switch|drop|do)|use \S+ (?:instead|for|not|over|everywhere)|"
    r"keep (?:it|the|using)|go with|always|never|make sure (?:to|that|you)|remember(?: to| that|:)|i (?:prefer|decided)\b|we(?: are|(?:'|’)re)? (?:use|go(?:ing)? with|take|decided|prefer|always|never)\b|prefer)\b",
    re.IGNORECASE,
)
"""What a user begins with who settles something; an agent that says the same only plans it."""
_LEADS = re.compile(
    r"(?:(?:hm+|oh|ah|hey|well|sorry|wait|hold on|but|and|so|yes|yeah|please|pls|ok(?:ay)?|thanks|thank you"
    r"|(?:(?:good|nice|great|fine|looks (?:good|great|fine)|well done)\b[^,.;:!]{0,30}[,.;:!]+ (?:but|just|only|except)))\b[,.;:! ]+)+",
    re.IGNORECASE,
)
"""What may stand before a correction, and may as well stand before anything else."""
_DENIED = re.compile(
    r"^(?:no[,.:;!](?! (?:that|it|this)(?:'|’)?s (?:fine|ok))|no (?:don(?:'|’)?t|do not|it|that|this|these|the|use|keep|i|you|we|put|make|only|leave|not)\b|nope\b"
    r"|not (?:that|like|the|what|this|there|here|those|these|in|on|as|from)\b"
    r"|(?:don(?:'|’)?t|do not) (?!you\b|worry|hesitate|forget|know|think|see\b|mind|understand|get me)\w"
    r"|stop (?:\w+ing|that|this|it)\b|stop[,.!]|wrong\b|(?:still|completely|totally|all) wrong\b"
    r"|(?:this|that|it|these|those)(?:(?:'|’)?s| is| was| are| were)(?: (?:still|just|simply|completely|totally|all|also))* (?:not (?!an? (?:problem|issue|big deal)|bad|important|urgent|needed|necessary)|wrong|incorrect|too |the wrong|backwards)"
    r"|(?:this|that|it) (?:still )?(?:isn|wasn|doesn|didn)(?:'|’)?t (?!matter|hurt|need)"
    r"|you (?:should|forgot|missed|broke|misunderstood|misread|overlooked|must|(?:were|are) (?:not )?supposed to|did(?:n(?:'|’)?t| not))\b"
    r"|i (?:said|meant|told you|asked (?:for|you)\b|(?:only |just )?wanted (?:you|the|it|that|this)\b|did(?:n(?:'|’)?t| not) (?:ask|want|say|mean))"
    r"|never (?!mind|thought|seen|saw|knew|had)\w|it should(?:n(?:'|’)?t| not)?\b"
    r"|(?:undo|revert|roll(?: \w+)? back|change (?:it|that|this|them) back|put (?:it|that|them) back|take (?:it|that|this|them) (?:out|back))\b)"
    r"|[,;:] (?:undo|revert|roll (?:it|that|this) back|put (?:it|that|them) back|take (?:it|that|this|them) (?:out|back))\b",
    re.IGNORECASE,
)
"""What denies what was done, at the beginning of a sentence or of its last clause."""
_REPLACED = re.compile(
    r"^(?:actually[, ]|instead[, ]|rather[, ](?!\w+,)|(?:use|make (?:it|that|this|them)|put|do|go with|keep|take|switch (?:back )?to|return|call (?:it|that|this|them)|name (?:it|that|this|them)|let(?:'|’)?s (?:use|do|keep|take|go with)|it(?:'|’)s|i(?:'|’)d rather)\b.{2,100}(?:\b(?:instead|rather than)\b|, not ))"
    r"|^(?:the|this|that|these|those|your|our|my|its?)\b[^,.;?]{2,40}\b(?:is|are) wrong\b"
    r"|^(?:the|this|that|these|those|your|our|it)\b[^,.;?]{0,40}\b(?:should|must|has to|have to|needs to)\b.{2,60}(?:\b(?:instead|rather than)\b|, not )",
    re.IGNORECASE,
)
"""What puts something in the place of what was done."""
_SOFT = re.compile(
    r"\b(?:thanks|thank you|nice|good|great|perfect|excellent|elegant|lovely|neat|awesome|amazing|happy|i (?:really )?(?:like|love))\b",
    re.IGNORECASE,
)
_ONLY_POLITE = re.compile(
    r"^(?:(?:hm+|oh|ok(?:ay)?|well|yes|sorry|wait|but|so|great|good|nice|perfect|cool|awesome|excellent|fine|thanks?|thank you|looks? (?:good|great|fine|nice)|much better|better|well done|work|job|start|lovely|a lot|very much|so much|now|already|to me|that|this)\b[\s,.!:;)-]*)+$",
    re.IGNORECASE,
)
"""A sentence after which one has to look on."""
_CORRECTED_CJK = re.compile(
    r"^(?:(?:嗯|哦|等等|等一下|抱歉|请|但是?|还是)[，,。！!\s]*)*(?:不对|不是(?:这样|的|这个|让你|说)?|错了|搞错|弄错|别(?!的|担心|急|忘)|不要(?!紧)|不应该|应该是|我说的是|我要的是|我的意思是|撤销|撤回|回退|回滚|改回|你(?:忘|漏|搞|弄|没|理解错))"
)
_OPEN = re.compile(
    r"(?:\b(?:next steps?|remaining|still (?:to do|open|missing|fails?|failing|broken)|not yet|todo|left to do|unresolved|blocked)\b|\?$)",
    re.IGNORECASE,
)


def sentences(text: str) -> Iterator[str]:
    """The sentences of prose, without bullets; code, tables and the like are passed over."""
    yield from filter(_says_something, _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    is_code = False
    for piece in _SENTENCE_END.split(text[:_MAX_LOOKED_AT_chars]):
        line = piece.strip()
        if line.startswith("```"):
            is_code = not is_code
            continue
        line = _BULLET.sub("", line).strip("*_ ")
        if line and not is_code and len(line) <= MAX_chars and not _NOT_PROSE.search(line):
            yield line


def _says_something(line: str) -> bool:
    return (len(line) >= MIN_chars and " " in line) or len(_CJK.findall(line)) >= MIN_CJK_chars


def decisions(text: str, *, by_user: bool) -> list[str]:
    """The sentences that settle something.

    >>> decisions("Done. We will use port 5433, because 5432 is taken.", by_user=False)
    ['We will use port 5433, because 5432 is taken.']
    >>> decisions("Let's keep carts in Redis. What about tests?", by_user=True)
    ["Let's keep carts in Redis."]
    """
    if by_user and len(text) > _MAX_TYPED_chars:
        return []
    return [
        line
        for line in sentences(text)
        if not line.endswith(("?", ":", "？")) and (_DECIDED.search(line) or (by_user and _ASKED_FOR.search(line)))
    ]


def correction(text: str) -> str:
    """What a prompt corrects, '' if it does not begin by denying or replacing something.

    >>> correction("no, don't mock the database here"), correction("Now add a test.")
    ("no, don't mock the database here", '')
    >>> correction("Thanks! Use pnpm instead of npm."), correction("thanks, looks good"), correction("不要用 npm")
    ('Use pnpm instead of npm.', '', '不要用 npm')
    """
    told, is_one = "", False
    for line in islice(_pieces(text), _MAX_LEADING):
        if not told and _ONLY_POLITE.search(line):
            continue
        told = f"{told} {line}" if told else line
        is_one = is_one or corrects(line)
        if len(told) >= MIN_chars or len(_CJK.findall(told)) >= MIN_CJK_chars:
            break
    return told if is_one else ""


def corrects(sentence: str) -> bool:
    """Whether a sentence denies or replaces what was done before it."""
    if _CORRECTED_CJK.search(sentence):
        return True
    lead = _LEADS.match(sentence)
    said = sentence[lead.end() :] if lead is not None else sentence
    if _DENIED.search(said):
        return True
    return not _SOFT.search(said) and _REPLACED.search(said) is not None


def headline(text: str) -> str:
    r"""The first sentence that says something, with the next one where it only leads to that; '' where none does.

    >>> headline("```\nx = 1\n```\nwhy is the total wrong?"), headline("Implement the following plan:\n# Move carts to Redis")
    ('why is the total wrong?', 'Implement the following plan: Move carts to Redis')
    """
    told = ""
    for line in sentences(text):
        told = f"{told} {line}" if told else line
        if not told.endswith(":"):
            break
    return told


def left_open(text: str) -> str:
    """The last sentence of a reply that leaves something open, '' where it does not.

    >>> left_open("All tests pass. Still open: the migration of old carts.")
    'Still open: the migration of old carts.'
    """
    return next((line for line in reversed(list(sentences(text))[-6:]) if _OPEN.search(line)), "")
