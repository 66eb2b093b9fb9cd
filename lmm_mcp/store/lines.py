"""Cut lines out of the files that hold one thing a line: the inbox of notes, and logs. Beside and renamed over."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from filelock import FileLock

NOTE_EVENT = "note:"
"""The reader of notes names the event of a note by this and the note's own id."""
NOTES_LOCK = ".lock"
"""In the folder of notes: held while a note is appended or the inbox is rewritten."""


def notes_holding(folder: Path, match: str) -> list[str]:
    """The events that notes holding this text become, upper and lower case alike, whether or not they were read yet."""
    wanted = match.casefold()
    inbox = [_note(line) for path in _inbox(folder) for line in path.read_bytes().splitlines()]
    return [event_id for event_id, text in inbox if wanted in text.casefold()]


def drop_notes(folder: Path, buried: Callable[[Collection[str]], set[str]]) -> int:
    """Delete the notes whose event is buried; how many that were."""
    if not folder.is_dir():
        return 0
    num_dropped = 0
    with FileLock(folder / NOTES_LOCK):
        for left in folder.glob("*.new"):  # by a rewriting that was interrupted
            left.unlink()
        for path in _inbox(folder):
            notes = path.read_bytes().splitlines(keepends=True)
            names = [_note(line)[0] for line in notes]
            gone = buried(names)
            kept = [line for line, name in zip(notes, names, strict=True) if name not in gone]
            num_dropped += len(notes) - len(kept)
            if len(kept) < len(notes):
                _replace(path, kept)
    return num_dropped


def drop_log_lines(folder: Path, needles: Sequence[str] | None) -> int:
    """Delete the lines that hold any of the needles, upper and lower case alike; all of them if `needles` is None."""
    num_dropped = 0
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if not path.is_file():
            continue
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [] if needles is None else [line for line in lines if not holds(line, needles)]
        num_dropped += len(lines) - len(kept)
        if len(kept) < len(lines):
            _replace(path, kept)
    return num_dropped


def holds(line: bytes, needles: Sequence[str]) -> bool:
    """Whether a line holds any of the needles, upper and lower case alike."""
    text = line.decode("utf-8", "replace").casefold()
    # A log may quote: `C:\\\\x` for `C:\\x`.
    return any(needle.casefold() in text or json.dumps(needle)[1:-1].casefold() in text for needle in needles)


def _inbox(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.jsonl") if path.is_file())


def _note(line: bytes) -> tuple[str, str]:
    """The id of the event that a note becomes, and all its text. A line that is no note is named by its own bytes."""
    text = line.decode("utf-8", "replace")
    try:
        note = json.loads(text)
        return f"{NOTE_EVENT}{note['id']}", "\n".join(value for value in note.values() if isinstance(value, str))
    except (ValueError, KeyError, TypeError):
        return f"{NOTE_EVENT}#{hashlib.blake2b(line.rstrip(), digest_size=16).hexdigest()}", text


def _replace(path: Path, lines: Sequence[bytes]) -> None:
    beside = path.with_name(path.name + ".new")
    with os.fdopen(
        os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600), "wb"
    ) as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
