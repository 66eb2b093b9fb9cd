"""On which file systems others write without this kernel's knowing, so that its notifications cannot be trusted there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

FOREIGN = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p drvfs v9fs afs afpfs webdav ceph glusterfs lustre beegfs davfs vboxsf virtiofs prl_fs vmhgfs"
    " fuse macfuse osxfuse".split()
)
"""9p and drvfs are Windows' drives under WSL."""
_MACS_LINE = re.compile(r".+? on (/.*) \(([^,()]+)[^()]*\)")
_MOUNT_s = 5.0
_DRIVE_REMOTE = 4


def foreign_file_system(folder: Path, *, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Kind of the file system a folder lies on, if notifications cannot be trusted there; '' where they can."""
    place = Path(os.path.realpath(folder))
    if sys.platform == "win32":
        return _of_windows(str(place))
    if sys.platform == "darwin":
        return kind_at(place, _told_by_mount(_mount()))
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    return kind_at(place, _told_by_kernel(lines))


def kind_at(place: Path, mounted: Iterable[tuple[Path, str]]) -> str:
    """The same, by what is mounted where, with its kind."""
    best, kind = -1, ""
    for point, each in mounted:
        if place.is_relative_to(point) and len(point.parts) >= best:  # of two on one point the later one counts
            best, kind = len(point.parts), each
    return kind if kind in FOREIGN or kind.startswith("fuse.") else ""


def _told_by_kernel(lines: Iterable[str]) -> Iterator[tuple[Path, str]]:
    for line in lines:
        fields = line.split(" ")
        if len(fields) >= 3:
            yield Path(_unescaped(fields[1])), fields[2]


def _told_by_mount(told: str) -> Iterator[tuple[Path, str]]:
    """What `mount` of macOS says: `//ann@nas/work on /Volumes/work (smbfs, nodev, nosuid)`."""
    for line in told.splitlines():
        if found := _MACS_LINE.fullmatch(line):
            yield Path(found[1]), found[2].strip()


def _mount() -> str:
    try:
        done = subprocess.run(["/sbin/mount"], capture_output=True, timeout=_MOUNT_s, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "surrogateescape")


def _of_windows(place: str) -> str:
    share = place.removeprefix("\\\\?\\")
    if share.startswith(("\\\\", "UNC\\")):
        return "a network share"
    if sys.platform == "win32":
        import ctypes

        if ctypes.WinDLL("kernel32").GetDriveTypeW(os.path.splitdrive(share)[0] + "\\") == _DRIVE_REMOTE:
            return "a network drive"
    return ""


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
