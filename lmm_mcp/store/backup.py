"""A memory home as one file: what cannot be made again, and nothing else.

A backup is a tar: `lmm-backup.json` (what made it, how much is in it), `ledger.sqlite` (what is forgotten, aliases, ids ever
given), `config.toml`, the notes and the archived sessions, which are compressed already. Store and vectors are made anew
from the archive. Models are not in it. `lmm restore` unpacks it into a home that holds no sessions yet; `lmm import` reads
its sessions into one that does.
"""

import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lmm_mcp.errors import BadInput, StoreError, StoreTooNew
from lmm_mcp.paths import Home
from lmm_mcp.store.exporting import written_beside
from lmm_mcp.store.ledger_schema import MIGRATIONS

FORMAT = 1
MANIFEST = "lmm-backup.json"
_LEDGER = "ledger.sqlite"
_CONFIG = "config.toml"
_NAMES = re.compile(
    rf"{re.escape(_LEDGER)}|{re.escape(_CONFIG)}|notes/[\w.-]+\.jsonl|archive/[a-z0-9_-]+/[0-9a-f]+\.jsonl\.zst"
)
"""What may stand in a backup: whatever else a stranger put there is refused."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What went into a backup or came out of it."""

    num_sessions: int
    """Archived threads."""
    num_bytes: int


def backup(home: Home, target: Path, *, made_by: str) -> BackedUp:
    """Write the home to `target`. The caller holds the write lock. The file appears whole or not at all, mode 0600.

    Raises BadInput where there is nothing to back up, OSError where it cannot be written.
    """
    archived = sorted(home.archive.glob("*/*.jsonl.zst"))
    if not archived and not home.ledger.exists():
        raise BadInput(
            f"there is no memory in {home.root} yet, so nothing to back up. `lmm import` reads your sessions."
        )
    files = [*sorted(home.notes.glob("*.jsonl")), *archived]
    if home.config.is_file():
        files.insert(0, home.config)
    beside = home.root / f".ledger.{os.getpid()}.part"
    try:
        with written_beside(target) as part, tarfile.open(part, "w:", format=tarfile.PAX_FORMAT) as tar:
            told = {
                "lmm_backup": FORMAT,
                "made_by": made_by,
                "made_ms": time.time_ns() // 1_000_000,
                "num_sessions": len(archived),
            }
            manifest = tarfile.TarInfo(MANIFEST)
            content = json.dumps(told).encode("utf-8")
            manifest.size, manifest.mode = len(content), 0o600
            tar.addfile(manifest, io.BytesIO(content))
            if home.ledger.exists():
                _copy_database(home.ledger, beside)
                tar.add(beside, _LEDGER, filter=_anonymous)
            for path in files:
                tar.add(path, path.relative_to(home.root).as_posix(), recursive=False, filter=_anonymous)
    finally:
        beside.unlink(missing_ok=True)
    return BackedUp(len(archived), target.stat().st_size)


def restore(home: Home, source: Path) -> BackedUp:
    """Unpack a backup into a home that holds no session. The caller holds the write lock and makes the store afterwards.

    The archive comes last, in one rename: who dies before may do it again. Raises BadInput for a file that is no backup and
    for a home that holds sessions, StoreError for a damaged one or one of a newer version: then the home is as it was.
    """
    if any(home.archive.glob("*/*.jsonl.zst")):
        raise BadInput(
            f"{home.root} holds sessions already. `lmm import {source}` adds those of the backup to them; "
            "to start from the backup alone set LMM_HOME to an empty folder."
        )
    part = home.root / "restore.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    try:
        num_sessions = _unpack(source, part)
        if (part / _LEDGER).exists():
            _check_database(part / _LEDGER, source)
            _copy_database(part / _LEDGER, home.ledger)
        if (part / _CONFIG).exists() and not home.config.exists():
            (part / _CONFIG).replace(home.config)
        for note in sorted((part / "notes").glob("*.jsonl")):
            if not (home.notes / note.name).exists():
                note.replace(home.notes / note.name)
        if num_sessions:
            if home.archive.exists():
                for folder in home.archive.iterdir():
                    folder.rmdir()  # empty, or there would be sessions
                home.archive.rmdir()
            (part / "archive").replace(home.archive)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return BackedUp(num_sessions, source.stat().st_size)


def _unpack(source: Path, target: Path) -> int:
    """Unpack what may be unpacked; the number of archived threads. Raises BadInput and StoreError."""
    num_sessions = 0
    try:
        with tarfile.open(source, "r:") as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST:
                raise BadInput(f"{source} is no backup of lmm: name a file that `lmm backup` wrote.")
            told = json.loads(_content(tar, first))
            if told.get("lmm_backup") != FORMAT:
                raise BadInput(f"{source} was made by a newer lmm ({told.get('made_by', '')}). Upgrade this one first.")
            for member in _members(tar):
                if not member.isfile() or member.issparse() or not _NAMES.fullmatch(member.name):
                    raise StoreError(
                        f"{source} holds {member.name[:80]!r}, which no backup of lmm does. Nothing was restored."
                    )
                place = target / member.name
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with open(place, "xb", opener=_private) as file:
                    file.write(_content(tar, member))
                    file.flush()
                    os.fsync(file.fileno())
                num_sessions += member.name.startswith("archive/")
            if num_sessions != told.get("num_sessions"):
                raise StoreError(
                    f"{source} is cut short: {num_sessions:,} of {told.get('num_sessions'):,} sessions are in it. "
                    "Nothing was restored; `lmm import` reads what it holds."
                )
    except (tarfile.TarError, ValueError, EOFError) as problem:
        raise StoreError(
            f"{source} is damaged: {problem}. Nothing was restored; `lmm import` reads what it still holds."
        ) from problem
    return num_sessions


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    content = file.read() if file is not None else b""
    if len(content) != member.size:
        raise EOFError("it ends within a file")
    return content


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without who owned it where: that is nobody's business on another machine."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def _copy_database(source: Path, target: Path) -> None:
    """Copy by SQLite's own means: what lies in logs comes along, and whoever has the target open sees the new content."""
    if not target.exists():
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _check_database(path: Path, source: Path) -> None:
    try:
        with closing(sqlite3.connect(path)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as problem:
        verdict, version = str(problem), 0
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"the ledger in {source} has version {version}, this program knows up to {len(MIGRATIONS)}. "
            "Nothing was restored: upgrade lmm-mcp first."
        )
    if verdict != "ok":
        raise StoreError(
            f"the ledger in {source} is damaged: {verdict}. Nothing was restored; `lmm import` reads its sessions."
        )
