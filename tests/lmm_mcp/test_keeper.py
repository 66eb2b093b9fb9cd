"""The keeper starts the ingest process again where it failed, so that nobody has to lend a hand."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lmm_mcp import children, samples
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
