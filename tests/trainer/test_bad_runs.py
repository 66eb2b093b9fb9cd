"""Runs that get into trouble while an older model serves: it goes on serving, and the next step is told."""

import json
import os
import shutil
from pathlib import Path

import pytest

from ingest import service
from lmm_mcp import artifacts, training, training_runs
from lmm_mcp.artifacts import durable
from lmm_mcp.config import Embedder, Settings
from lmm_mcp.domain.verdict import Promote
from lmm_mcp.errors import TrainingError
from lmm_mcp.paths import Home
from lmm_mcp.store.chunks import ChunkStore
from trainer import cli, gate, lint, papers, run

pytestmark = pytest.mark.slow

DIALS = (
    *("--base", "small", "--slices", "choice,brief,fact,clue,chunk,general", "--max-steps", "4", "--epochs", "1"),
    *("--cpt-epochs", "0.2", "--max-lessons", "16", "--tokens-per-step", "1024", "--seq-len", "1024", "--no-placebo"),
)
LATER = "ba4e0009-6c55-4b07-9a1e-7d1c5a5f0a11"


def learn(home: Home, *options: str, stop=lambda: "") -> int:
    arguments = cli.parser().parse_args(["run", *DIALS, *options])
    return run.main(home, arguments, cli.dials_of(arguments), stop, lambda _line: None)


def newest(home: Home) -> tuple[Path, training_runs.RunState]:
    return next(training_runs.runs(home))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first run left, once there was one."""
    return tmp_path_factory.mktemp("kept") / "artifacts"


@pytest.fixture
def serving(home: Home, kept: Path) -> Home:
    """A memory of which v0001 knows and answers."""
    if not kept.exists():
        learn(home)
        artifacts.promote(home, newest(home)[1].version, force=True)
        shutil.copytree(home.artifacts, kept)
    shutil.rmtree(home.artifacts)
    shutil.copytree(kept, home.artifacts)
    assert served(home) == "v0001"
    return home


def served(home: Home) -> str:
    found = artifacts.served(home)
    return found.name if found else ""


def full(*_given: object, **_named: object) -> None:
    raise OSError(28, "No space left on device")


def remember_more(home: Home, user: Path) -> int:
    """Import one more session, as the ingest process does it, and join what the store has in pieces; how many passages there are."""
    folder = user / "claude" / "projects" / "p"
    folder.mkdir(parents=True)
    said = {
        "type": "user",
        "sessionId": LATER,
        "cwd": "/home/wren/oven",
        "uuid": "ba4e0009-0000-4000-8000-000000000000",
        "parentUuid": None,
        "timestamp": "2026-05-01T10:00:00.000Z",
        "message": {"role": "user", "content": "the new deck oven has its own curve, keep the old one for the rye"},
    }
    (folder / f"{LATER}.jsonl").write_text(json.dumps(said) + "\n", encoding="utf-8")
    env = {"HOME": str(user), "CLAUDE_CONFIG_DIR": str(user / "claude"), "CODEX_HOME": str(user / "codex")}
    assert service.run(home, env, Settings(embedder=Embedder(name="none")), (), stay=False) == 0
    store = ChunkStore.open(home.store)
    store.optimize(retain_s=0.0)
    return store.count()


@pytest.mark.parametrize("station", ["training", "judging"])
def test_an_import_and_upkeep_of_the_store_during_a_run_change_nothing_of_it(serving, tmp_path, station):
    before = ChunkStore.open(serving.store).count()
    grown: list[int] = []

    def look() -> str:
        assert served(serving) == "v0001"
        said = training.progress(serving)
        if not grown and said is not None and said.station == station and said.pid == os.getpid():
            grown.append(remember_more(serving, tmp_path / "user"))
        return ""

    assert learn(serving, "--seed", "2", stop=look) == 0
    assert grown == [before + 1]
    folder, state = newest(serving)
    assert (state.verdict, state.done, state.num_passages) == ("keep", training_runs.STATIONS, before)
    assert b"deck oven" not in (folder / papers.LESSONS).read_bytes() + (folder / papers.TEXTS).read_bytes()
    assert not artifacts.is_unclean(folder)
    assert served(serving) == "v0001"


def test_where_the_lint_refuses_every_lesson_the_run_ends_with_the_reason(serving, monkeypatch):
    """As where everything that was said holds a secret."""
    monkeypatch.setattr(lint.redaction, "count", lambda _text: 1)
    with pytest.raises(TrainingError, match=rf"no lesson of the kind .* is left .*{lint.SECRET}.*--slices"):
        learn(serving, "--seed", "2")
    folder, state = newest(serving)
    assert state.verdict == "failed"
    assert state.num_passages == ChunkStore.open(serving.store).count(), (
        "no schedule tries it again before there are more"
    )
    assert not (folder / papers.LESSONS).exists()
    assert lint.SECRET in training.progress(serving).error
    assert [each.name for each in artifacts.versions(serving)] == [served(serving)] == ["v0001"]


@pytest.mark.parametrize("full_at", ["commit", "promote"])
def test_a_disk_that_is_full_at_the_end_leaves_the_old_model_and_the_next_try_has_the_new_one(
    serving, monkeypatch, full_at
):
    monkeypatch.setattr(gate, "judge", lambda _hearing: Promote(()))
    real = durable.write

    def write(path: Path, data: bytes) -> None:
        if path == artifacts.places.current_file(serving):
            full()
        real(path, data)

    with monkeypatch.context() as broken:
        broken.setattr(durable, *(("settle", full) if full_at == "commit" else ("write", write)))
        with pytest.raises(TrainingError, match=r"No space left.*lmm train resume.*the old model serves"):
            learn(serving, "--seed", "2")
    assert served(serving) == "v0001"
    assert newest(serving)[1].next_station == "promotion"
    assert len(artifacts.versions(serving)) == (1 if full_at == "commit" else 2)
    learn(serving, "--resume")
    assert newest(serving)[1].verdict == "promote"
    assert served(serving) == "v0002"
    assert len(artifacts.versions(serving)) == 2, "the draft that failed is no version"
