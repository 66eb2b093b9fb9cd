"""The ingest process as its parents see it: started, watched, asked, sent home."""

import json
import os
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from filelock import FileLock

from lmm_mcp import children, samples
from lmm_mcp.children import Progress
from lmm_mcp.cli import following, program
from lmm_mcp.errors import StoreLocked
from lmm_mcp.paths import Home


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "lmm").ensure()


def test_a_child_reads_what_there_is_and_leaves(home):
    child = children.start_ingest(home, samples.environment(os.environ, home.root), stay=False)
    assert child.wait(60) == 0
    said = children.progress(home)
    assert (said.pid, said.phase, said.files_done, said.error) == (child.pid, "done", 4, "")
    assert not said.is_running


def test_a_folder_named_ingest_where_the_agent_stands_is_never_run(home, tmp_path, monkeypatch):
    for place in (tmp_path, home.root):
        (place / "ingest").mkdir()
        (place / "ingest" / "__init__.py").write_text("", encoding="utf-8")
        (place / "ingest" / "__main__.py").write_text("raise SystemExit(77)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    child = children.start_ingest(home, samples.environment(os.environ, home.root), stay=False)
    assert child.wait(60) == 0


def test_a_staying_child_leaves_when_its_pipe_closes(home):
    child = children.start_ingest(home, samples.environment(os.environ, home.root), stay=True)
    while (said := children.progress(home)) is None or said.phase != "watching":
        assert child.wait(0.05) is None
    assert child.wait(0.01) is None
    child.let_go()
    assert child.wait(30) == 0


def test_a_second_child_hands_its_paths_to_the_first(home, tmp_path):
    with FileLock(home.write_lock):
        child = children.start_ingest(home, dict(os.environ), stay=False, paths=[tmp_path / "some.jsonl"])
        assert child.wait(60) == 0
    (request,) = home.handover.glob("*.json")
    assert json.loads(request.read_text(encoding="utf-8"))["paths"] == [str(tmp_path / "some.jsonl")]


def test_requests_never_take_each_others_place(home):
    names = {children.hand_over(home, [Path("a.jsonl")]).name for _ in range(50)}
    assert len(names) == len(list(home.handover.glob("*.json"))) == 50


@pytest.mark.parametrize("written", ["", "{", "[]", "\xff", '{"pid": "x", "files_done": 3, "new": 1}'])
def test_progress_that_cannot_be_understood_is_no_error(home, written):
    home.progress.write_text(written, encoding="latin-1")
    assert children.progress(home) in (None, Progress(files_done=3))


def test_nobody_has_the_process_id_zero():
    assert not Progress(pid=0).is_running
    assert Progress(pid=os.getpid()).is_running


def test_the_write_lock_is_borrowed_from_a_staying_child_and_given_back(home):
    child = children.start_ingest(home, samples.environment(os.environ, home.root), stay=True)
    while (said := children.progress(home)) is None or said.phase != "watching":
        assert child.wait(0.05) is None
    with children.borrowed_write_lock(home, timeout_s=30):
        assert children.is_lock_wanted(home)
    assert not children.is_lock_wanted(home)
    child.stop()


def test_a_lock_that_nobody_lets_go_of_is_an_error_with_a_next_step(home):
    taken, over = threading.Event(), threading.Event()

    def hold():
        with FileLock(home.write_lock):
            taken.set()
            over.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(30)
    with pytest.raises(StoreLocked, match="try again"), children.borrowed_write_lock(home, timeout_s=0.2):
        pass
    over.set()
    holder.join()
    assert not children.is_lock_wanted(home)


class Holder(threading.Thread):
    """Somebody who holds the write lock until told otherwise."""

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home, self._taken, self.over = home, threading.Event(), threading.Event()

    def __enter__(self):
        self.start()
        self._taken.wait(30)
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def run(self):
        with FileLock(self._home.write_lock):
            self._taken.set()
            self.over.wait(60)


def test_importing_says_so_where_whoever_holds_the_lock_does_not_answer(home, monkeypatch, capsys):
    monkeypatch.setattr(following, "SILENT_s", 0.3)
    for name, value in samples.environment(os.environ, home.root).items():
        monkeypatch.setenv(name, value)
    home.progress.write_text(json.dumps({"pid": 2**22 + 1, "phase": "done", "chunks": 3}), encoding="utf-8")
    with Holder(home):
        assert program.run(["import"]) == 1
    told = capsys.readouterr()
    assert "has not answered" in told.err
    assert "run `lmm import` again" in told.err
    assert not told.out
    assert len(list(home.handover.glob("*.json"))) == 1  # the next one finds it


def test_a_living_process_that_does_not_go_on_is_named(home, monkeypatch):
    monkeypatch.setattr(following, "AT_WORK_SILENT_s", 0.3)
    home.progress.write_text(json.dumps({"pid": os.getpid(), "phase": "importing"}), encoding="utf-8")
    with Holder(home), pytest.raises(StoreLocked, match=f"process {os.getpid()} holds"):
        child = children.start_ingest(home, dict(os.environ), stay=False)
        following.follow(home, child, is_enough=following.is_imported)


@pytest.mark.parametrize("is_taken", [False, True])
def test_what_was_handed_to_a_process_that_died_is_read_all_the_same(home, is_taken):
    with Holder(home) as holder:
        child = children.start_ingest(home, samples.environment(os.environ, home.root), stay=False)
        assert child.wait(60) == 0
        (request,) = children.waiting_requests(home, child.pid)
        if is_taken:
            request.unlink()
            dead = Progress(pid=2**22 + 1, updated_ms=child.started_ms + 1)
            home.progress.write_text(json.dumps(asdict(dead)), encoding="utf-8")
        holder.over.set()
        said = following.follow(home, child, is_enough=following.is_imported)
    assert (said.pid, said.chunks > 0) == (child.pid, True)
    assert child.wait(60) == 0
    assert not list(home.handover.glob("*.json"))


def test_what_another_process_has_read_and_left_is_done(home):
    with Holder(home):
        child = children.start_ingest(home, dict(os.environ), stay=False)
        assert child.wait(60) == 0
        for request in children.waiting_requests(home, child.pid):
            request.unlink()
        done = Progress(pid=2**22 + 1, updated_ms=child.started_ms + 1, phase="done", chunks=3)
        home.progress.write_text(json.dumps(asdict(done)), encoding="utf-8")
        assert following.follow(home, child, is_enough=following.is_imported) == done


def test_a_wish_to_stop_stands_until_it_is_forgotten(home):
    assert not children.is_stop_wanted(home)
    children.forget_stop(home)  # nobody asked
    children.ask_to_stop(home)
    assert children.is_stop_wanted(home)
    children.forget_stop(home)
    assert not children.is_stop_wanted(home)


def test_who_waits_for_facts_may_leave_and_leaves_nothing_behind(home):
    class Enough(Exception):
        pass

    def enough():
        raise Enough

    with FileLock(home.write_lock), pytest.raises(Enough):
        children.derive(home, dict(os.environ), look_up=enough)
    assert list(home.handover.glob("*.json")) == []
