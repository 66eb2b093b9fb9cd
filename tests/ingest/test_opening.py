"""What bears a session file's name and is none: nothing of it may be waited for."""

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest import sources
from ingest.readers import opening
from ingest.readers.base import json_lines, prefix_hash
from ingest.readers.claude_results import persisted_output
from ingest.readers.opening import first_bytes, open_file
from ingest.readers.registry import by_agent
from ingest.session import Cursor, Reader, SourceFile, Unreadable
from lmm_mcp.config import Sessions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such things there")
NAMES = {
    "claude-code": Path("projects/-w-p/x.jsonl"),
    "codex": Path("sessions/2026/03/02/rollout-2026-03-02T09-00-00-x.jsonl"),
    "notes": Path("2026-03.jsonl"),
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may only be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


every_kind = pytest.mark.parametrize(
    ("make", "kind"),
    [(pipe, "a named pipe"), (listener, "a socket"), (link_to_a_device, "a device"), (Path.mkdir, "a folder")],
)


@every_kind
@pytest.mark.parametrize("agent", NAMES)
def test_what_is_no_file_is_said_where_sessions_are_looked_for(
    make: Callable[[Path], None], kind: str, agent: str, tmp_path: Path
) -> None:
    home = tmp_path / agent
    odd = home / NAMES[agent]
    odd.parent.mkdir(parents=True)
    make(odd)
    env = {"HOME": str(tmp_path), "CLAUDE_CONFIG_DIR": str(home), "CODEX_HOME": str(home)}
    found = [item for item in sources.find(env, Sessions(), home) if str(item.path) == str(odd)]
    if (agent, kind) == ("codex", "a folder"):  # looked into, like any other folder there
        assert found == []
    else:
        assert found == [Unreadable(str(odd), 0, f"is {kind} and no session file")]


@pytest.mark.parametrize(
    ("make", "kind"), [(pipe, "a named pipe"), (listener, "a socket"), (link_to_a_device, "a device")]
)
def test_what_is_no_file_is_said_where_the_user_names_it(
    make: Callable[[Path], None], kind: str, tmp_path: Path
) -> None:
    odd = tmp_path / "x.jsonl"
    make(odd)
    said = Unreadable(str(odd), 0, f"is {kind} and no session file")
    assert sources.named([odd]) == [said]
    assert sources.named([tmp_path]) == [said]


@every_kind
@pytest.mark.parametrize("reader", [by_agent(name) for name in NAMES], ids=lambda reader: reader.agent)
def test_what_took_the_place_of_a_file_after_it_was_found_is_refused_and_not_waited_for(
    make: Callable[[Path], None], kind: str, reader: Reader, tmp_path: Path
) -> None:
    odd = tmp_path / NAMES[reader.agent].name
    make(odd)
    assert not reader.claims(odd)
    for attempt in (
        lambda: list(reader.read(odd, Cursor())),
        lambda: list(json_lines(odd, Cursor())),
        lambda: prefix_hash(odd),
    ):
        with pytest.raises(OSError):
            attempt()


@every_kind
def test_of_what_is_no_file_there_are_no_first_bytes(make: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    make(tmp_path / "odd")
    (tmp_path / "file").write_bytes(b"kind: " + kind.encode())
    assert first_bytes(tmp_path / "odd", 4) == first_bytes(tmp_path / "missing", 4) == b""
    assert first_bytes(tmp_path / "file", 4) == b"kind"


def test_a_pipe_in_place_of_a_side_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x" / "tool-results").mkdir(parents=True)
    pipe(tmp_path / "x" / "tool-results" / "b.txt")
    assert persisted_output(tmp_path / "x.jsonl", "b.txt") is None


def test_a_pipe_beside_a_sub_agent_costs_only_its_title(tmp_path: Path) -> None:
    path = tmp_path / "agent-a.jsonl"
    path.write_text('{"type":"user","uuid":"u","message":{"role":"user","content":"Moor it."}}\n', encoding="utf-8")
    pipe(tmp_path / "agent-a.meta.json")
    thread, *_ = by_agent("claude-code").read(path, Cursor())
    assert thread.title == ""


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "there.jsonl").write_bytes(b"{}\n")
    (tmp_path / "x.jsonl").symlink_to("there.jsonl")
    with open_file(tmp_path / "x.jsonl") as file:
        assert file.read() == b"{}\n"


@pytest.mark.parametrize(("link", "name"), [("history", ".aider.chat.history.md"), ("folder", ".crush/crush.db")])
def test_a_stranger_s_project_cannot_have_what_lies_elsewhere_read(link: str, name: str, tmp_path: Path) -> None:
    project, private = tmp_path / "cloned", tmp_path / "private"
    project.mkdir()
    target = private / Path(name).name
    private.mkdir()
    target.write_text(
        "# aider chat started at 2026-03-01 10:00:00\n\n#### what is nobody's business\n", encoding="utf-8"
    )
    if link == "folder":
        (project / ".crush").symlink_to(private)
    else:
        (project / name).symlink_to(target)
    (found,) = sources.find({"HOME": str(tmp_path / "home")}, Sessions(), tmp_path / "notes", [project])
    assert isinstance(found, Unreadable)
    assert found.path == str(project / name)
    assert "is a link out of its project" in found.problem
    (project / "own").mkdir()
    (project / "own" / target.name).write_bytes(target.read_bytes())
    if link == "history":  # what stays within is its own, and so is what the user names
        (project / name).unlink()
        (project / name).symlink_to(project / "own" / target.name)
        (found,) = sources.find({"HOME": str(tmp_path / "home")}, Sessions(), tmp_path / "notes", [project])
        assert isinstance(found, SourceFile)
        assert found.agent == "aider"
        (project / name).unlink()
        (project / name).symlink_to(target)
        (found,) = sources.named([project / name])
        assert isinstance(found, SourceFile)


def test_in_the_folder_of_an_agent_only_what_its_reader_looks_for_is_opened(tmp_path: Path) -> None:
    session = tmp_path / "old" / ".codex" / "sessions" / "2026" / "11" / "01" / NAMES["codex"].name
    session.parent.mkdir(parents=True)
    session.write_bytes(b"{}\n")
    unknown = [session.parents[4] / name for name in ("models.json", "log/tokens of last week.jsonl")]
    unknown += [tmp_path / "old" / ".gemini" / "accounts.json", tmp_path / "old" / "Cookies.sqlite"]
    for path in unknown:
        path.parent.mkdir(parents=True, exist_ok=True)
        pipe(path)  # who asked what it is would say so
    assert [item.path for item in sources.named([tmp_path])] == [session]
    assert [item.path for item in sources.named([unknown[0]])] == [str(unknown[0])]


def test_a_file_among_pipes_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "projects" / "-w-p"
    folder.mkdir(parents=True)
    pipe(folder / "a.jsonl")
    (folder / "b.jsonl").write_bytes(b"{}\n")
    env = {"HOME": str(tmp_path), "CLAUDE_CONFIG_DIR": str(tmp_path)}
    found = sources.find(env, Sessions(), tmp_path / "notes")
    assert [item.path for item in found if isinstance(item, SourceFile)] == [folder / "b.jsonl"]


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_a_folder_that_may_not_be_read_is_said_and_the_others_are_read(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / agent
    open_to_all = home / NAMES[agent]
    closed = open_to_all.parent.with_name("closed")
    for folder in (open_to_all.parent, closed):
        folder.mkdir(parents=True)
        (folder / open_to_all.name).write_bytes(b"{}\n")
    closing(closed, monkeypatch)
    env = {"HOME": str(tmp_path), "CLAUDE_CONFIG_DIR": str(home), "CODEX_HOME": str(home)}
    said = Unreadable(str(closed), 0, "folder cannot be listed: it may not be read")
    unreadable, file = sources.find(env, Sessions(), tmp_path / "notes")
    assert (unreadable, file.path) == (said, open_to_all)
    assert said in sources.named([home])


def closing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the rights to a folder away, from the superuser too, who is refused nothing and runs tests in containers."""
    scandir, access = os.scandir, os.access

    def refusing(path: str) -> object:
        if str(path) == str(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(os, "access", lambda path, how: str(path) != str(folder) and access(path, how))


def test_a_note_for_no_project_belongs_to_none_wherever_its_teller_stood(tmp_path: Path) -> None:
    path = tmp_path / "2026-03.jsonl"
    path.write_text('{"id":"n","at_ms":1,"text":"Moor it.","project":"","cwd":"/work/harbour"}\n', encoding="utf-8")
    thread, event, _ = by_agent("notes").read(path, Cursor())
    assert (thread.cwd, thread.remote, event.cwd) == ("", "", "")


def test_a_file_that_has_nothing_to_give_just_now_ends_there() -> None:
    end, other = os.pipe()  # as /proc/kmsg does, which calls itself a regular file
    os.set_blocking(end, False)
    with opening._NeverNone(end, "rb") as stream:
        assert stream.read(10) == b""
    os.close(other)
