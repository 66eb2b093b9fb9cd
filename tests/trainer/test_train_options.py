"""What `lmm train` makes of its options before and around the training itself."""

import os

import pytest

from lmm_mcp import artifacts, training
from lmm_mcp.cli.training import _from_anywhere
from lmm_mcp.errors import BadInput, TrainingBusy
from lmm_mcp.paths import Home
from trainer import cli, planning, ranking


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "lmm").ensure()


def test_folders_are_named_as_they_are_known_where_the_trainer_stands(tmp_path, monkeypatch):
    (tmp_path / "mine" / "base").mkdir(parents=True)
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path / "mine" / "base")
    assert _from_anywhere(["run", "--base", "./mine/base", "--seed", "2"]) == ["run", "--base", here, "--seed", "2"]
    assert _from_anywhere(["run", "--from-checkpoint=mine/base"]) == ["run", f"--from-checkpoint={here}"]
    names = ["run", "--base", "tiny", "--from-checkpoint", "v0003", "--base=owner/name", "./mine"]
    assert _from_anywhere(names) == names, "names of bases and versions, and what is no folder's option, stay"


@pytest.mark.parametrize("option", ["--renderings=-1", "--max-per-memory=0", "--max-lessons=-5", "--processes=0"])
def test_too_few_of_anything_are_refused_by_name(option):
    told = cli.parser().parse_args(["run", "--preset", "cpu-tiny", option])
    with pytest.raises(BadInput, match=f"{option.replace('=', ' ')} is too few"):
        planning.plan_of(told, {})


def test_dials_tell_the_default_that_a_run_has(capsys):
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["run", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    has = planning.plan_of(cli.parser().parse_args(["run", "--preset", "cpu-tiny"]), {}).recipe
    assert f"--rank INT default {has.rank} " in told
    assert f"--no-shuffled default {has.shuffled} " in told
    assert "--learning-rate FLOAT default what the preset says " in told
    for dial, kind in (("warmup", "FLOAT"), ("top_k", "INT"), ("clip", "FLOAT"), ("saves", "INT")):
        assert f"--{dial.replace('_', '-')} {kind} default {getattr(has, dial)} " in told


@pytest.mark.parametrize("stage", ["ranking", "embedder"])
def test_what_recall_learns_has_no_dry_run_that_would_not_be_one_and_no_dials(home, stage, monkeypatch):
    monkeypatch.setattr(ranking, "fit_order", None)
    monkeypatch.setattr(ranking, "fit_model", None)
    told = cli.parser().parse_args(["run", "--stage", stage, "--dry-run"])
    with pytest.raises(BadInput, match="no dry run"):
        told.does(home, told, lambda: "")
    told = cli.parser().parse_args(["run", "--stage", stage, "--max-steps", "3"])
    with pytest.raises(BadInput, match="leave out --max-steps"):
        told.does(home, told, lambda: "")


@pytest.mark.parametrize("words", [["run", "--stage", "ranking"], ["ranking"]])
def test_an_older_wish_to_stop_keeps_nobody_from_learning_the_order(home, words, monkeypatch):
    monkeypatch.setattr(ranking, "fit_order", lambda home, _env, should_stop, _say: 7 if should_stop() else 0)
    told = cli.parser().parse_args(words)
    training.ask_to_stop(home, by="user")
    assert told.does(home, told, lambda: training.stop_wanted(home)) == 0
    with training.lock(home).acquire(timeout=0), pytest.raises(TrainingBusy, match="lmm train log"):
        told.does(home, told, lambda: "")


def test_the_placebos_that_were_used_last_are_kept(home):
    for number in range(planning.NUM_PLACEBOS + 2):
        folder = artifacts.placebos_folder(home) / f"p{number}"
        folder.mkdir(parents=True)
        os.utime(folder, (number, number))
    os.utime(artifacts.placebos_folder(home) / "p0")
    planning.drop_old_placebos(home)
    left = {folder.name for folder in artifacts.placebos_folder(home).iterdir()}
    assert left == {"p0", *(f"p{number}" for number in range(3, planning.NUM_PLACEBOS + 2))}


def test_a_small_network_hears_a_fact_in_more_wordings_rather_than_more_often_and_whoever_asks_for_a_number_gets_it():
    def planned(*options):
        told = cli.parser().parse_args(["run", *options])
        return planning.plan_of(told, cli.dials_of(told))

    tiny = planned("--preset", "cpu-tiny")
    assert (tiny.options.renderings, dict(tiny.repeats)["fact"]) == (12, 5)
    assert planned("--preset", "cpu-tiny", "--renderings", "3").options.renderings == 3
    large = planned("--preset", "8gb", "--device", "cpu")
    assert (large.options.renderings, large.repeats) == (6, ())
