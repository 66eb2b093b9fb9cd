"""The notes inbox: what `remember` was told, one JSON line each, read by the ingest process like any agent's sessions.

Appending is all that happens here, so that any number of processes may do it while the one writer of the store is busy.
"""

import hashlib
import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from lmm_mcp.errors import BadInput, HomeError
from lmm_mcp.paths import Home
from lmm_mcp.redaction import redact

MAX_NOTE_chars = 20_000


def remember(home: Home, text: str, *, project: str, cwd: str, now_ms: int, once: str = "") -> str:
    """Keep a note and return its id; it is on the disk when this returns, its secrets cut.

    `once`: a name of the request, the same whenever it is made again because its answer was lost: the same text under the
    same name is kept once.

    `project`: key it belongs to, '' for none: then it is found by whoever asks all projects, and by no project that asks
    for itself. `now_ms`: UTC milliseconds. Raises BadInput for an empty or overlong text,
    HomeError where it cannot be written.
    """
    said = text.strip()
    if not said:
        raise BadInput("the note is empty. Write one fact, decision or preference in a sentence or two.")
    if len(said) > MAX_NOTE_chars:
        raise BadInput(
            f"the note has {len(said):,} characters; {MAX_NOTE_chars:,} is the limit. Split it into several."
        )
    note_id = (
        hashlib.sha256(f"{once}\n{said}".encode("utf-8", "replace")).hexdigest()[:32] if once else uuid.uuid4().hex
    )
    note = {"id": note_id, "at_ms": now_ms, "text": redact(said), "project": project, "cwd": redact(cwd)}
    # Half a surrogate pair is no text: written as an escape it survives, and the reader mends it.
    line = json.dumps(note, ensure_ascii=True).encode("ascii") + b"\n"
    path = home.notes / f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m}.jsonl"
    try:
        home.notes.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(home.notes / ".lock", mode=0o600):
            if once and _is_kept(home, note_id):
                return note_id
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if _is_torn(descriptor):  # a writer died in the middle of its line: it must not swallow this one
                    line = b"\n" + line
                _write_whole(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as problem:
        raise HomeError(
            f"the note could not be kept in {home.notes}: {problem.strerror or problem}. Nothing was remembered; mend that and try again."
        ) from problem
    return note_id


def _is_kept(home: Home, note_id: str) -> bool:
    mark = f'{{"id": "{note_id}", '.encode()
    for path in _newest(home):
        with path.open("rb") as lines:
            if any(line.startswith(mark) and line.endswith(b"\n") for line in lines):
                return True
    return False


def _newest(home: Home) -> list[Path]:
    """The file of this month and the one before it: a request is made again within a minute."""
    return sorted(home.notes.glob("*.jsonl"))[-2:]


def _is_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    if not size:
        return False
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"


def _write_whole(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
