"""Where an error was met before, and what mended it then: what was said and done between it and the next success. Pure.

A success is the command that had failed, run again without failure and without the same error.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmm_mcp.domain.chunk import Chunk, Line
from lmm_mcp.recall.evidence import MAX_LINE_chars, MIN_LINE_chars, quoted
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.habits import plain_command
from lmm_mcp.recall.labels import label
from lmm_mcp.recall.signatures import same, signature

MAX_TOLD = 3
"""Errors of which it is told what mended them, the newest ones."""
MAX_LINES = 9
"""Told of each, beside the error itself."""
MAX_EDIT_lines = 4
MAX_PASSAGES_after = 4
"""Among which the success is looked for."""


@dataclass(frozen=True, slots=True)
class Met:
    """Where an error was met before."""

    chunk: Chunk
    number: int
    """Of its line within the chunk."""
    rank: int
    """Of the signature among those asked about, 0 = the first."""


def met(wanted: Sequence[str], chunks: Sequence[Chunk]) -> list[Met]:
    """Where one of the `wanted` signatures stands among what programs printed or people pasted: the newest of each thread first."""
    newest: dict[tuple[str, str], Met] = {}
    for chunk in sorted(chunks, key=lambda each: (-each.last_ms, -each.ordinal, each.id)):
        for number, line in enumerate(chunk.lines):
            if line.role not in ("error", "output", "user") or not (found := signature(line.text)):
                continue
            rank = next((n for n, each in enumerate(wanted) if same(each, found)), None)
            known = newest.get((chunk.agent, chunk.thread_id))
            if rank is not None and (known is None or rank < known.rank):
                newest[chunk.agent, chunk.thread_id] = Met(chunk, number, rank)
    return sorted(newest.values(), key=lambda each: (each.rank, -each.chunk.last_ms, each.chunk.id))


def mended(error: Met, after: Sequence[Chunk]) -> list[Evidence]:
    """The error and what mended it, in order; nothing where no success is seen. `after`: the next passages of its thread."""
    if (head := _failed_before(error)) is None:
        return []
    wanted = signature(error.chunk.lines[error.number].text)
    if (steps := until_success(error.chunk, error.number, after, head, wanted)) is None:
        return []
    told = [each for each in steps if len(each[0].lines[each[1]].text) >= MIN_LINE_chars]
    kept = list(_worth(told))
    return [_evidence(error.chunk, error.number), *(_evidence(*each) for each in kept)]


def until_success(
    chunk: Chunk, number: int, after: Sequence[Chunk], head: str, wanted: str
) -> list[tuple[Chunk, int]] | None:
    """The lines behind one up to the first success of the command about `head` without the error `wanted`; None without one."""
    steps = [(chunk, n) for n in range(number + 1, len(chunk.lines))]
    steps += [(later, n) for later in after for n in range(len(later.lines))]
    end = next((n for n, (each, at) in enumerate(steps) if _succeeds(each, at, head, wanted)), None)
    return None if end is None else steps[: end + 1]


def head_of_failed(line: Line) -> str:
    """What a command that failed is about; '' for any other line, and for a command that only looks around."""
    is_one = line.role == "command" and line.text.startswith("$ ") and _FAILED.search(line.text)
    return _head(line.text) if is_one else ""


def _worth(steps: Sequence[tuple[Chunk, int]]) -> Iterator[tuple[Chunk, int]]:
    """Of what was done: what was said, the last edits, and the command that succeeded."""

    def line(step: tuple[Chunk, int]) -> Line:
        return step[0].lines[step[1]]

    said = [each for each in steps if line(each).role in ("agent", "user", "note", "summary")]
    thought = [each for each in steps if line(each).role == "thought"]
    edits = [each for each in steps if line(each).role == "edit"][-MAX_EDIT_lines:]
    commands = [each for each in steps if line(each).role == "command" and not _FAILED.search(line(each).text)][-2:]
    room = MAX_LINES - len(edits) - len(commands)
    chosen = {id(each) for each in (*edits, *commands, *(said or thought)[-room:])}
    yield from (each for each in steps if id(each) in chosen)


_LOOPS = ("for", "while", "until", "if")
"""Of the shell: what such a line is about stands behind its first words."""
_FAILED = re.compile(r"  \[(?:exit [1-9-]\d*|failed)\]$")


def _head(command: str) -> str:
    """What a command line is about: its first words without flags."""
    plain = plain_command(_FAILED.sub("", command.removeprefix("$ ")).removesuffix("  [exit 0]"))
    words = [word for word in plain.split() if not word.startswith("-")]
    return " ".join(words if words and words[0] in _LOOPS else words[:3])


def _failed_before(error: Met) -> str | None:
    """The command that printed the error, '' where a person pasted it; None where it did not fail, as one that shows a file."""
    lines = error.chunk.lines[: error.number]
    if error.chunk.lines[error.number].role == "user":
        return ""
    command = next((line for line in reversed(lines) if line.role == "command" and line.text.startswith("$ ")), None)
    return head_of_failed(command) or None if command is not None else None


def _succeeds(chunk: Chunk, number: int, head: str, wanted: str) -> bool:
    """Whether the command that had failed is run here, without failure and without the same error after it."""
    line = chunk.lines[number]
    if line.role != "command" or not line.text.startswith("$ ") or _FAILED.search(line.text):
        return False
    own = _head(line.text)
    if not own or (head and own != head):
        return False
    for later in chunk.lines[number + 1 :]:
        if later.role not in ("error", "output"):
            break
        if same(wanted, signature(later.text)):
            return False
    return True


def _evidence(chunk: Chunk, number: int) -> Evidence:
    line = chunk.lines[number]
    of = label(chunk, number)
    return Evidence(chunk, line, 0.0, quoted(line.text, (), MAX_LINE_chars - len(of)), of=of, number=number)
