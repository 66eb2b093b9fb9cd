"""The keeper starts the ingest process again where it failed, so that nobody has to lend a hand."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lmm_mcp import children, restarts, samples
from lmm_mcp.limits import TOO_MUCH_MEMORY_code
from lmm_mcp.paths import Home
from lmm_mcp.server import keeper
from lmm_mcp.server.keeper import Keeper


def until(holds: Callable[[], bool], at_most_s: float = 60) -> None:
    ends_s = time.monotonic() + at_most_s
    while not holds():
        assert time.monotonic() < ends_s, "waited in vain"
        time.sleep(0.05)


def is_watching(home: Home) -> bool:
    said = children.progress(home)
    return said is not None and said.is_running and said.phase == "watching"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Home, Keeper]]:
    """A memory home and its keeper, which looks and tries again soon."""
    monkeypatch.setattr(keeper, "_FIRST_RETRY_s", 0.1)
    monkeypatch.setattr(keeper, "LOOK_EVERY_s", 0.1)
    home = Home(tmp_path / "lmm").ensure()
    minder = Keeper(home, samples.environment(os.environ, home.root))
    yield home, minder
    minder.stop()
    until(lambda: not minder.child_pid)


def test_an_ingest_process_that_cannot_work_is_tried_again_until_it_can(
    kept: tuple[Home, Keeper], caplog: pytest.LogCaptureFixture
) -> None:
    home, minder = kept
    home.store.write_text("in the way", encoding="utf-8")
    minder.start()
    until(lambda: caplog.text.count("the ingest process ended with code") >= 2)
    home.store.unlink()
    until(lambda: is_watching(home))


def test_an_ingest_process_that_was_killed_is_replaced(kept: tuple[Home, Keeper]) -> None:
    home, minder = kept
    minder.start()
    until(lambda: is_watching(home))
    first = minder.child_pid
    os.kill(first, 9)
    until(lambda: minder.child_pid not in (0, first) and is_watching(home))


def test_an_ingest_process_that_holds_too_much_memory_again_and_again_is_started_ever_more_rarely(
    kept: tuple[Home, Keeper], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home, minder = kept
    started: list[float] = []
    ended: list[float] = []

    class Short:
        pid = 1

        def poll(self) -> int:
            ended.append(time.monotonic())
            restarts.note(home, held_mb=700, cap_mb=600)
            return TOO_MUCH_MEMORY_code

        def let_go(self) -> None:
            pass

    def start(*_: object, **__: object) -> Short:
        started.append(time.monotonic())
        return Short()

    monkeypatch.setattr(children, "start_ingest", start)
    monkeypatch.setattr(restarts, "_FIRST_PAUSE_s", 0.4)
    with caplog.at_level("WARNING"):
        minder.start()
        until(lambda: len(started) > restarts.MANY + 1)
    pauses = [after - before for before, after in itertools.pairwise(started)]
    assert pauses[restarts.MANY] > pauses[restarts.MANY - 1] >= 0.4 > max(pauses[: restarts.MANY - 1])
    assert "limits.memory_mb" in caplog.text
    until(lambda: len(ended) == len(started))  # a long pause has begun
    until(lambda: not minder.is_beginning())
    before = len(started)
    minder.look_now()  # a note was left, which waits for nothing
    until(lambda: len(started) > before, 0.5)
