"""Sentences that cannot invent: a grammar for `prompts/brief.md` under which all that tells anything is copied from the lines.

    brief    = sentence, as many as are wanted, each on a line of its own; a line is told once
    sentence = span {join span} citation "."        e.g.  The lamp listens on port 8081, and the old one was closed [2] [5].

A span is a run of words of one line; a sentence copies from two lines at most, and from each sentence of theirs once. Between
spans stand the few words below. The citation is no choice of the model's: it names the lines that were copied from. So a model
decides what is told, how much of it, in which order and when it is enough, and can misspell nothing. What a span leaves out
could turn it round: so what denies or sets a condition is copied to its end or not at all, as are commands, paths and edits;
questions and what is superseded are not copied. Whether a sentence stands `validating.py` says all the same, which knows
nothing of this. `Nothing here answers this.` cannot be said: choosing has decided that before.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

from lmm_mcp.domain.writing import MAX_OFFERED_chars, Offered
from lmm_mcp.model.choosing import Spelling
from lmm_mcp.model.polarity import is_negator
from lmm_mcp.model.specifics import UNITS, folded, tokens
from lmm_mcp.model.validating import is_order, sentences
from lmm_mcp.store.terms import STOP_WORDS

JOINS = (",", ";", " and", ", and")
"""Nothing that says how two spans hang together (`because`, `instead of`, `is`): no line need say so."""
MAX_LINES, MAX_SPANS, MIN_WORDS, MAX_WORDS = 2, 3, 3, 30
"""Of a sentence; `MIN_WORDS` of each span, unless it is a whole sentence of its line."""
TOKENS_PER_SENTENCE = 60
_TURNING = frozenset(
    """if unless only except but instead rather until formerly previously anymore whether would could should might maybe perhaps
    probably possibly seem seems apparently think thinks thought believe believed assume assumed guess guessed suspect suspected
    wrong false incorrect fail fails failed stop stops stopped refuse refuses refused""".split()
)
"""A sentence with one of these is told whole: what stands behind it is not claimed there."""
_WHOLE_ROLES = frozenset({"command", "path", "edit"})
_WORD = re.compile(r"(\s*)([^\s，。；、！？]+[，。；、！？]*|[，。；、！？]+)")
_SENTENCE_END = re.compile(r"[.!?。！？…][\"'`)\]*]*$")
_NOT_COPIED = re.compile(r"\[(?:\d|$)|^\W*…")
"""What would be read as a citation, and where a quote leaves something out."""
_CJK = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯]")
_TRAIL = ".,;:!?…，。；、！？"
_Ids = tuple[int, ...]


@dataclass(frozen=True)
class _Piece:
    """A sentence of a line, as tokens: `full` words go on, `bare` ones (without their comma or full stop) may end a span."""

    line: int
    full: tuple[_Ids, ...]
    bare: tuple[_Ids, ...]
    words: tuple[str, ...]
    cost: tuple[int, ...]
    """Tokens before each word, and of all."""
    sizes: tuple[int, ...]
    """Words before each word, and of all; what is written without blanks counts as several."""
    clauses: tuple[int, ...]
    """Of each word, 0-based."""
    open_marks: tuple[tuple[int, int, int], ...]
    """Quotation marks and brackets that are open before each word, and at the end."""
    orders: frozenset[int]
    """Words with which a tool's output begins to give an order: behind another span nobody would see whose it is."""
    is_whole: bool

    @cached_property
    def begins(self) -> tuple[int, ...]:
        """The words with which a span may begin."""
        return tuple(filter(self.is_begun_at, range(len(self.words))))

    def is_left_at(self, start: int, last: int) -> bool:
        """Whether a span may end with this word."""
        is_word = re.search(r"\w", self.words[last]) is not None
        if not is_word or self.open_marks[start] != self.open_marks[last + 1] or (self.is_whole and start):
            return False
        is_end = last + 1 == len(self.words)
        if is_end and not start:
            return self.sizes[-1] > 1
        if self.clauses[start] != self.clauses[last]:  # clauses are copied whole, or a part of one
            is_cut = not is_end and self.clauses[last + 1] == self.clauses[last]
            if is_cut or (start and self.clauses[start - 1] == self.clauses[start]):
                return False
        if self.sizes[last + 1] - self.sizes[start] < MIN_WORDS:
            return False
        is_light = self.words[last].lower() in STOP_WORDS and not self._is_one(last - 1)  # `s` is a unit behind `30`
        return is_end or not (self.is_whole or is_light or self._is_one(last))

    def is_begun_at(self, start: int) -> bool:
        """Whether a span may begin with this word."""
        if start in self.orders:
            return False
        if not start:
            return True
        word = self.words[start]
        is_word = re.match(r"[\"'`(*]*\w|[-/.~@$]+\w", word) is not None and word.lower() not in STOP_WORDS
        return is_word and not self.is_whole and not self._is_one(start - 1)

    def _is_one(self, at: int) -> bool:
        """Whether a word and the next tell one thing: `30 s`, `3 May`."""
        word, other = self.words[at], self.words[at + 1].rstrip(_TRAIL)
        return word[-1].isdigit() and (other.lower() in UNITS or other[:1].isupper())

    def next_left(self, start: int, at: int) -> int | None:
        """The first word from here on with which a span may end."""
        return next((last for last in range(at, len(self.words)) if self.is_left_at(start, last)), None)


@dataclass(frozen=True, slots=True)
class _State:
    """Where a brief stands between two words."""

    told: frozenset[int] = frozenset()
    """Lines that earlier sentences copied from."""
    num_sentences: int = 0
    copied: tuple[tuple[int, int], ...] = ()
    """The lines of this sentence, each with the last piece that was copied from."""
    span: tuple[int, int, int] | None = None
    """Piece, first and last word of the span that is open."""
    is_bare: bool = False
    num_spans: int = 0
    num_words: int = 0
    num_tokens: int = 0


class Copying:
    """The grammar over these lines, spelled by one tokenizer. `end`: the token that ends an answer; `most`: sentences."""

    def __init__(self, offered: Sequence[Offered], spell: Spelling, end: int, *, most: int) -> None:
        self._spell, self._end, self._most = spell, end, most
        self._known: dict[str, _Ids] = {}
        self._pieces = [piece for each in offered if not each.superseded for piece in self._pieces_of(each)]
        marks = max((len(self._after(f" [{each.number}]")) for each in offered), default=0)
        self._max_tokens = TOKENS_PER_SENTENCE - MAX_LINES * marks - len(self._after("."))
        self._said: _Ids = ()
        self._open = self._options(_State())

    def allowed(self, said: Sequence[int]) -> tuple[int, ...]:
        """See `Constraint`. Cheap where one token more was said than the last time."""
        said = tuple(said)
        if said[: len(self._said)] != self._said:
            self._said, self._open = (), self._options(_State())
        for token in said[len(self._said) :]:
            self._advance(token)
        self._said = said
        return tuple(dict.fromkeys(ids[0] for ids, _ in self._open))

    def _advance(self, token: int) -> None:
        going: dict[tuple[_Ids, _State], None] = {}
        for ids, after in self._open:
            if ids[0] == token:
                going |= dict.fromkeys([(ids[1:], after)] if len(ids) > 1 else self._options(after))
        self._open = list(going)

    def _options(self, now: _State) -> list[tuple[_Ids, _State]]:
        """What may come next: tokens, and the state behind them."""
        if now.span is None and now.num_words:  # behind a join
            return list(self._begun(now))
        if now.span is None:
            begun = list(self._begun(now)) if now.num_sentences < self._most else []
            return begun or [((self._end,), now)]
        number, start, last = now.span
        piece, found = self._pieces[number], list[tuple[_Ids, _State]]()
        if not now.is_bare and last + 1 < len(piece.words):
            found += self._copied(now, number, start, last + 1)
        if piece.is_left_at(start, last) and (now.is_bare or piece.bare[last] == piece.full[last]):
            lines = [line for line, _ in now.copied]
            mark = "".join(f" [{line}]" for line in lines) + "."
            told = _State(now.told.union(lines), now.num_sentences + 1)
            found.append((self._after(mark), replace(told, num_sentences=self._most)))
            if told.num_sentences < self._most and next(self._begun(told), None) is not None:
                found.append((self._after(f"{mark}\n"), told))
            if now.num_spans < MAX_SPANS:
                found += self._joined(now)
        return found

    def _joined(self, now: _State) -> Iterator[tuple[_Ids, _State]]:
        for word in JOINS:
            ids = self._after(word)
            after = replace(now, span=None, num_words=now.num_words + 1, num_tokens=now.num_tokens + len(ids))
            if next(self._begun(after), None) is not None:
                yield ids, after

    def _begun(self, now: _State) -> Iterator[tuple[_Ids, _State]]:
        """Spans that may begin now."""
        upto = dict(now.copied)
        for number, piece in enumerate(self._pieces):
            is_new = piece.line not in upto
            if piece.line in now.told or number <= upto.get(piece.line, -1) or (is_new and len(upto) == MAX_LINES):
                continue
            opened = replace(now, num_spans=now.num_spans + 1)
            for start in piece.begins:
                yield from self._copied(opened, number, start, start)

    def _copied(self, now: _State, number: int, start: int, at: int) -> Iterator[tuple[_Ids, _State]]:
        """One word more of a span, as long as the span can still be brought to an end."""
        piece = self._pieces[number]
        full, bare = piece.full[at], piece.bare[at]
        ways = []
        if self._fits(now, piece, start, at, at if full == bare else at + 1):
            ways.append((False, full))
        if full != bare and piece.is_left_at(start, at) and self._fits(now, piece, start, at, at):
            ways.append((True, bare))
        for is_bare, ids in ways:
            if not now.num_words:
                ids = self._opened(piece.words[at].rstrip(_TRAIL) if is_bare else piece.words[at], now)
            yield (
                ids,
                replace(
                    now,
                    copied=(*(each for each in now.copied if each[0] != piece.line), (piece.line, number)),
                    span=(number, start, at),
                    is_bare=is_bare,
                    num_words=now.num_words + piece.sizes[at + 1] - piece.sizes[at],
                    num_tokens=now.num_tokens + len(ids),
                ),
            )

    def _fits(self, now: _State, piece: _Piece, start: int, at: int, until: int) -> bool:
        """Whether a span that goes on with this word can end with that one or a later one, and the sentence is not too long."""
        last = piece.next_left(start, until)
        if last is None:
            return False
        num_tokens = now.num_tokens + piece.cost[last + 1] - piece.cost[at]
        return num_tokens <= self._max_tokens and now.num_words + piece.sizes[last + 1] - piece.sizes[at] <= MAX_WORDS

    def _opened(self, word: str, now: _State) -> _Ids:
        """A word that opens a sentence: the first of the answer, or of a new line."""
        return self._after(word, ".\n") if now.num_sentences else self._spelled(word)

    def _after(self, text: str, before: str = "x") -> _Ids:
        """Text as it is spelled behind other text."""
        first, both = self._spelled(before), self._spelled(f"{before}{text}")
        return both[len(first) :] if both[: len(first)] == first else self._spelled(text)

    def _spelled(self, text: str) -> _Ids:
        if text not in self._known:
            self._known[text] = tuple(self._spell(text))
        return self._known[text]

    def _pieces_of(self, offered: Offered) -> Iterator[_Piece]:
        """The sentences of a line that may be copied."""
        found = list(_WORD.finditer(offered.text))
        if len(offered.text) >= MAX_OFFERED_chars:
            found = found[:-1]  # cut, and it may be in the middle of a word
        sentence: list[tuple[str, str]] = []
        is_whole = offered.role in _WHOLE_ROLES
        for each in [*found, None]:
            blank, word = each.groups() if each is not None else ("", "")
            is_broken = each is None or _NOT_COPIED.search(word) is not None
            is_cut = word.endswith("…") or (is_broken and len(offered.text) >= MAX_OFFERED_chars)
            if not is_broken:
                sentence.append((" " if blank or not sentence else "", word))
            if sentence and (is_broken or (_SENTENCE_END.search(word) and not is_whole)):
                piece = self._piece(offered, sentence, is_whole)
                is_question = _SENTENCE_END.search(piece.words[-1]) and re.search("[?？]", piece.words[-1])
                is_one = len(sentences("".join(blank + word for blank, word in sentence).rstrip(_TRAIL) + " [1].")) == 1
                if is_one and not is_question and not (is_cut and piece.is_whole):
                    yield piece
                sentence = []

    def _piece(self, offered: Offered, sentence: Sequence[tuple[str, str]], is_whole: bool) -> _Piece:
        words = tuple(word for _, word in sentence)
        said = tokens(folded("".join(blank + word for blank, word in sentence)))
        is_turned = any(is_negator(each) or each.text.lower() in _TURNING for each in said)
        full = tuple(self._after(blank + word) for blank, word in sentence)
        bare = tuple(self._after(blank + (word.rstrip(_TRAIL) or word)) for blank, word in sentence)
        sizes = [MIN_WORDS if _CJK.search(word) else 1 for word in words]
        breaks = [word.endswith((",", ";", ":", ")", "，", "；")) or word in ("-", "—", "–") for word in words]
        marks = [(word.count("`") % 2, word.count('"') % 2, word.count("(") - word.count(")")) for word in words]
        opened = accumulate(marks, lambda a, b: (a[0] ^ b[0], a[1] ^ b[1], a[2] + b[2]), initial=(0, 0, 0))
        return _Piece(
            line=offered.number,
            full=full,
            bare=bare,
            words=words,
            cost=tuple(accumulate(map(len, full), initial=0)),
            sizes=tuple(accumulate(sizes, initial=0)),
            clauses=tuple(accumulate(breaks[:-1], initial=0)),
            open_marks=tuple(opened),
            orders=frozenset(n for n in range(len(words)) if is_order(" ".join(words[n:]), offered.role)),
            is_whole=is_whole or is_turned,
        )
