"""Plain `rg` over the session folders, for many questions at one time: `rg -iw 'word|word|...'`, the lines with most words first.

What an agent without a memory might do. The files are those that were read and still lie there, databases left out. They are
read once for each project and only their words are held, with where each line lies, so that a question costs milliseconds.
"""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmm_mcp.domain.recall import CHARS_PER_TOKEN
from lmm_mcp.evaluation.arms import MAX_GREP_LINE_chars, is_later
from lmm_mcp.evaluation.questions import Answered, Asked
from lmm_mcp.store.ledger import Ledger

MAX_READ_bytes = 400_000_000
"""Of one project, its newest files first."""
MAX_FILE_bytes = 100_000_000
NUM_SHOWN = 100
_BEFORE_HIT_chars = 40
_WORD = re.compile(rb"[^\W_][\w.-]{2,}")
_SUFFIXES = (".jsonl", ".json", ".md", ".txt")


@dataclass(slots=True)
class _Lines:
    """The lines of one project's session files, numbered in the order of reading."""

    files: list[tuple[Path, str]] = field(default_factory=list)
    """Each with its session."""
    places: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each line: number of its file, first byte, length."""
    with_word: "Mapping[bytes, array[int]]" = field(default_factory=lambda: defaultdict(lambda: array("I")))


class Grep:
    """Session files as they were at a time. Opened on first use of each project."""

    def __init__(self, ledger: Ledger, until_ms: int) -> None:
        """`until_ms`: nothing later is used."""
        self._ledger = ledger
        self._until_ms = until_ms
        self._lines: dict[str | None, _Lines] = {}

    def answer(self, asked: Asked, budget_tokens: int) -> Answered:
        """The lines that hold most of the question's words, those written last first among equals."""
        lines = self._lines.get(asked.project)
        if lines is None:
            lines = self._lines[asked.project] = self._read(asked.project)
        words = set(_WORD.findall(asked.question.lower().encode("utf-8", "replace")))
        hits: Counter[int] = Counter()
        for word in words:
            hits.update(lines.with_word.get(word, ()))
        best = sorted(hits, key=lambda line: (-hits[line], -line))[:NUM_SHOWN]
        room, said, sessions = budget_tokens * CHARS_PER_TOKEN, [], []
        for line in best:
            if room <= 0:
                break
            number, start, length = lines.places[line]
            path, session = lines.files[number]
            text = _shown(path, start, length, words)
            said.append(text[:room])
            sessions.append(session)
            room -= len(text) + 1
        return Answered("\n".join(said), tuple(dict.fromkeys(sessions)), abstained=not said)

    def _read(self, project: str | None) -> _Lines:
        taken: list[tuple[Path, str, bool]] = []
        rows = {row.thread.thread_id: row for row in self._ledger.threads(project=project)}
        num_bytes = 0
        sources = sorted(self._ledger.sources(), key=lambda source: source.mtime_ns, reverse=True)
        for source in sources:
            mine = [rows[each] for each in source.thread_ids if each in rows]
            path = Path(source.path)
            if not mine or path.suffix not in _SUFFIXES or not path.is_file():
                continue
            goes_on = any(row.last_ms > self._until_ms for row in mine)
            size = path.stat().st_size
            if size > MAX_FILE_bytes or num_bytes + size > MAX_READ_bytes:
                continue
            if (goes_on and path.suffix != ".jsonl") or all(row.first_ms > self._until_ms for row in mine):
                continue
            num_bytes += size
            taken.append((path, mine[0].thread.session_id, goes_on))
        found = _Lines()
        for path, session, goes_on in reversed(taken):
            _take(found, path, session, until_ms=self._until_ms if goes_on else None)
        return found


def _take(found: _Lines, path: Path, session: str, *, until_ms: int | None) -> None:
    """Read one file, up to the first line that names a later time: what follows it was appended later."""
    found.files.append((path, session))
    start = 0
    with path.open("rb") as file:
        for line in file:
            if is_later(line, until_ms):
                return
            for word in set(_WORD.findall(line.lower())):
                found.with_word[word].append(len(found.places))
            found.places.append((len(found.files) - 1, start, len(line)))
            start += len(line)


def _shown(path: Path, start: int, length: int, words: set[bytes]) -> str:
    """The part of a line around the first of the words; '' where the file is gone by now."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            line = file.read(length)
    except OSError:
        return ""
    at = next((found.start() for found in _WORD.finditer(line) if found[0].lower() in words), 0)
    begins = max(0, at - _BEFORE_HIT_chars)
    return line[begins : begins + MAX_GREP_LINE_chars].decode("utf-8", "replace").rstrip("\n")
