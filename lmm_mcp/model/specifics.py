"""Text as the validator reads it: tokens, and which of them must be repeated to the letter. Pure.

What is harmless is folded on both sides: quotation marks and dashes, bold type, thousands separators, number words, the blank
between a number and its unit, the `v` of a version. Identifiers, paths and values are never folded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from lmm_mcp.store import terms

_SIGNS = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "‐": "-", "‑": "-"})
_SIGNS |= str.maketrans(
    {"–": "-", "—": " - ", "\u00a0": " ", "\u202f": " ", "…": " ", "，": ", ", "。": ". ", "；": "; "}
)
_SIGNS |= str.maketrans({"：": ": ", "（": " (", "）": ") ", "、": ", ", "！": "! ", "？": "? ", "→": " -> "})
_NUMBER_WORDS = dict(
    zip(
        "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty".split(),
        map(str, (*range(2, 13), 15, 20, 30, 40, 50)),
        strict=True,
    )
)
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(_NUMBER_WORDS)})\b(?![-_./])", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_VERSION = re.compile(r"(?<![\w.-])v(?=\d+\.\d)")
UNITS = {
    **dict.fromkeys("ms msec milliseconds millisecond".split(), "ms"),
    **dict.fromkeys("s sec secs second seconds".split(), "s"),
    **dict.fromkeys("min mins minute minutes".split(), "min"),
    **dict.fromkeys("h hr hrs hour hours".split(), "h"),
    **dict.fromkeys("day days".split(), "days"),
    **dict.fromkeys("week weeks".split(), "weeks"),
    **dict.fromkeys("month months".split(), "months"),
    **dict.fromkeys("year years".split(), "years"),
    **dict.fromkeys("kb kib kilobytes".split(), "kb"),
    **dict.fromkeys("mb mib megabytes".split(), "mb"),
    **dict.fromkeys("gb gib gigabytes".split(), "gb"),
    **dict.fromkeys("% percent".split(), "%"),
    "px": "px",
}
_WITH_UNIT = re.compile(
    rf"(?<![\w.-])(\d+(?:\.\d+)?)[ -]?({'|'.join(sorted(UNITS, key=len, reverse=True))})(?!\w)", re.IGNORECASE
)
_SPAN = re.compile(r"`([^`]+)`|\"([^\"]{2,}?)\"|(?:(?<=\s)|^|(?<=\())'([^']{2,}?)'(?=[\s.,;:!?)]|$)")
_CJK = "぀-ヿ㐀-䶿一-鿿가-힯"
_PIECE = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_TRIM_LEFT, _TRIM_RIGHT = "\"'([{<!?,;:*", "\"')]}>.,;:!?*"
_BREAKS = frozenset(",;:.!?()")
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?\Z")
_JOINS_CLAUSES = frozenset("because but while whereas although so".split())
_IS_NUMBER = re.compile(r"[-+~$€#<>=]*\d[\d.:,]*\Z")
_HUMPS = re.compile(r"[a-z][A-Z]|[A-Z]{2,}[a-z]")
_HYPHENATED = re.compile(r"[A-Za-z]+(?:'s)?(?:-[A-Za-z]+)+\Z")
_NO_NAMES = frozenset("e.g i.e etc and/or a.m p.m vs ok n/a - -- -> => + = & / | *".split())
PROGRAMS = frozenset(
    """alembic ansible apt aws bash brew bun bundle cargo cmake composer conda curl deno docker dotnet eslint flyctl gcloud gh git
    go gradle grep helm jest just kubectl make mvn mypy node nox npm npx php pip pipx pnpm podman poetry prettier psql pytest
    python python3 rails rake rsync ruff rustup scp sed ssh sudo systemctl tar terraform tox tsc uv uvx vite vitest wget yarn""".split()
)
"""What they are told to do must follow them as it does in the evidence."""


_FORMS = {
    form: forms.split()[0]
    for forms in """begin began begun|break broke broken|bring brought|build built|buy bought|catch caught|choose chose chosen|draw drew drawn
    drive drove driven|fall fell fallen|find found|forget forgot forgotten|freeze froze frozen|give gave given|go went gone|grow grew grown
    hang hung|hide hid hidden|hold held|keep kept|know knew known|lead led|leave left|lose lost|make made|mean meant|pay paid
    rebuild rebuilt|rewrite rewrote rewritten|rise rose risen|run ran|say said|see saw seen|sell sold|send sent|shrink shrank shrunk
    speak spoke spoken|spend spent|stand stood|stick stuck|take took taken|tell told|think thought|throw threw thrown
    understand understood|win won|write wrote written""".replace("\n", "|").split("|")
    for form in forms.split()
}


def stem(word: str) -> str:
    """A lower-case word without its ending; of irregular verbs the plain form.

    >>> stem("rebuilt"), stem("failed")
    ('rebuild', 'fail')
    """
    return terms.stem(_FORMS.get(word, word))


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number or name."""

    text: str
    stem: str
    """Lower case, without its ending; of names and numbers that are no capitals the text itself."""
    kind: str
    """`word`, `number`, `unit`, `name` (identifier, path, flag, host, version), `cjk` (one character)."""
    clause: int
    """0-based: words beyond a comma, a colon or a full stop are of another one."""
    is_capital: bool = False
    """A capitalised word that does not open a sentence."""

    @property
    def is_value(self) -> bool:
        """Whether it must be repeated to the letter."""
        return self.kind in ("number", "name")


def folded(text: str) -> str:
    """Fold what is harmless.

    >>> folded("Wait **1,500ms**, then thirty seconds, with v3.11")
    'Wait 1500 ms, then 30 s, with 3.11'
    """
    flat = " ".join(text.translate(_SIGNS).replace("**", "").replace("!=", " not = ").split())
    flat = _NUMBER_WORD.sub(lambda word: _NUMBER_WORDS[word.group().lower()], _THOUSANDS.sub("", flat))
    flat = _VERSION.sub("", flat.replace("per cent", "percent"))
    return _WITH_UNIT.sub(lambda found: f"{found[1]} {UNITS[found[2].lower()]}", flat)


def quotes(text: str) -> Iterator[tuple[str, bool]]:
    """What stands between marks of quotation in folded text, and whether it is code."""
    for found in _SPAN.finditer(text):
        yield next(filter(None, found.groups())).strip(), found[1] is not None


@lru_cache(maxsize=512)
def tokens(text: str) -> tuple[Token, ...]:
    """Folded text as tokens, marks of code left out.

    >>> [(t.text, t.kind) for t in tokens("Run `pytest -q` on port 5433.")]
    [('Run', 'word'), ('pytest', 'word'), ('-q', 'name'), ('on', 'word'), ('port', 'word'), ('5433', 'number')]
    """
    found: list[Token] = []
    clause, opens = 0, True
    for match in _PIECE.finditer(text.replace("`", "")):
        piece = match.group()
        left = piece.lstrip(_TRIM_LEFT)
        core = left.rstrip(_TRIM_RIGHT)
        if any(sign in _BREAKS for sign in piece[: len(piece) - len(left)]):
            clause += 1
        if core.lower() in _JOINS_CLAUSES:
            clause += 1
        if core:
            found += _tokens_of(core, clause, opens, after=found[-1] if found else None)
            opens = False
        trail = left[len(core) :]
        if any(sign in _BREAKS for sign in trail) or core in ("-", "->"):
            clause += 1
            opens = opens or any(sign in ".!?:" for sign in trail) or core == "-"
    return tuple(found)


def _tokens_of(core: str, clause: int, opens: bool, after: Token | None) -> list[Token]:
    if re.match(rf"[{_CJK}]", core):
        return [Token(core, core, "cjk", clause)]
    low = core.lower()
    if low in _NO_NAMES:
        return []
    if after is not None and after.kind == "number" and UNITS.get(low) == low:
        return [Token(low, low, "unit", clause)]
    if _WORD.match(core) and not _HUMPS.search(core):
        if core.isupper() and len(core) > 1:
            return [Token(core, stem(low), "name", clause)]
        plain = low.removesuffix("'s")
        return [Token(core, stem(plain), "word", clause, is_capital=core[0].isupper() and not opens)]
    if _HYPHENATED.match(core) and core[1:].islower():  # `re-run` and `lmm-mcp` look alike: its parts, in their order
        return [Token(part, stem(part), "word", clause) for part in low.split("-")]
    kind = "number" if _IS_NUMBER.match(core) else "name"
    return [Token(core, core, kind, clause)]


def occurs(value: str, text: str) -> bool:
    """Whether a value stands in folded text as a whole: neither part of a longer one nor the head of a path.

    >>> occurs("543", "port 5433"), occurs("ledger.py", "see src/ledger.py"), occurs("src", "see src/ledger.py")
    (False, True, False)
    """
    return _finder(value).search(text) is not None


@lru_cache(maxsize=2048)
def _finder(value: str) -> re.Pattern[str]:
    letter = rf"[^\W{_CJK}]"  # Chinese is written without blanks: `改成5433了` has a number and words beside it
    left = rf"(?<!{letter})" if value[0] in "-./~@$" else rf"(?<!{letter})(?<![.-])"
    if value[:1].isdigit():
        left = rf"(?<!{letter})(?<!\.)(?<!{letter}-)"
    after = rf"(?![-./@]{letter})(?!:[A-Za-z_])" if not value[-1:].isdigit() else rf"(?![-./:]{letter})(?!,\d)"
    right = rf"(?!{letter}){after}"
    return re.compile(left + re.escape(value) + right)


def is_told(token: Token, text: str) -> bool:
    """Whether a value stands in folded text: to the letter, save that a name may be capitalised where the text does not."""
    if occurs(token.text, text):
        return True
    if token.kind == "number":
        bare = token.text.lstrip("~#+<>=")
        return bare != token.text and bool(bare) and occurs(bare, text)
    if not token.text.isalpha():
        return False
    if token.text.isupper():  # SQL and sql, CI and Ci
        return re.search(rf"(?<!\w){re.escape(token.text)}(?!\w)", text, re.IGNORECASE) is not None
    return token.text[0].isupper() and occurs(token.text.lower(), text)
