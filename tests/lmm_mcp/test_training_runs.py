"""What is kept of training runs, and for how long."""

import pytest

from lmm_mcp import artifacts, training_runs
from lmm_mcp.paths import Home
from lmm_mcp.training_runs import EXPERIMENT, NUM_KEPT, RunState


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "lmm").ensure()


def run(home: Home, name: str, **values: object):
    """A run with weights and checkpoints."""
    folder = artifacts.run_folder(home, name)
    for part in ("adapter", "checkpoints"):
        (folder / "training" / part).mkdir(parents=True)
    (folder / "lessons.jsonl").write_text("", encoding="utf-8")
    training_runs.save(folder, RunState(name, 1, "x", **values))
    return folder


def test_the_newest_runs_are_kept_and_nothing_of_them_that_only_a_training_needs(home):
    folders = [run(home, f"2026-03-{number:02}", stopped_by="user") for number in range(1, NUM_KEPT + 3)]
    training_runs.tidy(home)
    assert [folder.exists() for folder in folders] == [False] * 2 + [True] * NUM_KEPT
    assert (folders[-1] / "lessons.jsonl").exists()
    assert (folders[-1] / "training" / "adapter").exists(), "it may be gone on from by name"
    assert list(artifacts.runs_folder(home).rglob("checkpoints")) == []


def test_an_experiment_goes_on_from_its_checkpoints_whatever_is_trained_meanwhile(home):
    folder = run(home, "2026-03-01", verdict=EXPERIMENT)
    training_runs.tidy(home)
    assert (folder / "training" / "checkpoints").exists()


def test_what_somebody_was_deleting_when_he_died_goes(home):
    gone = artifacts.runs_folder(home) / ".gone-0123abcd"
    gone.mkdir(parents=True)
    training_runs.tidy(home)
    assert not gone.exists()


def test_a_run_of_which_something_was_forgotten_is_known_and_not_gone_on_with(home):
    folder = run(home, "2026-03-01", stopped_by="user")
    artifacts.write_sources(folder, artifacts.Sources.of([("codex", "a")], [], as_of=artifacts.forgettings(home)))
    assert training_runs.unfinished(home)[0] == folder
    artifacts.mark_unclean(home, [("codex", "a")])
    assert training_runs.unfinished(home) is None
    assert [state.run_id for _, state in training_runs.runs(home)] == ["2026-03-01"]
