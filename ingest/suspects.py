"""Files that may end the process that reads them: a decoder crashes, or the system takes the memory back.

What is being read is written down before it is opened, and struck out after that; so whoever starts next knows what its
predecessor died of, perhaps, for it may have been killed by anybody. Such a file comes last, and is first read on trial, in a
child process of its own (`trial.py`): if that ends, too, the file is left aside until it changes, a newer version is
installed, or some time has passed. A file that passes its trial and still ends us is left aside for a while, too.

Paths are kept as hashes only. A process that dies anywhere in here leaves the old state or the new one.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from ingest.session import SourceFile

READING = "reading"
SUSPECTS = "suspects.json"
MANY_ENDS = 3
"""Ends in a row after which a file that passes its trial is left aside, too."""
FIRST_RETRY_s = 60.0
LAST_RETRY_s = 86_400.0
_RECORD_bytes = 64


@dataclass(frozen=True, slots=True)
class Suspect:
    """A file that was being read when the process ended."""

    num_ends: int = 0
    """In a row: none of its readings came to an end of its own since."""
    num_failed: int = 0
    """Trials that ended their process, in a row."""
    size: int = -1
    mtime_ns: int = -1
    rules: str = ""
    """Size, time and rules (versions of the program and of the reader) by which it was last tried."""
    retry_ms: int = 0
    """Not to be tried again before, unless it changed (UTC milliseconds since 1970)."""


def installed_version() -> str:
    """Of this program; '' where it was never installed."""
    try:
        return metadata.version("lmm-mcp")
    except metadata.PackageNotFoundError:
        return ""


class Suspects:
    """See the module. `folder`: where it keeps its two files; `version`: of the program."""

    def __init__(self, folder: Path, version: str) -> None:
        self._folder, self._version = folder, version
        self._known: dict[str, Suspect] = {}
        self._mark = -1

    def begin(self) -> str:
        """Look at what the last process left; to be called by whoever has the write lock. What it died of, '' for nothing."""
        self._known = self._load()
        try:
            left = (self._folder / READING).read_text(encoding="ascii", errors="replace").strip("\0 \n")
        except OSError:
            left = ""
        if left:
            before = self._known.get(left, Suspect())
            num_ends = before.num_ends + 1
            again_s = self._pause_s(num_ends - MANY_ENDS) if num_ends >= MANY_ENDS else 0.0
            self._known[left] = replace(before, num_ends=num_ends, retry_ms=_now_ms() + int(again_s * 1000))
            self._save()
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        self._mark = os.open(self._folder / READING, flags, 0o600)
        return left

    def end(self) -> None:
        """Nothing more is read by this process."""
        if self._mark >= 0:
            os.close(self._mark)
            self._mark = -1

    @contextmanager
    def reading(self, source: SourceFile) -> Iterator[None]:
        """While it lasts, the file is written down as being read. Want of memory leaves it there: that ends us, too."""
        name = _name(source)
        self._write(name)
        try:
            yield
        except MemoryError:
            raise
        except BaseException:
            self._write("")
            raise
        self._write("")
        if self._known.pop(name, None) is not None:
            self._save()

    def is_suspect(self, source: SourceFile) -> bool:
        """Whether a process ended while it read this file, and none has read it since."""
        return bool(self._known) and _name(source) in self._known

    def why_aside(self, source: SourceFile, rules: str, *, is_patient: bool) -> str:
        """Why it must not be tried now; '' where it may be: it changed, other rules hold, or it waited long enough.

        `rules`: by which the reader reads. `is_patient`: there will be another time, so that one waits, too, that passed its
        trials and ended us all the same.
        """
        found = self._known.get(_name(source)) if self._known else None
        if found is None or (found.size, found.mtime_ns, found.rules) != (
            source.size,
            source.mtime_ns,
            self._rules(rules),
        ):
            return ""
        if not 0 < found.retry_ms - _now_ms() <= LAST_RETRY_s * 1000:  # a clock that was set back keeps nothing out
            return ""
        if found.num_failed:
            return "ended the process that read it on trial"
        if is_patient and found.num_ends >= MANY_ENDS:
            return f"was being read when the process ended, {found.num_ends} times in a row"
        return ""

    def tried(self, source: SourceFile, rules: str, *, passed: bool) -> None:
        """Remember how a trial of the file went, which was read by these rules."""
        before = self._known.get(_name(source), Suspect())
        num_failed = 0 if passed else before.num_failed + 1
        after = replace(
            before,
            num_failed=num_failed,
            size=source.size,
            mtime_ns=source.mtime_ns,
            rules=self._rules(rules),
            retry_ms=before.retry_ms if passed else _now_ms() + int(self._pause_s(num_failed) * 1000),
        )
        self._known[_name(source)] = after
        self._save()

    def _pause_s(self, number: int) -> float:
        """A minute, then four times as long each time, up to a day."""
        return float(min(LAST_RETRY_s, FIRST_RETRY_s * 4 ** min(number, 10)))

    def _rules(self, rules: str) -> str:
        return f"{self._version} {rules}"

    def _write(self, name: str) -> None:
        # No fsync: what ends a process leaves the system's cache alone, and after a loss of power nothing is suspected.
        if self._mark >= 0:
            os.lseek(self._mark, 0, os.SEEK_SET)
            os.write(self._mark, name.encode("ascii").ljust(_RECORD_bytes))

    def _load(self) -> dict[str, Suspect]:
        try:
            found: dict[str, dict[str, Any]] = orjson.loads((self._folder / SUSPECTS).read_bytes())
            return {str(name): Suspect(**each) for name, each in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _save(self) -> None:
        beside = self._folder / f"{SUSPECTS}.new"
        beside.write_bytes(orjson.dumps({name: asdict(each) for name, each in self._known.items()}))
        beside.replace(self._folder / SUSPECTS)


def _name(source: SourceFile) -> str:
    return hashlib.blake2b(source.name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
