"""The passages of a time in, what failed then out, newest first: for who asks "what went wrong last week?".

Such a question has no word to search by. Told are commands that failed, each with its error and with whether it was mended since,
as far as `fixes.py` can see that, and errors that people pasted. Pure.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.recall import fixes
from lmm_mcp.recall.evidence import MAX_LINE_chars, MIN_LINE_chars, quoted
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.labels import label
from lmm_mcp.recall.signatures import is_failure, signature

MAX_TOLD = 20
"""Of one time, the newest ones."""
MENDED = "mended since"
NOT_MENDED = "not seen mended"
_PASTED = re.compile(
    r"\s*(?:E\s{2,})?(?:[A-Za-z_][\w.]*(?:Error|Exception)\b|(?:[Ee]rror|ERROR|fatal|panic)(?:\[\w+\])?: )"
)
"""How an error begins that a person hands on; elsewhere in a line of theirs such a word is about one."""
_PRINTED = ("output", "error")


@dataclass(frozen=True, slots=True)
class Failed:
    """One thing that went wrong: a command with its error, or an error that somebody pasted."""

    chunk: Chunk
    command: int | None
    """Number of its line within the chunk; None where a person pasted the error."""
    error: int | None
    """Number of the line that says what was wrong; None where nothing does."""

    @property
    def head(self) -> str:
        """What the command is about, '' for none."""
        return "" if self.command is None else fixes.head_of_failed(self.chunk.lines[self.command])

    @property
    def signature(self) -> str:
        """Of the error, '' where it says nothing of its own."""
        return "" if self.error is None else signature(self.chunk.lines[self.error].text)


def listed(chunks: Sequence[Chunk], following: Callable[[Chunk], Sequence[Chunk]]) -> list[Evidence]:
    """What failed in these passages, newest first, the same failure of a session once.

    `following`: the next passages of a passage's thread, for what was not mended within `chunks`.
    """
    newest: dict[tuple[str, ...], Failed] = {}
    for chunk in sorted(chunks, key=lambda each: (-each.last_ms, each.agent, each.thread_id, -each.ordinal)):
        for each in reversed(list(_failed_in(chunk))):
            newest.setdefault((chunk.agent, chunk.thread_id, each.head, each.signature), each)
    told: list[Evidence] = []
    for each in list(newest.values())[:MAX_TOLD]:
        if each.command is not None:
            later = [other for other in chunks if _is_after(other, each.chunk)]
            later.sort(key=lambda other: other.ordinal)
            is_mended = _succeeded(each, later) or _succeeded(each, following(each.chunk))
            told.append(_evidence(each.chunk, each.command, MENDED if is_mended else NOT_MENDED))
        if each.error is not None:
            told.append(_evidence(each.chunk, each.error, label(each.chunk, each.error)))
    return told


def _failed_in(chunk: Chunk) -> Iterator[Failed]:
    for number, line in enumerate(chunk.lines):
        if line.role == "user" and _PASTED.match(line.text) and signature(line.text):
            yield Failed(chunk, None, number)
        elif fixes.head_of_failed(line):
            yield Failed(chunk, number, _error_of(chunk, number))


def _error_of(chunk: Chunk, command: int) -> int | None:
    """The line that a failed command printed of what was wrong: the last that is an error, as causes stand at the end."""
    printed: list[int] = []
    for number in range(command + 1, len(chunk.lines)):
        if chunk.lines[number].role not in (*_PRINTED, "command") or chunk.lines[number].text.startswith("$ "):
            break
        if chunk.lines[number].role in _PRINTED and len(chunk.lines[number].text) >= MIN_LINE_chars:
            printed.append(number)
    telling = [number for number in printed if signature(chunk.lines[number].text)]
    shaped = [number for number in telling if is_failure(chunk.lines[number].text)]
    marked = [number for number in printed if chunk.lines[number].role == "error"]
    return next((found[-1] for found in (shaped, telling, marked) if found), None)


def _is_after(other: Chunk, chunk: Chunk) -> bool:
    return (other.agent, other.thread_id) == (chunk.agent, chunk.thread_id) and other.ordinal > chunk.ordinal


def _succeeded(each: Failed, after: Sequence[Chunk]) -> bool:
    assert each.command is not None
    return fixes.until_success(each.chunk, each.command, after, each.head, each.signature) is not None


def _evidence(chunk: Chunk, number: int, of: str) -> Evidence:
    line = chunk.lines[number]
    return Evidence(chunk, line, 1.0, quoted(line.text, (), MAX_LINE_chars - len(of)), of=of, number=number)
