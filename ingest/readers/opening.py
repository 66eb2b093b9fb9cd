"""Opens session files, and nothing else that may bear their name.

Opening a named pipe waits until somebody writes into it, for ever if need be, and a device does whatever devices do. So a
path is opened without waiting, and what was opened is looked at before it is read: between two looks at a path it may change.
"""

import errno
import os
import stat
from io import FileIO
from pathlib import Path

_HOW = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class _NeverNone(FileIO):
    """Some files of /proc and of FUSE call themselves regular and yet have nothing to give just now: that is their end."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(-1 if size is None else size) or b""


def open_file(path: Path) -> FileIO:
    """Open a regular file for reading, unbuffered. Raises OSError where it cannot be opened or is something else."""
    descriptor = os.open(path, _HOW)
    try:
        if odd := oddity(os.fstat(descriptor).st_mode):
            number = errno.EISDIR if odd == _KINDS[stat.S_IFDIR] else errno.EINVAL
            raise OSError(number, f"it is {odd} and no file", str(path))
        return _NeverNone(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def first_bytes(path: Path, most_bytes: int) -> bytes:
    """At most so many bytes from the beginning of a regular file; none where it cannot be opened or is something else."""
    try:
        with open_file(path) as stream:
            return stream.read(most_bytes)
    except OSError:
        return b""


def oddity(mode: int) -> str:
    """What a path is, by its `st_mode`, if it is no regular file: `a named pipe`, ...; '' for a regular file.

    >>> oddity(stat.S_IFREG | 0o600), oddity(stat.S_IFIFO | 0o600)
    ('', 'a named pipe')
    """
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")
