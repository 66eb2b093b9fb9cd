"""Configuration files of other programs: read to the byte, written beside and renamed over, never in part.

The programs they belong to are running: a file that changed since it was read is not written, and an agent's own lock
is waited for and held. Content is never logged.
"""

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lmm_mcp.errors import ConfigError
from lmm_mcp.integrations.contract import Change

BOM = "\ufeff"
WAIT_FOR_LOCK_s = 3.0
STALE_LOCK_s = 10.0
"""So long after its last sign of life the agents themselves take a lock for one that was left behind."""


def read(path: Path) -> bytes | None:
    """The whole file; None where there is none. Raises ConfigError where it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # a named pipe would be waited for, for ever
            raise ConfigError(f"{path} is no file. Nothing was changed: move it away, then try again.")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise ConfigError(
            f"{path} cannot be read: {problem.strerror or problem}. Give this user the right, then try again."
        ) from problem


def decoded(path: Path, data: bytes | None) -> tuple[str, str]:
    """The text without its byte order mark, and that mark or ''. Raises ConfigError for what is not UTF-8."""
    try:
        text = (data or b"").decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ConfigError(
            f"{path} is not UTF-8 text (byte {problem.start}). Nothing was changed: mend it or move it away."
        ) from problem
    return (text.removeprefix(BOM), BOM) if text.startswith(BOM) else (text, "")


def write(change: Change) -> None:
    """Make one change. Raises ConfigError where the file changed since it was looked at, or cannot be written."""
    target = Path(os.path.realpath(change.path))  # a link stays a link
    try:
        with _held(change.locked_by):
            if read(change.path) != change.before:
                raise ConfigError(
                    f"{change.path} was changed by another program just now. Nothing was written there: try again."
                )
            if change.after is None:
                target.unlink(missing_ok=True)
                if change.takes_folder:
                    with contextlib.suppress(OSError):  # something else is in it
                        change.path.parent.rmdir()
            else:
                _replace(target, change.after)
    except OSError as problem:
        raise ConfigError(
            f"{target} cannot be written: {problem.strerror or problem}. Give this user the right, then try again."
        ) from problem


def _replace(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    old = target.stat() if target.exists() else None
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".lmm", dir=target.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if old is not None:
            beside.chmod(stat.S_IMODE(old.st_mode))
            if os.name == "posix" and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(PermissionError):
                    os.chown(beside, old.st_uid, old.st_gid)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _held(lock: Path | None) -> Iterator[None]:
    """Hold an agent's lock, a folder; one that was left behind is stepped over, as the agent does."""
    if lock is None or not lock.parent.is_dir():
        yield
        return
    ends_s = time.monotonic() + WAIT_FOR_LOCK_s
    while True:
        try:
            lock.mkdir()
            break
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - lock.stat().st_mtime > STALE_LOCK_s:
                    lock.rmdir()
                    continue
            if time.monotonic() > ends_s:
                raise ConfigError(f"{lock} says that the agent is writing its file. Try again in a moment.") from None
            time.sleep(0.02)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.rmdir()
