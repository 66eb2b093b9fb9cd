"""A run that dies at every arrow between its stations ends with what one left alone has; and one that is promoted serves."""

import hashlib
import itertools
import json
import os
import shutil

import pytest

from lmm_mcp import artifacts, training_runs
from lmm_mcp.domain.verdict import Promote
from lmm_mcp.server.desk import Desk
from trainer import cli, gate, papers, run, stations, underway

SLICES = "choice,brief,fact,clue,chunk,general"
DIALS = (
    *("--base", "small", "--slices", SLICES, "--max-steps", "6", "--epochs", "1", "--cpt-epochs", "0.2"),
    *("--max-lessons", "24", "--tokens-per-step", "1024", "--seq-len", "1024", "--until", "2026-06-01"),
)
OF_TIMES = "G6"
"""The gate that looks at milliseconds: they differ from run to run."""
TIMES = frozenset({"latency_ms", "p95_ms"})
SHEETS = ("sheet-base.json", "sheet-new.json")


class Died(BaseException):
    """The process ends here, as by a signal that nothing catches."""


def learn(home, *options, say=lambda _: None):
    arguments = cli.parser().parse_args(["run", *DIALS, *options])
    return run.main(home, arguments, cli.dials_of(arguments), lambda: "", say)


def newest(home):
    return next(training_runs.runs(home))


def dies(monkeypatch, station, *, noted):
    """Let the next run die when that station is done: once its end is written down, or just before."""
    if noted:
        past = underway.Run.past

        def noting(self, name):
            found = past(self, name)
            if name == station:
                raise Died
            return found

        monkeypatch.setattr(underway.Run, "past", noting)
    else:
        do = stations.DO[station]

        def doing(at):
            do(at)
            raise Died

        monkeypatch.setattr(stations, "DO", {**stations.DO, station: doing})


def without_times(told):
    if isinstance(told, dict):
        return {name: without_times(each) for name, each in told.items() if name not in TIMES}
    return [without_times(each) for each in told] if isinstance(told, list) else told


def result_of(home):
    """All that a run came to, but for times and its name."""
    folder, state = newest(home)
    assert not state.is_unfinished
    read = {each: json.loads((folder / each).read_text(encoding="utf-8")) for each in (*SHEETS, "verdict.json")}
    read["verdict.json"]["findings"] = [
        each for each in read["verdict.json"]["findings"] if not each["gate"].startswith(OF_TIMES)
    ]
    (weights,) = (artifacts.find(home, state.version).folder / "adapter").glob("*.safetensors")
    (placebo,) = artifacts.placebos_folder(home).rglob("*.safetensors")
    return {
        **without_times(read),
        **{each: (folder / each).read_bytes() for each in (papers.LESSONS, papers.PROBES, papers.TEXTS)},
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "placebo": hashlib.sha256(placebo.read_bytes()).hexdigest(),
        "versions": [each.name for each in artifacts.versions(home)],
        "serves": artifacts.served(home),
        "told": (state.done, state.verdict, state.version, state.num_passages, state.store_version),
    }


SHEETS = ("sheet-base.json", "sheet-new.json")


@pytest.mark.slow
def test_a_run_that_dies_at_both_sides_of_every_arrow_ends_with_what_one_left_alone_has(home, monkeypatch):
    before = sorted(home.artifacts.iterdir())
    learn(home)
    undisturbed = result_of(home)
    for path in set(home.artifacts.iterdir()) - set(before):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for station, noted in itertools.product(training_runs.STATIONS, (False, True)):
        with monkeypatch.context() as broken, pytest.raises(Died):
            dies(broken, station, noted=noted)
            learn(home)
        state = newest(home)[1]
        assert state.is_unfinished
        assert state.done == training_runs.STATIONS[: training_runs.STATIONS.index(station) + noted]
        assert artifacts.served(home) is None
    assert learn(home) == 0
    assert len(list(training_runs.runs(home))) == 1
    assert result_of(home) == undisturbed


def promotes(monkeypatch):
    """Let the gate say yes, whatever it hears: random weights would never pass."""
    judge = gate.judge
    monkeypatch.setattr(gate, "judge", lambda hearing: Promote(judge(hearing).findings))


@pytest.fixture
def desk(home):
    """Recall with time enough for a model on a busy machine."""
    found = Desk(home, {**os.environ, "LMM_MODEL_WITHIN_MS": "20000"}, project="*")
    yield found
    if found.holdings.writer() is not None:
        found.holdings._serving.close()


def answered_by(desk):
    """What recall tells of the model that took part in an answer."""
    asked = "Why does the crust of the rye loaf burn, what about the oven_curve?"
    return next((line for line in desk.explain(asked, desk.recall(asked)) if line.startswith("memory model")), "")


@pytest.mark.slow
def test_what_the_gate_lets_through_serves_and_answers_until_the_next_one_does(home, monkeypatch, desk):
    promotes(monkeypatch)
    assert answered_by(desk) == ""
    told, serving = [], []

    def say(line):
        told.append(line)
        serving.append(artifacts.served(home))

    learn(home, "--no-placebo", say=say)
    first = artifacts.served(home)
    assert (first.name, first.manifest.run, first.manifest.start) == ("v0001", newest(home)[1].run_id, "")
    assert isinstance(first.manifest.verdict, Promote)
    assert newest(home)[1].verdict == "promote"
    assert told[-1].startswith("v0001 serves now")
    assert set(serving[:-1]) == {None}
    assert answered_by(desk).startswith("memory model v0001: shown the best")

    told.clear(), serving.clear()
    with monkeypatch.context() as broken, pytest.raises(Died):
        dies(broken, "promotion", noted=False)
        learn(home, "--no-placebo", say=say)
    folder, state = newest(home)
    assert state.is_unfinished
    assert told[0].endswith("going on from v0001 at half the rate")
    assert {each.name for each in serving} == {"v0001"}, "the old one serves to the end"
    assert artifacts.served(home).name == "v0002", "it died after that"
    learn(home, "--no-placebo", say=say)
    assert newest(home)[0] == folder, "a version that serves since does not make it another run"
    assert (newest(home)[1].version, newest(home)[1].verdict) == ("v0002", "promote")
    second = artifacts.served(home)
    assert [each.name for each in artifacts.versions(home)] == ["v0001", "v0002"]
    assert (second.manifest.start, second.manifest.until_ms) == ("v0001", first.manifest.until_ms)
    assert second.manifest.recipe["learning_rate"] == first.manifest.recipe["learning_rate"] / 2
    assert answered_by(desk).startswith("memory model v0002: shown the best")
    artifacts.rollback(home)
    assert answered_by(desk).startswith("memory model v0001: shown the best")
