"""Plain `rg` over the session folders, for many questions: `rg -iw 'word|word|...'`, the lines with most words first.

What an agent without a memory might do. The files are those that were read and still lie there, databases left out. They are
read once for each project and only their words are held, with where each line lies and when it was written, so that a question
costs milliseconds and may be asked as of any time.
"""

import json
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lmm_mcp.domain.recall import CHARS_PER_TOKEN
from lmm_mcp.evaluation.questions import Answered
from lmm_mcp.store.ledger import Ledger
from lmm_mcp.store.search import Scope

MAX_READ_bytes = 400_000_000
"""Of one project, its newest files first."""
MAX_FILE_bytes = 100_000_000
NUM_SHOWN = 100
MAX_LINE_chars = 300
_BEFORE_HIT_chars = 40
_WORD = re.compile(rb"[^\W_][\w.-]{2,}")
_MOMENT = re.compile(rb'"timestamp":\s*"(\d{4}-\d\d-\d\dT[^"]{8,30})"')
_SUFFIXES = (".jsonl", ".json", ".md", ".txt")


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    session: str
    ends_ms: int
    """When its last line was written."""


@dataclass(slots=True)
class _Lines:
    """The lines of one project's session files, numbered in the order of reading: those of older files first."""

    files: list[_File] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each line: number of its file, first byte, length."""
    written_ms: "array[int]" = field(default_factory=lambda: array("Q"))
    """When each line was written, as far as that can be told: what follows a line was written after it."""
    with_word: "Mapping[bytes, array[int]]" = field(default_factory=lambda: defaultdict(lambda: array("I")))


class Grep:
    """Session files as they are now. Opened on first use of each project."""

    def __init__(self, ledger: Ledger, until_ms: int | None = None) -> None:
        """`until_ms`: nothing is asked as of a later time, so nothing later need be read."""
        self._ledger = ledger
        self._until_ms = until_ms
        self._lines: dict[str | None, _Lines] = {}

    def answer(self, question: str, scope: Scope, budget_tokens: int) -> Answered:
        """The lines that hold most of the question's words, those written last first among equals; none later than `scope` ends."""
        lines = self._lines.get(scope.project)
        if lines is None:
            lines = self._lines[scope.project] = self._read(scope.project)
        words = set(_WORD.findall(question.lower().encode("utf-8", "replace")))
        hits: Counter[int] = Counter()
        for word in words:
            hits.update(lines.with_word.get(word, ()))
        room, said, sessions, num_shown = budget_tokens * CHARS_PER_TOKEN, [], [], 0
        for line in sorted(hits, key=lambda line: (-hits[line], -line)):
            if room <= 0 or num_shown == NUM_SHOWN:
                break
            if scope.until_ms is not None and lines.written_ms[line] > scope.until_ms:
                continue
            number, start, length = lines.places[line]
            text = _shown(lines.files[number].path, start, length, words)
            said.append(text[:room])
            sessions.append(lines.files[number].session)
            room -= len(text) + 1
            num_shown += 1
        return Answered("\n".join(said), tuple(dict.fromkeys(sessions)), abstained=not said)

    def _read(self, project: str | None) -> _Lines:
        taken: list[_File] = []
        rows = {row.thread.thread_id: row for row in self._ledger.threads(project=project)}
        num_bytes = 0
        for source in sorted(self._ledger.sources(), key=lambda source: source.mtime_ns, reverse=True):
            mine = [rows[each] for each in source.thread_ids if each in rows]
            path = Path(source.path)
            if not mine or path.suffix not in _SUFFIXES or not path.is_file():
                continue
            if self._until_ms is not None and all(row.first_ms > self._until_ms for row in mine):
                continue
            size = path.stat().st_size
            if size > MAX_FILE_bytes or num_bytes + size > MAX_READ_bytes:
                continue
            num_bytes += size
            taken.append(_File(path, mine[0].thread.session_id, max(row.last_ms for row in mine)))
        found = _Lines()
        for file in reversed(taken):
            _take(found, file)
        return found


def _take(found: _Lines, file: _File) -> None:
    """Read one file. Only of JSON lines it is known what was written when; any other is as late as its end."""
    found.files.append(file)
    start, at_ms = 0, 0 if file.path.suffix == ".jsonl" else file.ends_ms
    with file.path.open("rb") as lines:
        for line in lines:
            at_ms = max(at_ms, moment_ms(line))
            for word in set(_WORD.findall(line.lower())):
                found.with_word[word].append(len(found.places))
            found.places.append((len(found.files) - 1, start, len(line)))
            found.written_ms.append(at_ms)
            start += len(line)


def moment_ms(line: bytes) -> int:
    """The time that a line of a session file names, milliseconds UTC; 0 for none.

    >>> moment_ms(b'{"timestamp": "2026-03-01T00:00:00Z"}'), moment_ms(b"{}")
    (1772323200000, 0)
    """
    found = _MOMENT.search(line)
    try:
        moment = datetime.fromisoformat(json.loads(b'"%b"' % found[1])) if found else None
    except ValueError:
        return 0
    if moment is None:
        return 0
    return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))


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
    return line[begins : begins + MAX_LINE_chars].decode("utf-8", "replace").rstrip("\n")
