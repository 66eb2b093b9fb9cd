"""What a caller asks and what it gets: `Brief` or `NothingFound`, nothing in between."""

from collections.abc import Mapping
from dataclasses import dataclass

from lmm_mcp.domain.chunk import ChunkId

DEFAULT_BUDGET_tokens = 1000
MIN_BUDGET_tokens = 50
MAX_BUDGET_tokens = 20_000
CHARS_PER_TOKEN = 4
"""A token is counted as four characters, rounded up, so that no tokenizer is needed and everybody counts alike."""

PARTS: Mapping[str, str] = {
    "words": "search by the words of the question",
    "vectors": "search by the meaning of the question",
    "windows": "the meaning of a few lines at a time, beside that of the whole passage",
    "hubs": "what is near to all that was found counts as less near",
    "share": "words count no more than the best passage by words repeats of the question",
    "asked": "what only asks the same is no answer",
    "passages": "a line gains from how well its passage fits",
    "neighbours": "a line gains from the words of those beside it",
    "sessions": "a line gains from how well its whole session fits",
    "files": "passages that touched the files asked about gain",
    "names": "passages of the agent or the project that is named gain",
    "errors": "an error that was met before is told with what mended it",
    "times": "passages of the times that are named gain",
    "roles": "what was said or typed weighs more than what was printed",
    "supersession": "newer values first, older ones marked",
    "changes": "what is known to have been replaced is told with what holds now",
    "duplicates": "what is told twice is told once",
    "excerpts": "of a long line the part that repeats the question's words",
    "labels": "a quoted line names its file, its command or its column heads",
    "reranker": "lines in the order that was learnt from your sessions, where that was found to be of use",
    "confidence": "silence where nothing fits",
    "weak": "a line that fits far worse than the best one is not told",
    "model": "lines that the trained memory model chooses first, and what it writes",
    "cards": "what the memory model wrote about a project, a file or an error while nobody asked",
}
"""Parts of recall that can be left out, one by one, to see what each is worth."""


def num_tokens(text: str) -> int:
    """Tokens of `text` as budgets count them.

    >>> num_tokens("12345")
    2
    """
    return -(-len(text) // CHARS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Question:
    """One recall request, already checked."""

    text: str
    project: str | None = None
    """Project key to stay within; None asks all projects."""
    since_ms: int | None = None
    until_ms: int | None = None
    """Nothing later than this (inclusive) may be used."""
    agent: str | None = None
    budget_tokens: int = DEFAULT_BUDGET_tokens
    now_ms: int | None = None
    """When it is asked, for words such as "last week"; None: not known."""

    @property
    def asked_ms(self) -> int | None:
        """As of when the question is meant: a question about the past is asked in that past."""
        return self.now_ms if self.until_ms is None else self.until_ms


@dataclass(frozen=True, slots=True)
class Citation:
    """Where one mark of a brief, such as `[c1]`, comes from."""

    mark: str
    """`c1`, `c2`, ... in order of first appearance in the text."""
    chunk_id: ChunkId
    session_id: str
    agent: str
    project: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Brief:
    """Evidence for the asker, fenced as reference data, within the budget."""

    text: str
    citations: tuple[Citation, ...]
    notes: tuple[str, ...] = ()
    """What the caller should know about how this came to be (lexical only, import still running, ...)."""

    @property
    def sessions(self) -> tuple[str, ...]:
        """Session ids in the order of their first citation, each once."""
        return tuple(dict.fromkeys(citation.session_id for citation in self.citations))


@dataclass(frozen=True, slots=True)
class NothingFound:
    """Nothing relevant is known; one line says so."""

    text: str
    num_searched: int
    """Chunks that were within scope."""
    notes: tuple[str, ...] = ()


Recall = Brief | NothingFound
