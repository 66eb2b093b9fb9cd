"""The memory model in its child process: deadlines, swaps, crashes, hangs, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lmm_mcp.domain.writing import Offered
from lmm_mcp.model import runtime
from lmm_mcp.model.runtime import ChildRuntime, Weights
from lmm_mcp.model.writer import MemoryWriter
from lmm_mcp.paths import Home

OFFERED = [
    Offered(number, f"{number:016x}", 0, "user", text, "2026-02-15")
    for number, text in enumerate(("The port is 5433", "we use uv", "no idea"), start=1)
]
LOADED_s = 60.0
ROOT = Path(__file__).resolve().parents[2]


class Shelf:
    """What is served now, as the artifacts would tell."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self.now: Weights | None = None

    def serve(self, name: str) -> None:
        self.now = Weights(name, str(self._models / "base"), self._models / name)

    def __call__(self) -> Weights | None:
        return self.now


@pytest.fixture
def shelf(small_models) -> Shelf:
    found = Shelf(small_models)
    found.serve("says-two")
    return found


@pytest.fixture(scope="module")
def calm(tmp_path_factory, small_models) -> Iterator[tuple[ChildRuntime, Shelf]]:
    """One that is loaded once for all tests that do it no harm."""
    shelf = Shelf(small_models)
    shelf.serve("says-two")
    home = Home(tmp_path_factory.mktemp("calm") / "lmm").ensure()
    model = ChildRuntime(home, {**os.environ, "PYTHONPATH": str(ROOT)}, shelf, num_threads=1)
    yield model, shelf
    model.close()


@pytest.fixture
def started(tmp_path, shelf) -> Iterator[Callable[..., ChildRuntime]]:
    home = Home(tmp_path / "lmm").ensure()
    runtimes = []

    def start(**options) -> ChildRuntime:
        runtimes.append(ChildRuntime(home, dict(os.environ), shelf, num_threads=1, **options))
        return runtimes[-1]

    yield start
    for each in runtimes:
        each.close()


def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    limit_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < limit_s, "it did not come about"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")


def test_nothing_is_started_before_the_first_question_and_nothing_where_no_version_is_served(started, shelf):
    model = started()
    assert model.pid == 0
    shelf.now = None
    assert model.version == ""
    assert model.choose("which?", [1, 2], within_s=0.2) is None
    assert model.pid == 0


def test_the_first_question_does_not_wait_for_the_model_and_a_later_one_is_answered(calm):
    model, _ = calm
    begun_s = time.monotonic()
    assert model.choose("which?", [1, 2, 3], within_s=0.2) is None
    assert time.monotonic() - begun_s < 1.0
    assert model.prepare(within_s=LOADED_s)
    found = model.choose("which?", [1, 2, 3], within_s=5)
    assert found is not None and found.numbers == (2,)
    assert found.confidence > 0.9


def test_who_does_not_listen_holds_nobody_up(calm):
    model, shelf = calm
    shelf.serve("says-two")
    assert model.prepare(within_s=LOADED_s)
    pid = model.pid
    os.kill(pid, signal.SIGSTOP)
    begun_s = time.monotonic()
    for _ in range(12):  # more than a pipe holds
        assert model.choose("which?" * 2000, [1, 2], within_s=0.05) is None
    assert model.choose("which?" * 20_000, [1, 2], within_s=0.05) is None
    assert time.monotonic() - begun_s < 3
    os.kill(pid, signal.SIGCONT)
    until(lambda: model.choose("which?", [1, 2], within_s=1) is not None)
    assert model.pid == pid


def test_another_version_is_taken_up_between_two_questions_by_the_same_process(calm):
    model, shelf = calm
    shelf.serve("says-two")
    writer = MemoryWriter(model)
    assert model.prepare(within_s=LOADED_s)
    pid = model.pid
    written = writer.write("which port?", OFFERED, within_s=5)
    assert (written.chosen, written.model) == ((2,), "says-two")
    shelf.serve("says-none")
    assert model.prepare(within_s=LOADED_s)
    written = writer.write("which port?", OFFERED, within_s=5)
    assert (written.chosen, written.model) == ((), "says-none")
    assert model.pid == pid


def test_a_version_that_is_taken_back_leaves_nothing_loaded(calm):
    model, shelf = calm
    shelf.serve("says-two")
    assert model.prepare(within_s=LOADED_s)
    pid = model.pid
    shelf.now = None
    assert model.choose("which?", [1], within_s=1) is None
    until(lambda: is_gone(pid))


def test_a_child_that_is_killed_in_the_middle_of_a_request_costs_that_request_and_no_time(started, monkeypatch):
    monkeypatch.setattr(runtime, "FIRST_RETRY_s", 0.2)
    model = started()
    assert model.prepare(within_s=LOADED_s)
    os.kill(model.pid, signal.SIGSTOP)  # so that it is surely at it
    threading.Timer(0.3, os.kill, (model.pid, signal.SIGKILL)).start()
    begun_s = time.monotonic()
    assert model.choose("which?", [1, 2], within_s=10) is None
    assert time.monotonic() - begun_s < 3
    until(lambda: model.prepare(within_s=1))  # a new one is started after a while
    assert model.choose("which?", [1, 2], within_s=5) is not None


def test_a_child_that_hangs_is_late_for_each_question_and_then_ended(started, monkeypatch):
    monkeypatch.setattr(runtime, "STUCK_s", 0.3)
    monkeypatch.setattr(runtime, "FIRST_RETRY_s", 0.2)
    model = started()
    assert model.prepare(within_s=LOADED_s)
    stuck = model.pid
    os.kill(stuck, signal.SIGSTOP)
    begun_s = time.monotonic()
    assert model.choose("which?", [1, 2], within_s=0.3) is None
    assert time.monotonic() - begun_s < 1
    until(lambda: model.choose("which?", [1, 2], within_s=0.1) is None and is_gone(stuck))
    until(lambda: model.prepare(within_s=1))


def test_one_that_cannot_load_is_not_tried_again_at_once(started, shelf, small_models, tmp_path):
    shelf.now = Weights("torn", str(small_models / "base"), tmp_path / "nowhere")
    model = started()
    assert not model.prepare(within_s=LOADED_s)
    assert model.pid == 0
    assert model.choose("which?", [1], within_s=1) is None
    assert model.pid == 0


def test_a_child_leaves_when_nobody_asks_and_comes_back_when_somebody_does(started):
    model = started(idle_s=0.5)
    assert model.prepare(within_s=LOADED_s)
    pid = model.pid
    until(lambda: model.pid == 0)
    assert model.prepare(within_s=LOADED_s)  # at once: to leave was no failure
    assert model.pid not in (0, pid)


def test_a_child_that_holds_too_much_memory_leaves_and_counts_as_failed(started):
    model = started(memory_mb=1)
    model.choose("which?", [1], within_s=0.1)
    until(lambda: model.pid == 0)
    assert not model.prepare(within_s=1)
    assert model.pid == 0


def test_a_child_leaves_when_the_engine_is_killed(small_models, tmp_path):
    program = (
        "import sys, os, time; from pathlib import Path; from lmm_mcp.paths import Home\n"
        "from lmm_mcp.model.runtime import ChildRuntime, Weights\n"
        "models = Path(sys.argv[1])\n"
        "model = ChildRuntime(Home(Path(sys.argv[2])).ensure(), os.environ, lambda: Weights('v', str(models / 'base'), models / 'says-two'))\n"
        "model.choose('which?', [1], within_s=0.1)\n"
        "print(model.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(small_models), str(tmp_path / "lmm")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as engine:
        child = int(engine.stdout.readline())
        assert not is_gone(child)
        engine.kill()
    until(lambda: is_gone(child))


def test_many_who_ask_at_once_are_all_answered(calm):
    model, shelf = calm
    shelf.serve("says-two")
    assert model.prepare(within_s=LOADED_s)
    found = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(model.choose(f"which {n}?", [1, 2], within_s=20)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.numbers for each in found] == [(2,)] * 8


def test_what_is_written_is_checked_before_it_is_told(calm):
    model, shelf = calm
    shelf.serve("writes")
    assert model.prepare(within_s=LOADED_s)
    assert model.write("say it", max_new_tokens=40, within_s=10) == "The port is 5433 [1]."
    free = Choosing(model, is_free=True)
    lines = [Offered(1, "0" * 16, 0, "user", "since May the cache has 5433 as its port", "")]
    written = MemoryWriter(free, max_sentences=2).write("which port?", lines, within_s=10)
    assert [(each.text, each.cites) for each in written.sentences] == [("The port is 5433.", (1,))]
    wrong = [Offered(1, "0" * 16, 0, "user", "The port is 5432", "")]
    written = MemoryWriter(free, max_sentences=2).write("which port?", wrong, within_s=10)
    assert (written.sentences, written.dropped, written.chosen) == ((), 1, (1,))


def test_a_model_that_always_says_another_port_writes_the_one_in_its_line(calm):
    model, shelf = calm
    shelf.serve("writes")
    assert model.prepare(within_s=LOADED_s)
    lines = [Offered(3, "0" * 16, 0, "user", "The port is 5432", ""), Offered(4, "1" * 16, 0, "user", "so it is", "")]
    assert model.write("say it", max_new_tokens=60, within_s=10, copied=lines[:1]) == "The port is 5432 [3]."
    written = MemoryWriter(Choosing(model), max_sentences=2).write("which port?", lines, within_s=10)
    assert (written.sentences, written.dropped, written.chosen) == ((), 0, (3,)), "its line says that already"


class Choosing:
    """A runtime that chooses the first line and writes as another does, or as that does when nothing holds it."""

    version = "writes"

    def __init__(self, model: ChildRuntime, *, is_free: bool = False) -> None:
        self._model, self._is_free = model, is_free

    def write(self, prompt, *, max_new_tokens, within_s, copied):
        copied = () if self._is_free else copied
        return self._model.write(prompt, max_new_tokens=max_new_tokens, within_s=within_s, copied=copied)

    def choose(self, prompt, offered, *, within_s):
        return runtime.Chosen((offered[0],))


def test_the_engine_s_side_needs_no_torch():
    program = (
        "import sys\nfrom lmm_mcp.model import runtime, loopback, writer, validating, choosing\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8", check=True)
    assert not {"torch", "transformers", "peft", "tokenizers", "numpy"} & set(done.stdout.split())


def test_what_the_child_prints_is_never_taken_for_an_answer(small_models, tmp_path):
    load = {"id": 1, "do": "load", "base": str(small_models / "base")}
    lines = "\n".join(map(json.dumps, [load, {"id": 2, "do": "dance"}])) + "\n"
    done = subprocess.Popen(
        [sys.executable, "-m", "lmm_mcp.model"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    done.stdin.write(lines.encode())
    done.stdin.flush()
    said = [json.loads(done.stdout.readline()) for _ in range(2)]
    done.stdin.close()
    assert done.stdout.read() == b""
    assert done.wait(20) == 0
    done.stdout.close()
    assert said[0] == {"id": 1, "ok": True}
    assert said[1]["id"] == 2 and "error" in said[1]
