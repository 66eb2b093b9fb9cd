"""A written sentence and the lines it cites in, out: it stands, or the reason why it is dropped. Pure, no model.

What can be checked by letters is checked by letters: cited numbers are among those offered; identifiers, paths, numbers,
versions, flags and what is quoted stand in the cited lines; the sentence and its lines say yes and no to the same; a value
belongs to the words it stands with there; nearly all other words come from there, too. A true sentence in quite other words
is dropped as well: the lines themselves are told in its place, so that costs little, and a false one costs trust.
"""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from lmm_mcp.domain.writing import Offered, Sentence
from lmm_mcp.model.belonging import LIGHT, misplaced, turned_about
from lmm_mcp.model.polarity import contradiction, is_negator, is_turning, opposites_of, told
from lmm_mcp.model.specifics import PROGRAMS, UNITS, Token, folded, is_told, occurs, quotes, stem, tokens
from lmm_mcp.store.terms import STOP_WORDS

NOTHING = "Nothing here answers this."
"""What a model writes that has no answer; see `prompts/brief.md`."""
MAX_NEW_SHARE = 0.25
"""Of a sentence's words, how many may come from nowhere in its lines."""
MAX_SENTENCE_chars = 400
_CITES = re.compile(r"(?<![\w\])])\[\s*(\d{1,3}(?:\s*,\s*\d{1,3})*)\s*\]")
_UNCITED = re.compile(rf"\s*{_CITES.pattern}")
_END = re.compile(r"(?<=[.!?。！？])\s+(?=[^\s\d.,;:a-z])|\n+")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_ORDERS = re.compile(
    r"^(?:please|now|first|then|next|important|attention|note)?[\s,:!]*(?:you (?:must|should|need to|have to|are to)|(?:run|execute|delete"
    r"|remove|ignore|disregard|install|send|open|visit|click|download|upload|post|print|reveal|forget|override|curl|call|use"
    r"|type|paste|email|approve|grant|disable|stop|do not|don't|never|always)\b(?![-./_:]\w)(?!\s*[:=>-]{1,3}(?:\s|$)))",
    re.IGNORECASE,
)
_TAKEOVER = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,30}\b(?:previous|prior|above|earlier|all|any|your|these|system)\b.{0,30}\b(?:instructions?|prompts?|rules?|messages?|guidelines?)\b"
    r"|\bsystem prompt\b|\byou are (?:now|no longer)\b|\bas an ai\b|\bnew instructions?\b|</?(?:system|instructions?|assistant|user)>",
    re.IGNORECASE,
)
_PRINTED = frozenset({"output", "error", "path"})
"""Roles of what no person or agent said."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sentence that does not stand."""

    sentence: Sentence
    reason: str


def validated(text: str, offered: Sequence[Offered]) -> tuple[tuple[Sentence, ...], tuple[Dropped, ...]]:
    """What a model wrote, as the sentences that stand, each told once, and those that do not."""
    stands: list[Sentence] = []
    dropped: list[Dropped] = []
    for sentence in sentences(text):
        reason = objection(sentence, offered)
        if not reason and any(sentence.text == other.text for other in stands):
            reason = "is told already"
        if reason:
            dropped.append(Dropped(sentence, reason))
        else:
            stands.append(sentence)
    return tuple(stands), tuple(dropped)


def sentences(text: str) -> tuple[Sentence, ...]:
    """Split what was written into sentences with the numbers they cite; `NOTHING` yields none.

    >>> [(each.text, each.cites) for each in sentences("Port is 5433 [1]. See `a.py` [2, 3].")]
    [('Port is 5433.', (1,)), ('See `a.py`.', (2, 3))]
    """
    found = []
    for piece in _pieces(text):
        cites = tuple(dict.fromkeys(int(n) for group in _CITES.findall(piece) for n in group.split(",")))
        said = " ".join(_UNCITED.sub("", _BULLET.sub("", piece)).split())
        if re.search(r"\w", said) and said != NOTHING:
            found.append(Sentence(said, cites))
    return tuple(found)


def _pieces(text: str) -> Iterator[str]:
    """Sentences with their citations, which stand before the full stop or behind it."""
    for line in re.split(r"\n+", text):
        start = 0
        for end in _END.finditer(line):
            if line[end.end() : end.end() + 1] == "[" and _CITES.match(line, end.end()):
                continue
            yield line[start : end.start()]
            start = end.end()
        rest = line[start:]
        # `... is 5433. [1] The next one`: the mark belongs to what stands before it.
        at = 0
        for mark in re.finditer(rf"(?<=[.!?])\s*{_CITES.pattern}\s+(?=\S)", rest):
            yield rest[at : mark.end()]
            at = mark.end()
        if rest[at:].strip():
            yield rest[at:]


def objection(sentence: Sentence, offered: Sequence[Offered]) -> str:
    """Why a sentence does not stand; '' where it does."""
    by_number = {each.number: each for each in offered}
    if not sentence.cites:
        return "cites nothing"
    if unknown := [n for n in sentence.cites if n not in by_number]:
        return f"cites line {unknown[0]}, which was not offered"
    if len(sentence.text) > MAX_SENTENCE_chars:
        return f"is longer than {MAX_SENTENCE_chars} characters"
    lines = [by_number[n] for n in dict.fromkeys(sentence.cites)]
    if _TAKEOVER.search(sentence.text):
        return "speaks to the reader as if it gave orders"
    if all(is_order(sentence.text, line.role) for line in lines):
        return "is an order that only a tool's output gives"
    texts = [folded(f"{line.text}") for line in lines]
    days = " ".join(line.day for line in lines)
    said_text = folded(sentence.text)
    known_text = " \n ".join([*texts, days]).replace("`", "")
    said, known = tokens(said_text), [tokens(text) for text in texts]
    if not any(token.is_value or token.kind == "cjk" or token.text.lower() not in STOP_WORDS for token in said):
        return "says nothing"
    return (
        _unquoted(said_text, known_text, " ".join(texts))
        or _untold(said, known_text, known)
        or contradiction(told(said), [told(each) for each in known])
        or misplaced(said, known)
        or turned_about(said, known)
        or _new_words(said, known, lines)
    )


def is_order(text: str, role: str) -> bool:
    """Whether a text tells its reader what to do, and no person or agent said it."""
    return role in _PRINTED and _ORDERS.match(text) is not None


def adds(sentence: Sentence, offered: Iterable[Offered]) -> bool:
    """Whether a sentence says more than one of the lines that it cites, which are told anyway: none of them has all its words.

    >>> lines = [Offered(1, "", 0, "user", "the port is 5433 now", ""), Offered(2, "", 0, "user", "uv is used", "")]
    >>> adds(Sentence("Now the port is 5433.", (1,)), lines), adds(Sentence("Port is 5433, and uv is used.", (1, 2)), lines)
    (False, True)
    """
    said, *cited = (
        set(re.findall(r"\w+", text.casefold()))
        for text in (sentence.text, *(each.text for each in offered if each.number in sentence.cites))
    )
    return not any(said <= line for line in cited)


def _unquoted(said_text: str, known_text: str, marked_text: str) -> str:
    for quote, is_code in quotes(said_text):
        if occurs(quote, known_text) or f"`{quote}`" in marked_text:
            continue
        if is_code or not occurs(quote.rstrip(".,;:!?").casefold(), known_text.casefold()):
            return f"quotes {quote!r}, which its lines do not say"
    return ""


def _untold(said: Sequence[Token], known_text: str, known: Sequence[Sequence[Token]]) -> str:
    """Values, names and commands that do not stand in the cited lines."""
    words = {token.stem for each in known for token in each}
    follows = {
        (each[n].text.lower(), after.stem) for each in known for n in range(len(each)) for after in each[n + 1 : n + 2]
    }
    counts = {(token.text, after.text) for each in known for token, after in itertools.pairwise(each)}
    for at, token in enumerate(said):
        after = said[at + 1] if at + 1 < len(said) else None
        if token.is_value and not is_told(token, known_text):
            return f"names {token.text!r}, which its lines do not"
        if token.is_capital and token.stem not in words and token.stem not in LIGHT and token.text.isascii():
            return f"names {token.text!r}, which its lines do not"
        is_told_by_another = at > 0 and any(
            each.text.lower() in PROGRAMS for each in said[max(0, at - 2) : at]
        )  # `bundle exec rake`
        if token.kind == "word" and token.text.lower() in PROGRAMS and not is_told_by_another:
            if token.stem not in words:
                return f"names {token.text!r}, which its lines do not"
            is_strange = after is not None and (token.text.lower(), after.stem) not in follows
            if after is not None and is_strange and _is_argument(token, after) and after.stem not in LIGHT:
                return f"says {token.text} {after.text}, which its lines do not"
            strange = [word for word in _told_to(token, said[at + 1 : at + 4]) if not _is_near(word, words)]
            if strange:
                return f"says {token.text} ... {strange[0].text}, which its lines do not"
        if after is not None and after.kind == "unit" and (token.text, after.text) not in counts:
            has_other = any(one == token.text and other in _UNIT_NAMES for one, other in counts)
            if has_other or after.text == "%":
                return f"says {token.text} {after.text}, which its lines do not"
    return ""


def _is_argument(program: Token, after: Token) -> bool:
    """Whether a word may be what a program is told to do."""
    is_beside = after.kind == "word" and after.clause == program.clause and after.text.islower()
    return is_beside and after.text not in STOP_WORDS


def _told_to(program: Token, following: Sequence[Token]) -> Iterator[Token]:
    return itertools.takewhile(lambda word: _is_argument(program, word), following)


def _is_near(word: Token, stems: Collection[str]) -> bool:
    """Whether a word, or another form of it, is among these."""
    heads = (each for each in stems if len(word.stem) >= 5 and each[:5] == word.stem[:5])
    return word.stem in LIGHT or word.stem in stems or next(heads, None) is not None


_UNIT_NAMES = frozenset(UNITS.values())


def _new_words(said: Sequence[Token], known: Sequence[Sequence[Token]], lines: Iterable[Offered]) -> str:
    """Too many words that come from nowhere in the cited lines."""
    stems = {token.stem for each in known for token in each}
    stems |= {stem(word) for line in lines for word in (line.role, *_SAID_AS.get(line.role, ()))}
    exits = {code == "0" for line in lines for code in _EXIT.findall(line.text)}
    stems |= {stem(word) for went_well in exits for word in _ENDED[went_well]}
    heads = {each[:5] for each in stems if len(each) >= 5}
    parts = {part for each in stems if not each.isalpha() for part in _parts(each)}
    weighed = [
        token
        for token in said
        if token.kind in ("word", "cjk") and (token.kind == "cjk" or token.text.lower() not in STOP_WORDS)
    ]
    new = [
        token
        for token in weighed
        if not is_negator(token)
        and token.text != "unless"
        and token.stem not in stems
        and not opposites_of(token.stem) & stems  # judged already
        and token.stem not in LIGHT
        and token.stem not in parts
        and not (len(token.stem) >= 5 and token.stem[:5] in heads)
    ]
    if not new:
        return ""
    if turning := next((token for token in new if is_turning(token.stem)), None):
        return f"says {turning.text!r}, which its lines do not"
    if len(new) > MAX_NEW_SHARE * len(weighed):
        return f"says {', '.join(repr(token.text) for token in new[:3])}, which its lines do not"
    return ""


_EXIT = re.compile(r"\[exit (\d+)")
_ENDED = {True: ("succeeded", "passed", "worked"), False: ("failed", "failure")}
_SAID_AS = {
    "command": ("command", "run", "ran"),
    "output": ("print", "printed", "output"),
    "error": ("error", "fail", "failed"),
    "edit": ("edit", "edited", "change", "changed"),
    "user": ("user", "asked", "said"),
    "agent": ("agent", "said"),
    "note": ("note", "remembered"),
}


def _parts(name: str) -> list[str]:
    """The words inside an identifier or a path."""
    return [stem(each.lower()) for each in re.findall(r"[A-Za-z][a-z]+|[A-Z]+", name)]
