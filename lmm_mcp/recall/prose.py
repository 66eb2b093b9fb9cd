"""Ranked lines in, the same lines out: beside a value of which a newer line says that it holds no more stands the one that does.

For what nobody edits: how often something is tried, a way to name files, a habit that was given up. A newer line counts where it
says so ("from now on", "no more", "8 times now"), an older one where it gives the same matter another value of the same kind.
What is doubted, or said again later, is left alone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.query import Query
from lmm_mcp.store.terms import terms

NUM_LOOKED_AT = 60
"""Lines at the head that are looked at."""
MAX_chars = 600
"""Longer lines are lists or pastes."""
FITS = 0.5
"""Share of what the older line repeats of the question that the newer one must repeat, where values of a kind are many."""
_NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
_SPEAKERS = frozenset({"user", "agent", "note", "summary"})
_DONE = frozenset({"command", "edit"})
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])")
_CLAUSE = re.compile(r"[,:，：、]\s*|\s[–—-]+\s|[()]|\b(?:and|but|so|then|because|since|which|while)\b", re.IGNORECASE)
_CHANGE = re.compile(
    r"(?<!right )(?<!for )(?<!just )(?<!until )(?<!by )(?<!^)\bnow\b(?! (?:i|let|we'll|that|run|add|check)\b)"
    r"|\b(?:from (?:now|today|here|tomorrow|next|this) |from \w+day|as of|starting (?:today|tomorrow|next|with|\w+day)"
    r"|no longer|no more|any ?more|instead|in place of|in favou?r of|not as an?|make (?:it|that)|changed my mind"
    r"|(?:switch|migrat|upgrad|renam|rais|lower|bump|increas|decreas|reduc|shorten|extend|doubl|halv|retir|deprecat|replac)(?:e|es|ed|ing)?"
    r"|replacements?|(?:moved?|moving|chang(?:e|es|ed|ing)|went|go) (?:\S+ ){0,4}(?:to|from)|dropped|since then)\b"
    r"|改[成为用到]|换[成到]|不再|从(?:现在|今天|明天|下周)起|今后|以后|现在(?:是|用|改|在|都)|取代|替换|[升降调]到|调整为|迁移?到|搬到|推迟到|提前到"
)
"""What says that something is another than before; of lower-cased text."""
_SETTLED = re.compile(
    r"\b(?:replac\w+|instead|from (?:now|today) on|no longer|any ?more|switched|changed)\b|改用|换成|不再|以后"
)
"""Says it of the very thing that is named beside it."""
_DOUBT = re.compile(
    r"\b(?:could|might|would|should (?:we|i)|shall|may|maybe|perhaps|probably|if|whether|unless|consider\w*|propos\w+|suggest\w*"
    r"|plan(?:s|ned)? to|let me|i'll try|until|temporar\w+|for now|option|alternativ\w+|either)\b|如果|可能|也许|建议|考虑|暂时"
)
_IF = re.compile(r"(?:if|when|unless|whether|should|如果)\b")
_SIGNS = frozenset(
    """now today tomorrow next longer more anymore any instead place favor favour make mind switch switches switched switching migrate
    migrates migrated migrating upgrade upgrades upgraded upgrading rename renamed renaming raise raised lower lowered bump bumped
    increase increased decrease decreased reduce reduced shorten shortened extend extended double doubled halve halved retire retired
    deprecate deprecated replace replaces replaced replacing replacement replacements move moved moving change changes changed changing
    went go dropped since gone dead obsolete discontinued shut rid stop stopped gave give abandoned left starting""".split()
)
"""Words without one of which nothing in English tells of a change, but for `not as a` and `as of`."""
_WORD = re.compile("[a-z]+")
_MAY_HOLD = re.compile(
    r"[\d`#]|[^\x00-\x7f]|[Dd]ay|[Cc]ase|"
    + "|".join(f" {each} " for each in _NUMBERS)
    + r"|nglish|man\b|ench\b|ese\b|ian\b"
)
_FORMER = re.compile(
    r"(?:\bfrom|\binstead of|\brather than|\bin place of|\bnot(?: (?:on|at|in|to|as))?|\bno longer(?: \w+){0,2}|\bwas|\bwere|\bused to be|\bover|从|不是|不再\S?)"
    r"(?: (?:the|a|an|our))?\s*[`\"']?$"
)
"""Before a value that held before."""
_DIMENSION = {
    **dict.fromkeys("ms millisecond s sec second min minute h hour day week month year".split(), "time"),
    **dict.fromkeys("byte kb mb gb tb kib mib gib".split(), "size"),
    **dict.fromkeys("% percent".split(), "share"),
    **dict.fromkeys("px pixel".split(), "length"),
}
_NO_UNIT = frozenset(
    """tests files commits lines errors warnings failures changes issues results findings bugs steps things ways cases places reasons
    examples messages sessions passes questions pages points words was has this is its does lets goes says""".split()
)
"""Of which there is another number every day, and what is no unit."""
_QUANTITY = re.compile(
    rf"(?<![\w.:/#@-])(?P<n>\d+(?:[.,_]\d+)*|{'|'.join(_NUMBERS)})\s?(?P<unit>%|px|[kmgt]i?b|ms|s|h|min|percent|[a-z]{{3,}}s|second|minute|hour|day|week|month)(?!\w)"
    r"(?! (?:ago|later|earlier|before|after|in all)\b)"
)
_OTHERS = (
    ("day", re.compile(r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)day(?=s?\b)|(?:星期|周)[一二三四五六日天]")),
    ("clock", re.compile(r"(?<![\d:.-])(?:[01]?\d|2[0-3]):[0-5]\d(?![\d:])")),
    ("style", re.compile(r"\b(?:kebab|snake|camel|pascal|title|lower|upper)[-_ ]?case\b")),
    (
        "language",
        re.compile(
            r"\b(?:english|german|french|spanish|italian|portuguese|dutch|polish|russian|chinese|japanese|korean)\b"
        ),
    ),
    ("channel", re.compile(r"(?<![\w&#/])#[a-z][\w-]+")),
)
_NUMBERED = re.compile(
    r"\b(?:(?P<of>[a-z][\w+-]+) v?(?P<n>\d+(?:\.\d+)+)|(?P<of_one>port|version|level|python|node|java|go|rust|ruby|php|postgres\w*) v?(?P<one>\d+))\b"
)
_COMMAND = re.compile(r"`(?:\$ )?(?P<run>[a-z][\w.-]+(?: [a-z][\w.:-]*)?)(?P<flags>(?: --?[\w-]+(?:[= ][\w./:-]+)?)+)`")
_OF_A_SENTENCE = frozenset({"style", "language", "channel"})
"""Kinds of which a sentence seldom names two."""
_ASKS_LITTLE = frozenset({"day", "clock", "style", "language", "channel"})
"""Kinds of which a matter has one, so that the question need not tell which is meant."""
_NAME = r"(?P<name>`[^`\s]{2,40}`|[A-Za-z][\w+#@/-]*(?:\.\w+)*)"
_GONE = (
    re.compile(
        rf"(?:\b[Tt]he |\b[Oo]ur |^){_NAME} (?:is|are|was|were|has been|have been|went|got) (?:now |all )?(?:gone|deprecated|retired|dropped|dead"
        r"|obsolete|discontinued|switched off|shut down|no longer (?:used|needed|supported|maintained|in use))\b"
    ),
    re.compile(
        r"\b(?:[Dd]ropped|[Rr]etired|[Gg]ot rid of|[Ss]topped using|[Ss]top using|[Nn]o longer use|[Gg][ai]ve up on|[Gg]ave up|[Aa]bandoned) (?:the |our |all )?"
        rf"{_NAME}(?=[.,;!]|$| (?:for|in|and|now|because|since|as)\b)"
    ),
    re.compile(rf"\b(?:has|have|is|are) no {_NAME} left\b"),
    re.compile(rf"\b[Nn]o more {_NAME}(?=[.,;!]|$)"),
    re.compile(rf"^[Nn]ot as an? {_NAME}(?=[.,;!]|$)"),
    re.compile(rf"\b(?:don't|do not|doesn't|nobody) uses? {_NAME} any ?more\b"),
)
"""What is given up, without a word of what stands in its place."""
_OLD, _NEW = (rf"(?P<{name}>`[^`\s]{{2,40}}`|@?[A-Za-z][\w+#@-]*(?:\.\w+)*)" for name in ("old", "new"))
_INSTEAD = (
    re.compile(
        rf"\b(?:switch|mov|migrat|chang)(?:e|ed|es|ing) (?:(?:over|us|everything|it|all of it|the \w+|our \w+) )?from (?:the )?{_OLD} to (?:the )?{_NEW}"
    ),
    re.compile(rf"\b[Rr]eplac(?:e|es|ed|ing) (?:the |our |all )?{_OLD} (?:with|by) (?:the |our )?{_NEW}"),
    re.compile(
        rf"(?:^|\b[Tt]he |\b[Oo]ur ){_OLD} (?:is|was|were|are|has been|have been) replaced (?:with|by) (?:the )?{_NEW}"
    ),
    re.compile(rf"\b(?:[Uu]s(?:e|es|ed|ing)|[Rr]uns?|[Tt]ake) (?:the )?{_NEW} (?:instead|in place) of (?:the )?{_OLD}"),
    re.compile(rf"\b[Ii]nstead of (?:the )?{_OLD},? (?:we |please )?(?:use|run|take) (?:the )?{_NEW}"),
    re.compile(rf"(?:把|从|不再使?用)\s*{_OLD}\s*[,，]?\s*(?:换成|改成|替换[为成]|换到|迁移到|切换到|改用)\s*{_NEW}"),
)
_FILE = re.compile(r"[/\\]|\.(?:[a-z]{1,4}|toml|json\w?)$")
"""What may go on beside what came from it."""
_DULL = frozenset(
    terms(
        "now longer more anymore instead place favor favour make changed change mind switch migrate upgrade rename raise lower bump"
        " increase reduce replace replacement move go new old use used still one thing time way today next week everything please set need want"
    )
)


@dataclass(frozen=True, slots=True)
class Value:
    """One value that a line gives something."""

    kind: str
    value: str
    """As it is compared."""
    sentence: str
    start: int
    end: int
    is_former: bool

    @property
    def text(self) -> str:
        """As it was said."""
        return self.sentence[self.start : self.end]

    @property
    def about(self) -> frozenset[str]:
        """Search terms of what it is the value of."""
        return _around(self.sentence, self.start, self.end, self.kind in _OF_A_SENTENCE)


@dataclass(frozen=True, slots=True)
class GivenUp:
    """What is used no more."""

    name: str
    """Lower-cased, with blanks for joints."""
    is_name: bool
    """It can be nothing but a name."""
    told: tuple[str, str] | None = None
    """It and what stands in its place, as they were said."""


@dataclass(frozen=True, slots=True)
class News:
    """What a line says of a change."""

    values: tuple[Value, ...]
    """That hold by now."""
    settled: frozenset[Value]
    """Of which it is said that they replace the very thing."""
    given_up: tuple["GivenUp", ...]

    def __bool__(self) -> bool:
        return bool(self.values or self.given_up)


def noted(ranked: Sequence[Evidence], query: Query) -> list[Evidence]:
    """Note beside each old value the one that a newer line says holds."""
    told = list(ranked)
    head = [each for each in told[:NUM_LOOKED_AT] if len(each.line.text) <= MAX_chars]
    tellers = [(each, anew) for each in head if each.line.role in _SPEAKERS and (anew := news(each.line.text))]
    if not tellers:
        return told
    tellers.sort(key=lambda each: each[0].age, reverse=True)
    joined = [_joined(each.line.text) for each in head] if any(anew.given_up for _, anew in tellers) else []
    gone = {
        (teller.age, each.name): _resting(each, teller, head, joined, query)
        for teller, anew in tellers
        for each in anew.given_up
    }
    for at, line in enumerate(told[:NUM_LOOKED_AT]):
        if line.replaced is not None or len(line.line.text) > MAX_chars:
            continue
        for teller, anew in tellers:
            if line.age >= teller.age or line.chunk.project != teller.chunk.project:
                continue
            given_up = next(
                (each for each in anew.given_up if (line.chunk.id, line.number) in gone[teller.age, each.name]), None
            )
            pair = given_up.told if given_up is not None else _replaced(line, teller, anew, head, query)
            if given_up is not None or pair is not None:
                told[at] = replace(line, superseded=True, replaced=pair)
                break
    return told


def _resting(
    given_up: GivenUp, teller: Evidence, head: Sequence[Evidence], joined: Sequence[str], query: Query
) -> frozenset[tuple[str, int]]:
    """Chunk and number of the lines that rest on what is given up; of the talk that led there only what was done."""
    name = re.compile(rf"(?<![^\W_]){re.escape(given_up.name)}(?![^\W_])")
    naming = [each for each, text in zip(head, joined, strict=True) if given_up.name in text and name.search(text)]
    is_known = (
        given_up.is_name
        or not query.idf.keys().isdisjoint(terms(given_up.name))
        or any(_is_code(each.line.text, given_up.name) for each in naming)
    )
    if not is_known or any(each.age > teller.age and each.chunk.id != teller.chunk.id for each in naming):
        return frozenset()
    return frozenset(
        (each.chunk.id, each.number)
        for each in naming
        if not each.line.text.startswith("-")
        and (each.chunk.session_id != teller.chunk.session_id or each.line.role in _DONE)
        and (given_up.told is None or given_up.told[1] not in each.line.text)
    )


def _replaced(
    line: Evidence, teller: Evidence, anew: News, head: Sequence[Evidence], query: Query
) -> tuple[str, str] | None:
    """The value of a line that holds no more and the one that holds."""
    fits = query.overlap(teller.terms) >= FITS * query.overlap(line.terms)
    stated = values(line.line.text) if anew.values else ()
    for new in anew.values:
        if not (fits or new.kind in _ASKS_LITTLE) or any(
            each.kind == new.kind and each.value == new.value for each in stated
        ):
            continue
        for old in stated:
            if old.kind != new.kind:
                continue
            is_known = new.kind.startswith("flags") and new in anew.settled
            if (is_known or _is_said_before(line, teller, old) or old.about & new.about) and not any(
                _says_again(each, old) for each in head if each.age > teller.age
            ):
                return old.text, new.text
    return None


def _is_said_before(line: Evidence, teller: Evidence, old: Value) -> bool:
    """Whether a number of something was said just before the same talk came to another number of the same."""
    is_close = line.chunk.thread_id == teller.chunk.thread_id and teller.chunk.ordinal - line.chunk.ordinal <= 1
    return is_close and old.kind.startswith("number") and line.line.role in _SPEAKERS


def _says_again(line: Evidence, old: Value) -> bool:
    return any(
        each.kind == old.kind and each.value == old.value and not each.is_former and each.about & old.about
        for each in values(line.line.text)
    )


_NO_NEWS = News((), frozenset(), ())


@lru_cache(maxsize=20_000)
def news(text: str) -> News:
    """What a line says of a change.

    >>> [each.text for each in news("Understood: file names are kebab-case from now on.").values]
    ['kebab-case']
    >>> [(each.name, each.told) for each in news("The Makefile is gone, we switched from nox to `just`.").given_up]
    [('makefile', None), ('nox', ('nox', 'just'))]
    >>> bool(news("Should file names be kebab-case now?")), bool(news("File names are kebab-case."))
    (False, False)
    """
    if not _may_tell(text.lower()):
        return _NO_NEWS
    found: list[Value] = []
    settled: list[Value] = []
    given_up: list[GivenUp] = []
    for sentence in _SENTENCE.split(text):
        lower = sentence.strip().lower()
        if not _may_tell(lower) or lower.endswith(("?", "？", "吗", "呢")) or _IF.match(lower) is not None:
            continue
        given_up += _no_more(sentence)
        if _CHANGE.search(lower) is None:
            continue
        now = [
            each
            for each in _values_of(sentence)
            if not each.is_former and not _is_doubted(sentence, each.start, each.end)
        ]
        kinds = [each.kind for each in now]
        new = [each for each in now if kinds.count(each.kind) == 1]  # of two nobody knows which is meant
        found += new
        settled += new if _SETTLED.search(lower) is not None else ()
    return News(tuple(found), frozenset(settled), tuple(dict.fromkeys(given_up)))


def _no_more(sentence: str) -> Iterator[GivenUp]:
    for pattern in _GONE:
        for each in pattern.finditer(sentence):
            bare = each["name"].strip("`")
            if len(bare) > 3 and bare.lower() not in _DULL and not _is_doubted(sentence, *each.span()):
                yield GivenUp(_joined(bare), _is_name(each["name"]))
    for pattern in _INSTEAD:
        for each in pattern.finditer(sentence):
            old, new = each["old"].strip("`"), each["new"].strip("`")
            if (
                len(old) > 2
                and old.lower() not in _DULL
                and old != new
                and not _FILE.search(old)
                and not _is_doubted(sentence, *each.span())
            ):
                yield GivenUp(_joined(old), _is_name(each["old"]), (old, new))


def _is_name(said: str) -> bool:
    return said.startswith("`") or re.search(r"\w[._/-]\w|[a-z][A-Z]|\d", said) is not None


@lru_cache(maxsize=20_000)
def values(text: str) -> tuple[Value, ...]:
    """The values of a line.

    >>> [(each.kind, each.value) for each in values("Tried 3 times within 1,500 ms, on Mondays at 05:30.")]
    [('number of time', '3 time'), ('time', '1500 ms'), ('day', 'monday'), ('clock', '05:30')]
    """
    if _MAY_HOLD.search(text) is None:
        return ()
    return tuple(each for sentence in _SENTENCE.split(text) for each in _values_of(sentence))


def _values_of(sentence: str) -> list[Value]:
    lower = sentence.lower()
    if len(lower) != len(sentence):
        return []
    return [
        Value(
            kind,
            value,
            sentence,
            start,
            end,
            _FORMER.search(lower[max(0, start - 30) : start]) is not None
            or lower[end : end + 6].lstrip("`\"' ").startswith(("->", "→")),
        )
        for kind, value, start, end in _found(lower)
    ]


def _found(lower: str) -> Iterator[tuple[str, str, int, int]]:
    for each in _QUANTITY.finditer(lower):
        unit = each["unit"] if each["unit"] in _DIMENSION else each["unit"].removesuffix("s")
        if each["unit"] not in _NO_UNIT:
            number = str(_NUMBERS.index(each["n"]) + 1) if each["n"] in _NUMBERS else re.sub("[,_]", "", each["n"])
            yield _DIMENSION.get(unit, f"number of {unit}"), f"{number} {unit}", each.start(), each.end()
    for kind, pattern in _OTHERS:
        for each in pattern.finditer(lower):
            yield kind, re.sub(r"[-_ ]", "", each[0]), each.start(), each.end()
    for each in _NUMBERED.finditer(lower):
        yield f"number {each['of'] or each['of_one']}", each["n"] or each["one"], each.start(), each.end()
    if "`" in lower:
        for each in _COMMAND.finditer(lower):
            yield f"flags of {each['run']}", each["flags"].strip(), each.start() + 1, each.end() - 1


def _may_tell(lower: str) -> bool:
    """Whether a text may tell of a change: a no is certain."""
    return not lower.isascii() or not _SIGNS.isdisjoint(_WORD.findall(lower)) or "not as a" in lower or "as of" in lower


def _is_doubted(sentence: str, start: int, end: int) -> bool:
    begin, stop = _clause(sentence, start, end)
    return _DOUBT.search(sentence[begin:stop].lower()) is not None


def _clause(sentence: str, start: int, end: int) -> tuple[int, int]:
    begin = max((each.end() for each in _CLAUSE.finditer(sentence, 0, start)), default=0)
    return begin, next((each.start() for each in _CLAUSE.finditer(sentence, end)), len(sentence))


@lru_cache(maxsize=20_000)
def _around(sentence: str, start: int, end: int, is_whole: bool) -> frozenset[str]:
    """Search terms of the clause in which a value stands, of the sentence where that says nothing else."""
    begin, stop = (0, len(sentence)) if is_whole else _clause(sentence, start, end)
    clause = _content(f"{sentence[begin:start]} {sentence[end:stop]}")
    return clause or _content(f"{sentence[:start]} {sentence[end:]}")


def _content(text: str) -> frozenset[str]:
    return frozenset(each for each in terms(text) if each not in _DULL and not each.isdigit() and len(each) > 1)


def _joined(name: str) -> str:
    return name.lower().replace("-", " ").replace("_", " ")


def _is_code(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?:[.(:]\w|`)", text, re.IGNORECASE) is not None
