"""The ingest process as its parents see it: started, watched, asked, sent home."""

import json
import os
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from lmm_mcp import children, samples
from lmm_mcp.children import Progress
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
