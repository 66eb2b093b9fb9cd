"""The door of the engine: this user alone can reach it, and nothing that lies about keeps the next one from opening."""

import json
import os
import socket
import stat
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from lmm_mcp.errors import HomeError
from lmm_mcp.paths import Home
from lmm_mcp.server import endpoint
from lmm_mcp.server.version import order, version

LONG_FOLDER = "a-folder-name-of-some-length-" * 4


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "lmm").ensure()


@pytest.fixture(params=["socket", "port"])
def kind(request) -> str:
    return request.param


@contextmanager
def opened(home: Home, kind: str = "socket"):
    """A door as an engine opens it."""
    lock = endpoint.hold(home.engine_lock)
    assert lock is not None
    door = endpoint.listen(home, version="1.2", tcp=kind == "port")
    try:
        yield door
    finally:
        door.close()
        lock.release()


def answering(door: endpoint.Door, *replies: dict) -> threading.Thread:
    """An engine that says these, one to each who comes, and proves itself honestly."""

    def answer() -> None:
        for reply in replies:
            made, _ = door.socket.accept()
            with made, made.makefile("rb") as lines:
                hello = json.loads(lines.readline())
                if door.secret:
                    assert hello["proof"] == endpoint.proof(door.secret, "pipe", hello["nonce"])
                    reply = {"proof": endpoint.proof(door.secret, "engine", hello["nonce"]), **reply}
                made.sendall(json.dumps(reply).encode() + b"\n")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    return thread


def greeted(home: Home, timeout_s: float = 5.0):
    found = endpoint.greet(home, {"want": "status"}, version="1.2", timeout_s=timeout_s)
    if found is None:
        return None
    found[0].close()
    return found[1]


def test_whoever_comes_to_an_open_door_is_answered(home, kind):
    with opened(home, kind) as door:
        answering(door, {"welcome": True})
        assert greeted(home)["welcome"]
        assert endpoint.about(home)["version"] == "1.2"
    assert greeted(home) is None


def test_nobody_is_found_where_there_never_was_a_door(home):
    assert endpoint.about(home) == {}
    assert endpoint.connect(home) is None


@pytest.mark.skipif(os.name != "posix", reason="rights of files are another matter there")
def test_socket_secret_and_folder_are_readable_by_this_user_alone(home, kind):
    home.door.parent.chmod(0o755)
    with opened(home, kind):
        assert stat.S_IMODE(home.door.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(home.door.stat().st_mode) == 0o600
        if kind == "socket":
            assert stat.S_IMODE(home.door.with_name("engine.sock").stat().st_mode) == 0o600


def test_a_stale_door_of_an_engine_that_was_killed_is_found_closed_and_opened_again(home, kind):
    with opened(home, kind) as door:
        left = home.door.read_bytes()
        door.socket.close()  # what is left of a process that is killed
        assert endpoint.connect(home) is None
    home.door.write_bytes(left)
    home.door.with_name("engine.sock").touch()
    assert endpoint.connect(home) is None
    with opened(home, kind) as door:
        answering(door, {"welcome": True})
        assert greeted(home)


@pytest.mark.parametrize(
    "written",
    ["", "{", "[]", "null", '{"path": 3}', '{"port": "x", "secret": "y"}', '{"port": 99999999, "secret": "y"}', "\xff"],
)
def test_a_door_file_that_cannot_be_understood_is_no_door(home, written):
    home.engine_lock.touch()
    home.door.write_text(written.replace("{", f'{{"lock": {home.engine_lock.stat().st_ino}, ', 1), encoding="latin-1")
    assert greeted(home) is None
    with opened(home) as door:
        answering(door, {"welcome": True})
        assert greeted(home)


def test_the_door_of_a_memory_home_does_not_go_with_its_copy(home, tmp_path):
    with opened(home):
        copy = Home(tmp_path / "copy").ensure()
        copy.engine_lock.touch()
        copy.door.write_bytes(home.door.read_bytes())
        copy.door.with_name("engine.sock").symlink_to(home.door.with_name("engine.sock"))
        assert endpoint.connect(copy) is None


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_memory_home_has_one_door_by_whatever_path_it_is_reached(home, tmp_path):
    (tmp_path / "link").symlink_to(home.root)
    with opened(home) as door:
        answering(door, {"welcome": True})
        assert greeted(Home(tmp_path / "link"))


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
def test_a_home_whose_path_is_too_long_for_a_socket_has_its_door_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    home = Home(tmp_path / LONG_FOLDER / "lmm").ensure()
    with opened(home) as door:
        path = Path(endpoint.about(home)["path"])
        assert path.parent.parent == tmp_path
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        monkeypatch.delenv("XDG_RUNTIME_DIR")  # others may not have it
        answering(door, {"welcome": True})
        assert greeted(home)
    assert not path.exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of files")
def test_a_folder_of_that_name_which_somebody_else_made_is_not_used(tmp_path, monkeypatch):
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / f"lmm-{os.getuid()}").symlink_to(tmp_path)  # lstat: what a link points to says nothing
    monkeypatch.setattr(endpoint, "_places", lambda home: [tmp_path / f"lmm-{os.getuid()}" / "x.sock"])
    home = Home(tmp_path / "lmm").ensure()
    with opened(home) as door:
        assert endpoint.about(home)["port"] and door.secret
        answering(door, {"welcome": True})
        assert greeted(home)


def test_the_secret_of_a_port_never_crosses_the_wire(home):
    with opened(home, "port") as door:
        heard = []

        def listen() -> None:
            made, _ = door.socket.accept()
            with made:
                heard.append(made.recv(65536))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        assert greeted(home) is None
        thread.join(5)
    assert door.secret.encode() not in heard[0]
    assert b"proof" in heard[0]


def test_who_took_the_port_of_an_engine_that_is_gone_is_not_believed(home):
    with opened(home, "port") as door:
        answering(door, {"welcome": True, "proof": "0" * 64})
        assert greeted(home) is None


@pytest.mark.parametrize("said", [b"", b"garbage\n", b"[1]\n", b"\xff\xfe\n", b'{"welcome"'])
def test_an_engine_that_talks_nonsense_counts_as_none(home, said):
    with opened(home) as door:

        def answer() -> None:
            made, _ = door.socket.accept()
            with made:
                made.recv(65536)
                made.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        assert greeted(home) is None


def test_an_engine_that_says_nothing_is_not_waited_for_longer_than_allowed(home):
    with opened(home):
        assert greeted(home, timeout_s=0.2) is None


def test_an_engine_that_never_ends_its_line_is_not_listened_to_for_ever(home, monkeypatch):
    monkeypatch.setattr(endpoint, "MAX_LINE_bytes", 100_000)
    with opened(home) as door:

        def answer() -> None:
            made, _ = door.socket.accept()
            with made, pytest.raises(OSError):
                while True:
                    made.sendall(b"x" * 65536)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert greeted(home) is None
        thread.join(5)
        assert not thread.is_alive()


def test_on_a_full_disk_a_door_is_opened_where_there_was_one(home, monkeypatch):
    with opened(home):
        pass

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with opened(home) as door:
        assert stat.S_IMODE(home.door.stat().st_mode) == 0o600
        answering(door, {"welcome": True})
        assert greeted(home)


def test_a_lock_has_one_holder_and_is_free_when_that_lets_go(home):
    first = endpoint.hold(home.engine_lock)
    assert first is not None
    assert endpoint.hold(home.engine_lock, timeout_s=0.05) is None
    first.release()
    second = endpoint.hold(home.engine_lock)
    assert second is not None
    first.release()  # a second time changes nothing
    assert endpoint.hold(home.engine_lock) is None
    second.release()


def test_a_folder_that_cannot_be_written_to_is_named(home):
    home.door.mkdir()  # a folder in the way of the file
    home.engine_lock.touch()
    with pytest.raises(HomeError, match="no door can be opened"):
        endpoint.listen(home)
    with pytest.raises(HomeError, match="cannot be opened"):
        endpoint.hold(home.root / "nowhere" / "x.lock")


@pytest.mark.skipif(os.name != "posix", reason="where there are Unix sockets")
def test_who_finds_a_crowd_at_the_door_waits_for_its_turn(home, monkeypatch):
    monkeypatch.setattr(endpoint, "_BACKLOG", 0)
    with opened(home, "socket") as door:
        crowd = []
        with pytest.raises(BlockingIOError):  # the queue is full
            while True:
                crowd.append(socket.socket(socket.AF_UNIX))
                crowd[-1].setblocking(False)
                crowd[-1].connect(str(door._path))
        assert endpoint.connect(home, timeout_s=0.1) is None
        threading.Timer(0.1, lambda: [door.socket.accept()[0].close() for _ in crowd[:-1]]).start()
        found = endpoint.connect(home, timeout_s=10)
        assert found is not None
        for each in (*crowd, found[0]):
            each.close()


def test_versions_are_told_apart_by_their_numbers():
    assert order("0.9.0") < order("0.10.0.dev1") < order("0.10.0") < order("1.0a1") < order("1.0") == order("1.0.0")
    assert order("") < order("0.0.1")
    assert version()
