"""A question in, search terms out: what the lexical side looks for, and how much each term says."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.recall import signatures, when
from lmm_mcp.recall.when import Period
from lmm_mcp.store.frequencies import Frequencies
from lmm_mcp.store.terms import terms

_APART = re.compile(r"[\s`'\"()\[\]{}<>,;|]+")
_PATH = re.compile(r"[\w.@~+/\\-]*\w/?")
_LINE = re.compile(r":\d+(?::\d+)?$")
_MAX_PATH_chars = 300
_ENDINGS = frozenset(
    """c cc cpp cs css dart ex exs go h hpp html java js json jsx kt kts lua md mjs cjs mts cts php proto py pyi rb rs scala scss sh
    sql svelte swift tf toml ts tsx vue yaml yml""".split()
)
"""Of the names of source and text files."""
_ABOUT_FILES = frozenset(
    terms(
        "know touch edit change modify open read see work history happen file folder module code tell everything need want"
    )
)
"""Words with which people ask about a file without saying what about it."""
_ABOUT_TIMES = frozenset(
    terms("work change happen make start finish session discuss talk decide progress status 做 干 工作 进展 发生 决定")
)
"""Words with which people ask about a time without saying what about it."""
_WRONG = frozenset(
    terms(
        "fail failed failing failure wrong break broke broken error crash crashed exception problem bug trouble"
        " 失 败 错 故 障 问 题 崩 溃 坏"
    )
)
"""Words with which people ask what went wrong without saying what; Chinese ones by their characters."""
_ABOUT_FAILURES = (
    _WRONG
    | _ABOUT_TIMES
    | frozenset(
        terms(
            "go went run ran hit meet met see saw get got encounter occur still list show tell anything everything thing"
            " command test build 出 现 报 误 遇 到 碰 有 过 几 次 命 令 测 试"
        )
    )
)
"""Words that may stand beside them."""
SAME_QUESTION = 0.7
"""Share of a question's information that a text without a word of its own must repeat to be that question again."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question as the stations of recall see it."""

    text: str
    idf: Mapping[str, float]
    """Each distinct term of the question, in order, with its inverse document frequency in nats; more = rarer."""

    paths: tuple[str, ...] = ()
    """Files and folders that the question names, lower-cased."""
    asks_of_files: bool = False
    """It names files and hardly anything else: what happened to them is wanted, not where they are named."""
    failures: tuple[str, ...] = ()
    """Signatures of the errors that it holds, as programs print them."""
    periods: tuple[Period, ...] = ()
    """The times that the question names."""
    asks_of_times: bool = False
    """It names times and hardly anything else: what happened then is wanted."""
    asks_of_failures: bool = False
    """It asks what went wrong in the times that it names, and hardly anything else."""

    @property
    def terms(self) -> tuple[str, ...]:
        """The distinct terms in the order of the question."""
        return tuple(self.idf)

    def lacking(self, without: Collection[str]) -> "Query":
        """The same as understood without these parts of recall (`domain.recall.PARTS`).

        >>> query = understand("what happened in src/cart.py on 2026-02-16?", Frequencies.none())
        >>> less = query.lacking({"files", "times"})
        >>> (len(query.paths), len(query.periods)), (len(less.paths), len(less.periods))
        ((1, 1), (0, 0))
        """
        found = self
        if "files" in without:
            found = replace(found, paths=(), asks_of_files=False)
        if "times" in without:
            found = replace(found, periods=(), asks_of_times=False, asks_of_failures=False)
        return replace(found, failures=()) if "errors" in without else found

    def sift(self) -> Callable[[str], bool]:
        """Make a quick test for whether a text may hold any of the terms: a no is certain, a yes is not.

        Analysing a line costs ten times as much as this, and most lines hold none of them.

        >>> may_hold = understand("trying queries", Frequencies.none()).sift()
        >>> may_hold("Try it"), may_hold("one QUERY"), may_hold("nothing of the kind")
        (True, True, False)
        """
        # A stem differs from the word in its last letter at most (query, queri), so the rest of it stands in the text.
        beginnings = {re.escape(term[: max(2, len(term) - 1)]) for term in self.idf}
        if not beginnings:
            return lambda _: False
        found = re.compile("|".join(sorted(beginnings))).search
        return lambda text: not text.isascii() or found(text.lower()) is not None

    def is_asked_by(self, found: frozenset[str]) -> bool:
        """Whether a text of these terms asks the same and says no more: to quote it would answer a question with itself.

        Sessions are read while they go on, so what was asked just now is the best match of all.

        >>> query = understand("which port does the dev server use?", Frequencies.none())
        >>> [query.is_asked_by(frozenset(terms(text))) for text in ("the dev server uses which port", "dev server port 8080", "port")]
        [True, False, False]
        """
        return bool(found) and found <= self.idf.keys() and self.overlap(found) >= SAME_QUESTION

    def overlap(self, found: frozenset[str]) -> float:
        """Share of the question's information that `found` repeats, 0 to 1."""
        if not found:  # most lines hold none of the terms
            return 0.0
        return sum(idf for term, idf in self.idf.items() if term in found) / self.information

    def best_overlap(self, passages: Iterable[Iterable[str]]) -> float:
        """The largest overlap with the texts of one passage together; 0 without passages.

        >>> query = understand("port of the server", Frequencies.none())
        >>> query.best_overlap([["the port", "is 8080"], ["nothing"], ["a server", "has a port"]])
        1.0
        """
        may_hold = self.sift()
        held = ([terms(text) for text in texts if may_hold(text)] for texts in passages)
        return max((self.overlap(frozenset(chain.from_iterable(each))) for each in held), default=0.0)

    @property
    def information(self) -> float:
        """What all terms say together, in nats; never 0."""
        return sum(self.idf.values()) or 1.0

    def touches(self, files: Iterable[str]) -> bool:
        """Whether one of `files` is one that the question names, by its whole path or by the end of it.

        >>> query = understand("what should I know before I touch src/cart.py?", Frequencies.none())
        >>> query.touches(["/home/ann/shop/src/cart.py"]), query.touches(["src/cart.pyi", "cart.py"])
        (True, False)
        """
        return bool(self.paths) and any(
            f"/{file.lower().lstrip('/')}".endswith(f"/{path}") for file in files for path in self.paths
        )

    def nearness(self, chunk: Chunk) -> float:
        """How near a passage lies to the times that the question names, 0 to 1."""
        return max((each.nearness(chunk.first_ms, chunk.last_ms) for each in self.periods), default=0.0)


def understand(text: str, frequencies: Frequencies, asked_ms: int | None = None) -> Query:
    """Analyse a question. `asked_ms`: when it is asked; without it no time such as "last week" is understood.

    >>> understand("Which port does the dev server use?", Frequencies.none()).terms
    ('port', 'dev', 'server', 'use')
    >>> understand("what should I know before I touch src/cart.py?", Frequencies.none()).asks_of_files
    True
    """
    periods = when.periods(text, asked_ms)
    said = when.without(text, [each for each in periods if each.is_relative])
    distinct: Sequence[str] = tuple(dict.fromkeys(terms(said)))
    beside = set(terms(when.without(text, periods))) if periods else set[str]()
    words = [(word, _path_in(word)) for word in _APART.split(text)]
    paths = tuple(dict.fromkeys(path for _, path in words if path))
    others = [term for word, path in words if not path for term in terms(word) if term not in _ABOUT_FILES]
    are_files = bool(paths) and all("." in path.rpartition("/")[2] or path.count("/") > 1 for path in paths)
    return Query(
        text=text,
        idf=frequencies.idf(distinct),
        paths=paths,
        asks_of_files=are_files and not others,
        failures=signatures.signatures(text) if signatures.is_failure(text) else (),
        periods=periods,
        asks_of_times=bool(periods) and not beside - _ABOUT_TIMES,
        asks_of_failures=bool(beside & _WRONG) and not _without_pairs(beside) - _ABOUT_FAILURES,
    )


def _without_pairs(found: Iterable[str]) -> set[str]:
    """Terms without the pairs of Chinese characters, which join what are two words; the characters are terms by themselves."""
    return {each for each in found if len(each) != 2 or each.isascii()}


def _path_in(word: str) -> str:
    """The path that a word is, lower-cased and without what leads to its place; '' where it is none.

    >>> [_path_in(word) for word in ("./src/Cart.py:142", "cart.py?", "docs/", "v1.2", "e.g.", "a/b")]
    ['src/cart.py', 'cart.py', '', '', '', 'a/b']
    """
    path = _LINE.sub("", word.rstrip("?!.:…")).lower()
    if not 2 < len(path) <= _MAX_PATH_chars or not _PATH.fullmatch(path):
        return ""
    path = path.replace("\\", "/").removeprefix("./").lstrip("/")
    folder, _, name = path.rpartition("/")
    stem, _, ending = name.rpartition(".")
    is_file = bool(stem) and ending in _ENDINGS
    return path if (folder and name) or is_file else ""
