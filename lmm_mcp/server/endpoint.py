"""The door between `lmm mcp` and the engine: a local socket that this user alone can reach, and the words said at it.

The engine listens on a Unix socket in the `locks` folder of the memory home; where that path is too long for the system, in
a folder of this user's own below the runtime or temporary one; where there are no such sockets (Windows), on a port of the
loopback interface, and both sides prove that they know a secret. A file that this user alone can read says which it is.

Each side says one JSON line, then the connection belongs to what was asked for:

    -> {"wire": 1, "version": "0.3.0", "want": "mcp", "cwd": "/home/ann/shop", "reads": true}
    <- {"welcome": true, "version": "0.3.0", "pid": 4711}     or {"no": "leaving"}, {"no": "older"}, {"no": "full"}

Standard library only: the pipe loads this, and an agent waits for the pipe.
"""

import json
import os
import socket
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmm_mcp.errors import HomeError
from lmm_mcp.paths import Home

WIRE = 1
"""Number of this protocol: an engine understands its own and says so to others."""
MAX_HELLO_bytes = 256 * 1024
MAX_LINE_bytes = 2_000_000
"""Of one message in either direction; the longest honest one, a note, has a tenth of that."""
HELLO_TIMEOUT_s = 10.0
"""How long either side waits for the other's first line. Starting an engine is not part of it."""
_MAX_PATH_bytes = 103 if sys.platform == "darwin" else 107
ENDLESS = "subscriptions/listen"
"""A request that is not answered before the connection ends: nobody waits for that."""
_BACKLOG = 128
_DOOR_bytes = 1024
HTTP_PORT = 7787
"""Of `lmm serve --http`, where none is named."""


class Door:
    """The engine's side: a listening socket, and the file that says where it is."""

    def __init__(self, home: Home, listening: socket.socket, path: Path | None, secret: str) -> None:
        self.socket = listening
        self.secret = secret
        """'' where the socket's own rights keep others out."""
        self._home, self._path = home, path

    def close(self) -> None:
        """Take the door away: whoever comes now finds none. Only for who holds the engine's lock."""
        with suppress(OSError):  # its room on the disk is kept: on a full one, the next engine needs it
            _write_over(self._home.door, b"{}")
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.socket.close()


def listen(home: Home, *, version: str = "", tcp: bool = False) -> Door:
    """Open the door; to be called by who holds the engine's lock, so that whatever lies there is stale.

    `tcp`: use a port although there are Unix sockets. Raises HomeError where nothing can be opened.
    """
    listening: socket.socket | None = None
    path: Path | None = None
    try:
        _own_folder(home.door.parent)
        if not tcp:
            listening, path = _unix_socket(home)
        secret = ""
        if listening is None:
            secret = os.urandom(32).hex()
            listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listening.bind(("127.0.0.1", 0))
        listening.listen(_BACKLOG)
        port = 0 if path else listening.getsockname()[1]
        # The home may have another path for others: in a container, by a link.
        named = path.name if path is not None and path.parent == home.door.parent else str(path or "")
        about = {"pid": os.getpid(), "version": version, "path": named, "port": port, "secret": secret}
        about["lock"] = home.engine_lock.stat().st_ino
        _write_for_us_alone(home.door, json.dumps(about).encode())
    except OSError as problem:
        if listening is not None:
            listening.close()
        raise HomeError(
            f"no door can be opened in {home.door.parent}: {problem.strerror or problem}. "
            "Give this user the right and the room to write there, or set LMM_HOME to a folder of yours."
        ) from problem
    return Door(home, listening, path, secret)


def _unix_socket(home: Home) -> tuple[socket.socket, Path] | tuple[None, None]:
    if not hasattr(socket, "AF_UNIX") or os.name != "posix":
        return None, None
    for path in _places(home):
        if len(os.fsencode(path)) > _MAX_PATH_bytes:
            continue
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _own_folder(path.parent)
            path.unlink(missing_ok=True)
            made.bind(str(path))
            path.chmod(0o600)
        except OSError:  # a file system without sockets, or somebody else has a folder of this name
            made.close()
        else:
            return made, path
    return None, None


def _places(home: Home) -> list[Path]:
    import hashlib  # where the home's own path will do, nobody needs it

    own = home.door.with_name("engine.sock")
    if len(os.fsencode(own)) <= _MAX_PATH_bytes:
        return [own]
    name = hashlib.sha256(os.fsencode(home.root)).hexdigest()[:16] + ".sock"
    folders = [os.environ.get("XDG_RUNTIME_DIR", ""), os.environ.get("TMPDIR", ""), "/tmp"]  # noqa: S108 - ownership is checked
    return [Path(folder) / f"lmm-{os.getuid()}" / name for folder in folders if folder]


def _own_folder(folder: Path) -> None:
    """See that a folder is this user's alone. Raises OSError where it is somebody else's."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if os.name != "posix":
        return
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def _write_for_us_alone(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.part")
    beside.unlink(missing_ok=True)
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, content.ljust(_DOOR_bytes))
        finally:
            os.close(descriptor)
        beside.replace(path)
    except OSError:  # a full disk: memories can be read nevertheless, and the last engine left its file
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        _write_over(path, content)


def _write_over(path: Path, content: bytes) -> None:
    """Write where a door file is already; whoever reads it in the middle understands nothing, and looks again."""
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        os.write(descriptor, content.ljust(_DOOR_bytes))
    finally:
        os.close(descriptor)


def about(home: Home) -> dict[str, Any]:
    """What the last engine wrote down about itself: `pid`, `version`; empty where there is nothing. It may be dead.

    What came here with a copy of another memory home counts as nothing: its engine would answer out of that one.
    """
    try:
        found = json.loads(home.door.read_bytes())
        is_ours = isinstance(found, dict) and found.get("lock") == home.engine_lock.stat().st_ino
    except (OSError, ValueError):
        return {}
    return found if is_ours else {}


def connect(home: Home, *, timeout_s: float = HELLO_TIMEOUT_s) -> tuple[socket.socket, str] | None:
    """Go to the door: a connection and the secret to prove, '' for none. None where nobody is there."""
    found = about(home)
    path, port, secret = found.get("path"), found.get("port"), found.get("secret")
    if isinstance(path, str) and path and os.name == "posix":
        place = home.door.parent / path
        with suppress(OSError, ValueError):
            if place.lstat().st_uid == os.getuid():
                return _connected(socket.AF_UNIX, str(place), timeout_s, "")
    elif isinstance(port, int) and isinstance(secret, str) and secret:
        return _connected(socket.AF_INET, ("127.0.0.1", port), timeout_s, secret)
    return None


def _connected(family: int, address: Any, timeout_s: float, secret: str) -> tuple[socket.socket, str] | None:
    made = socket.socket(family, socket.SOCK_STREAM)
    ends_s = time.monotonic() + timeout_s
    try:
        made.settimeout(timeout_s)
        while True:
            try:
                made.connect(address)
                break
            except BlockingIOError:  # so many come at once that the engine's queue is full
                if time.monotonic() >= ends_s:
                    raise
                time.sleep(0.01)
    except (OSError, ValueError, OverflowError):  # a stale file may name anything
        made.close()
        return None
    return made, secret


def greet(
    home: Home, request: dict[str, Any], *, version: str, timeout_s: float = HELLO_TIMEOUT_s
) -> tuple[socket.socket, dict[str, Any], bytes] | None:
    """Say hello and hear the answer: the connection, the answer, and what came behind it. None where nobody answers.

    The connection is the caller's to close; it has no time limit any more.
    """
    ends_s = time.monotonic() + timeout_s
    if (found := connect(home, timeout_s=timeout_s)) is None:
        return None
    made, secret = found
    try:
        nonce = os.urandom(16).hex() if secret else ""
        hello = {"wire": WIRE, "version": version, **request}
        if secret:
            hello |= {"nonce": nonce, "proof": proof(secret, "pipe", nonce)}
        with suppress(BrokenPipeError):  # who has no room says so before it is greeted, and closes: hear that
            made.sendall(json.dumps(hello).encode() + b"\n")
        heard = b""
        while b"\n" not in heard:
            made.settimeout(max(0.001, ends_s - time.monotonic()))
            piece = made.recv(65536)
            if not piece or len(heard) > MAX_LINE_bytes:
                raise ConnectionError
            heard += piece
        line, _, rest = heard.partition(b"\n")
        answer = json.loads(line)
        if not isinstance(answer, dict) or (secret and answer.get("proof") != proof(secret, "engine", nonce)):
            raise ConnectionError  # somebody else took the port of an engine that is gone
        made.settimeout(None)
    except (OSError, ValueError):
        made.close()
        return None
    return made, answer, rest


def proof(secret: str, side: str, nonce: str) -> str:
    """What only one who knows the secret can say; the secret itself never crosses the wire."""
    import hashlib
    import hmac

    return hmac.new(secret.encode(), f"{side} {nonce}".encode(), hashlib.sha256).hexdigest()


class Hold:
    """A lock file that was taken; the operating system gives it back when this process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def hold(path: Path, *, timeout_s: float = 0.0) -> Hold | None:
    """Take a lock; None where somebody else has it all that time. Raises HomeError where there can be no lock."""
    ends_s = time.monotonic() + timeout_s
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as problem:
        raise HomeError(
            f"{path} cannot be opened: {problem.strerror or problem}. Give this user the right and the room to write there."
        ) from problem
    try:
        while not _try_lock(descriptor):
            if time.monotonic() >= ends_s:
                os.close(descriptor)
                return None
            time.sleep(0.02)
    except OSError as problem:
        os.close(descriptor)
        raise HomeError(
            f"{path} cannot be locked: {problem.strerror or problem}. Set LMM_HOME to a folder on a disk of this machine."
        ) from problem
    return Hold(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
