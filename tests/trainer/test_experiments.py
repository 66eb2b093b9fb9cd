"""Four recipes on one small real memory: what each learns, that all are asked alike, and that nothing is done twice or serves."""

import json
import os
import shutil
import sys
from dataclasses import replace

import pytest

from lmm_mcp import artifacts, training, training_runs
from lmm_mcp.artifacts import unlearning
from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.verdict import Outcome
from lmm_mcp.errors import BadInput, TrainingBusy, TrainingError
from lmm_mcp.paths import Home
from trainer import ablations, cli, experiments, gathering, planning, scoring
from trainer.base import small_base
from trainer.base_texts import items

DIALS = (
    *("--base", "small", "--slices", "choice,fact,chunk", "--max-steps", "3", "--epochs", "1", "--cpt-epochs", "0.2"),
    *("--max-lessons", "24", "--tokens-per-step", "1024", "--seq-len", "1024", "--until", "2026-06-01"),
    *("--renderings", "2", "--preset", "cpu-tiny", "--max-probes", "8"),
)


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("base") / "small", [each.prompt for each in items(3, 200)])


@pytest.fixture
def home(bakery, base_folder, tmp_path, monkeypatch):
    there = Home(tmp_path / "lmm")
    shutil.copytree(bakery.home.root, there.root)
    shutil.rmtree(there.artifacts, ignore_errors=True)
    shutil.copytree(base_folder, there.artifacts / "bases" / "small")
    monkeypatch.setenv("LMM_HOME", str(there.root))
    monkeypatch.setenv("LMM_EMBEDDER_NAME", "none")
    for name in ("HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nobody"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = os.umask(0o077)
    yield there
    os.umask(before)


def compare(home, *options, stop=lambda: "", name="lmm-runs"):
    """Lines of `lmm experiment` with these options."""
    told = []
    arguments = cli.parser().parse_args(["experiment", name, *DIALS, *options])
    assert experiments.main(home, arguments, cli.dials_of(arguments), stop, told.append) == 0
    return told


def compared(home):
    return [(folder, state) for folder, state in training_runs.runs(home) if state.verdict == training_runs.EXPERIMENT]


def test_four_runs_are_compared_once_and_nothing_of_them_serves(home):
    told = compare(home)
    (at,) = [n for n, line in enumerate(told) if "loss median" in line]
    names = [line[:24].strip() for line in told[at + 1 : at + 9]]
    assert names == [
        *("base", "1 baseline", "2 salience", "3 codebase", "4 cpt, dedup"),
        *("retrieval", "retrieval + base", "retrieval + 4 cpt, dedup"),
    ]
    found = list(training_runs.runs(home))
    assert [state.verdict for _, state in found] == [training_runs.EXPERIMENT] * 5
    assert all(not state.is_unfinished and state.done == experiments.STEPS for _, state in found)
    asked = {(folder / "probes.jsonl").read_bytes() for folder, _ in found}
    assert len(asked) == 1, "all answer the same probes"
    assert artifacts.served(home) is None
    assert artifacts.versions(home) == []
    assert not (home.artifacts / "probes").exists(), "the bank of what judges candidates is as it was"
    assert training_runs.unfinished(home) is None
    assert training_runs.last_finished(home) is None, "nobody takes it for a training"
    assert not list(home.artifacts.rglob("checkpoints/*"))
    assert {path.stat().st_mode & 0o077 for folder, _ in found for path in folder.rglob("*")} == {0}

    before = {path: path.stat().st_mtime_ns for folder, _ in found for path in folder.rglob("*")}
    again = compare(home)
    assert again == told[at:]
    assert before == {path: path.stat().st_mtime_ns for folder, _ in found for path in folder.rglob("*")}

    threads = [
        tuple(json.loads(line)["threads"][0])
        for line in (found[0][0] / "lessons.jsonl").read_text("ascii").splitlines()
    ]
    unlearning.mark_unclean(home, threads[:1])
    assert not (found[0][0] / "training").exists(), "forgetting reaches what an experiment trained"


def test_a_stopped_experiment_goes_on_where_it_was_and_hides_no_stopped_training(home):
    training_of_before = artifacts.runs_folder(home) / "2020-01-01-1"
    training_of_before.mkdir(parents=True)
    training_runs.save(training_of_before, training_runs.RunState("2020-01-01-1", 1, "x", stopped_by="user"))

    def in_the_third():
        learned = [state for _, state in training_runs.runs(home) if "training" in state.done]
        return "user" if len(learned) == 3 else ""

    assert "goes on" in compare(home, stop=in_the_third)[-1]
    half = {state.run_id: state.done for _, state in compared(home)}
    assert sorted(map(len, half.values())) == [1, 1, 2, 3, 3]
    assert training_runs.unfinished(home)[0] == training_of_before
    texts = {folder: (folder / "lessons.jsonl").read_bytes() for folder, _ in compared(home)}
    assert any("retrieval" in line for line in compare(home))
    assert {folder: (folder / "lessons.jsonl").read_bytes() for folder, _ in compared(home)} == texts


def test_each_run_has_one_thing_more_than_the_one_before(home):
    arguments = cli.parser().parse_args(["experiment", "lmm-runs", *DIALS, "--max-lessons", "0"])
    plan = planning.plan_of(arguments, cli.dials_of(arguments))
    pool = gathering.pooled(home, os.environ, plan, lambda: None, freezes=False)
    base, first, second, third, fourth = (
        ablations.lessons_of(each, pool, plan, max_per_memory=1) for each in ablations.RUNS
    )
    assert base == []
    assert {each.id for each in first} == {each.id for each in second}
    assert {each.weight for each in first} == {1.0}
    assert len({each.weight for each in second}) > 1
    assert {each.category for each in third} - {each.category for each in second} == {ablations.CODEBASE}
    assert {each.id for each in fourth} < {each.id for each in third}
    of_one = [(each.memory, each.slice) for each in {each.id: each for each in fourth}.values()]
    assert len(of_one) == len(set(of_one))


def test_an_experiment_nobody_knows_that_lacks_something_or_is_beside_a_training_is_refused(home, monkeypatch):
    with pytest.raises(BadInput, match="lmm-runs"):
        compare(home, name="everything")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with training.lock(home).acquire(timeout=0), pytest.raises(TrainingError, match="pip install bitsandbytes"):
        compare(home, "--method", "qlora")
    with training.lock(home).acquire(timeout=0), pytest.raises(TrainingBusy, match="lmm train log"):
        compare(home)


def test_a_row_tells_what_was_covered_and_what_was_said_again():
    probes = [
        Probe("fact", category, f"q{n}", (f"port {5000 + n}",), "f", f"m{n}", "2026-W01")
        for n, category in enumerate(["project fact", "project fact", "procedure"])
    ]
    outcomes = [
        Outcome(probe.id, "fact", probe.category, probe.cohort, score, output)
        for probe, score, output in zip(probes, (1.0, 0.0, 0.0), ("port 5000", "port 5000", ""), strict=True)
    ]
    row = scoring.row_of("x", probes, outcomes, [1.0, 2.0, 9.0], lambda _: 1.0)
    assert (row.num, row.loss_median, row.loss_mean) == (3, 2.0, 4.0)
    assert row.right == pytest.approx(1 / 3)
    assert row.strict == pytest.approx(1 / 3)
    assert row.loose == pytest.approx((1 + 0.5 + 0) / 3)
    assert row.by_category["project fact"] == (2, 0.5, 0.5, 0.75)
    lines = list(scoring.table([row]))
    assert any("project fact (2)" in line for line in lines)
    assert all(len(line) <= 80 for line in lines[:-1])
    longest = f"{scoring.RETRIEVAL} + {ablations.RUNS[-1].name}"
    _, of_categories = "\n".join(list(scoring.table([row, replace(row, name=longest)]))[:-1]).split("\n\n")
    assert len({len(line) for line in of_categories.splitlines()}) == 1, "figures stand below each other"


def test_an_experiment_writes_nothing_of_what_was_forgotten_while_it_read(home, bakery, monkeypatch):
    threads = [(row.thread.agent, row.thread.thread_id) for row in bakery.ledger.threads()]
    pooled = gathering.pooled

    def forgetting_meanwhile(*given, **named):
        found = pooled(*given, **named)
        unlearning.mark_unclean(home, threads)
        return found

    monkeypatch.setattr(gathering, "pooled", forgetting_meanwhile)
    with pytest.raises(TrainingError, match="forgotten meanwhile"):
        compare(home)
    assert list(artifacts.runs_folder(home).rglob("lessons.jsonl")) == []
