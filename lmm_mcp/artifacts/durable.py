"""Files that are whole or not there: written beside, brought to the disk, renamed. Readable by the user alone."""

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

_GONE = ".gone-"
"""How a folder is called from the moment it is taken away until its last file is deleted."""


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value`: a reader sees the old file or the new one. Raises OSError."""
    write(path, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "surrogatepass"))


def write(path: Path, data: bytes) -> None:
    """Replace `path`, as `write_json` does."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """What stands in `path`; None where there is nothing, or nothing that can be understood."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def make_folder(path: Path) -> Path:
    """Make a folder and those above it, mode 0700."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def settle(folder: Path) -> None:
    """Bring every file and folder below `folder` to the disk, with the modes they are to have."""
    for above, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(above) / name
            path.chmod(0o600)
            with path.open("rb+") as file:  # a file system may refuse to sync what is open for reading only
                os.fsync(file.fileno())
        Path(above).chmod(0o700)
        sync_folder(Path(above))


def publish(folder: Path, target: Path) -> None:
    """Give a settled folder its name, in one step. Raises OSError where something bears it already."""
    folder.rename(target)
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Delete a folder or file. A folder disappears in one step; what a death leaves of it is `sweep`'s."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    gone = path.with_name(f"{_GONE}{secrets.token_hex(4)}")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Finish what `remove` began in `folder`."""
    for path in folder.glob(f"{_GONE}*"):
        shutil.rmtree(path, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
