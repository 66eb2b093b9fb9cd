"""What a run goes on from: never from what learned later things, gently, and by no accident anew."""

import dataclasses
import json
import shutil

import pytest

from lmm_mcp import artifacts, training_runs
from lmm_mcp.artifacts import durable
from lmm_mcp.domain.verdict import Promote
from lmm_mcp.errors import BadInput
from lmm_mcp.model import network
from trainer import cli, gathering, papers, planning, run, stations

JUNE, MAY = "2026-06-01", "2026-05-01"
DIALS = ("--base", "small", "--preset", "cpu-tiny", "--no-placebo")


def plan_of(home, *options):
    """The plan of `lmm train run` with these options."""
    told = cli.parser().parse_args(["run", *DIALS, *options])
    return planning.going_on(home, planning.plan_of(told, cli.dials_of(told)))


def end_of(day):
    return plans_until(day).until_ms


def plans_until(day):
    told = cli.parser().parse_args(["run", *DIALS, "--until", day])
    return planning.plan_of(told, {})


def made(home, *, until_ms, serves=True):
    """A version with the recipe of `DIALS` and made-up weights, that learned up to then."""
    plan = plans_until(JUNE)
    folder = artifacts.draft(home)
    durable.write(durable.make_folder(folder / "adapter") / network.ADAPTER_FILE, b"weights")
    manifest = artifacts.Manifest(
        base="small",
        base_hash=planning.base_of(home, plan).fingerprint,
        store_version="",
        lessons_hash="",
        probes_hash="",
        recipe=dataclasses.asdict(plan.recipe),
        seed=0,
        run="",
        code_version="",
        libraries={},
        hardware="",
        verdict=Promote(()),
        until_ms=until_ms,
    )
    name = artifacts.commit(home, folder, manifest, None, artifacts.Sources.of((), (), as_of=0)).name
    if serves:
        artifacts.promote(home, name)
    return name


def test_a_run_up_to_a_day_goes_on_only_from_what_learned_nothing_later(home):
    assert plan_of(home, "--until", JUNE).from_checkpoint == ""
    made(home, until_ms=0)
    assert plan_of(home, "--until", JUNE).from_checkpoint == "", "nobody knows until when it learned"
    first = made(home, until_ms=end_of(JUNE))
    assert plan_of(home, "--until", JUNE).from_checkpoint == first
    assert plan_of(home).from_checkpoint == first
    assert plan_of(home, "--until", MAY).from_checkpoint == ""
    assert plan_of(home, "--dropout", "0.1").from_checkpoint == "", "an adapter keeps the one it was made with"


def test_what_learned_later_things_is_refused_also_where_it_is_named(home):
    unknown, known = made(home, until_ms=0), made(home, until_ms=end_of(JUNE))
    named = plan_of(home, "--until", MAY, "--from-checkpoint", known)
    with pytest.raises(BadInput, match=f"{known} learned what came after the day of --until"):
        planning.start_from(home, named)
    with pytest.raises(BadInput, match="does not say until when it learned"):
        planning.start_from(home, plan_of(home, "--until", MAY, "--from-checkpoint", unknown))
    later = plan_of(home, "--until", JUNE, "--from-checkpoint", known)
    assert planning.start_from(home, later) == artifacts.find(home, known).adapter


def test_a_run_that_has_no_version_yet_tells_by_itself_until_when_it_learned(home):
    folder = durable.make_folder(artifacts.run_folder(home, "2026-06-01-000000-001"))
    durable.write(durable.make_folder(folder / "training" / "adapter") / network.ADAPTER_FILE, b"weights")
    artifacts.write_sources(folder, artifacts.Sources.of((), (), as_of=0))
    plan = plan_of(home, "--until", MAY, "--from-checkpoint", folder.name)
    with pytest.raises(BadInput, match="does not say"):
        planning.start_from(home, plan)
    durable.write_json(folder / papers.ABOUT, {papers.UNTIL: end_of(JUNE)})
    with pytest.raises(BadInput, match="learned what came after"):
        planning.start_from(home, plan)
    durable.write_json(folder / papers.ABOUT, {papers.UNTIL: end_of(MAY)})
    assert planning.start_from(home, plan) == folder / "training" / "adapter"


def test_weights_know_of_no_less_than_what_they_go_on_from(home):
    later = made(home, until_ms=end_of(JUNE))
    free = plan_of(home, "--from-checkpoint", later)
    assert planning.learns_until_ms(home, free, end_of(MAY)) == end_of(JUNE), "the clock was set back"
    assert planning.learns_until_ms(home, free, end_of(JUNE) + 5) == end_of(JUNE) + 5
    assert planning.learns_until_ms(home, plan_of(home, "--from-checkpoint", "base"), 7) == 7
    assert planning.learns_until_ms(home, plan_of(home, "--until", MAY), 7) == end_of(MAY)


def test_what_serves_does_not_change_what_was_asked_for_and_a_name_does(home):
    before = plan_of(home).hash
    first = made(home, until_ms=end_of(JUNE))
    assert plan_of(home).from_checkpoint == first
    assert plan_of(home).hash == before
    named, based = plan_of(home, "--from-checkpoint", first), plan_of(home, "--from-checkpoint", "base")
    assert len({before, named.hash, based.hash}) == 3


def test_a_run_whose_start_is_gone_gives_way_to_a_new_one_and_until_then_is_gone_on_with(home):
    def begun():
        told = cli.parser().parse_args(["run", *DIALS])
        plan = planning.going_on(home, planning.plan_of(told, {}))
        return run._begun(home, plan, told, lambda: "", [].append)

    first = made(home, until_ms=end_of(JUNE))
    stopped = begun()
    assert stopped.plan.from_checkpoint == first
    second = made(home, until_ms=end_of(JUNE))
    assert begun().folder == stopped.folder, "it goes on from what it began with, whatever serves since"
    shutil.rmtree(artifacts.find(home, first).folder)
    shutil.move(stopped.folder, stopped.folder.with_name("2026-06-01-000000-001"))  # names are of seconds
    assert begun().plan.from_checkpoint == second


def test_weights_that_have_learned_before_go_on_at_half_the_rate_unless_a_rate_was_asked_for(home):
    based = plan_of(home)
    assert based.followed == based.recipe
    made(home, until_ms=end_of(JUNE))
    warm = plan_of(home)
    assert warm.followed.learning_rate == warm.recipe.learning_rate / 2 == based.recipe.learning_rate / 2
    assert warm.followed.cpt_learning_rate == based.recipe.cpt_learning_rate / 2
    assert warm.recipe == based.recipe, "a placebo, which begins at the base, learns as before"
    asked = plan_of(home, "--learning-rate", "0.001")
    assert asked.from_checkpoint and asked.followed.learning_rate == 0.001


def test_every_version_goes_on_from_what_serves_however_many_there_were(home):
    starts = []
    for _ in range(9):
        starts.append(plan_of(home).from_checkpoint)
        made(home, until_ms=end_of(JUNE), serves=len(starts) != 8)
    assert starts == ["", *(f"v000{n}" for n in range(1, 8)), "v0007"]


def test_lessons_hold_what_was_said_until_the_run_began_however_late_they_are_made(home, monkeypatch):
    began_ms = end_of(MAY)
    folder = durable.make_folder(artifacts.run_folder(home, "2026-05-01-000000-001"))
    state = training_runs.RunState(folder.name, began_ms, "")
    said = []
    late = run.Run(home, folder, plan_of(home), state, lambda: "", said.append)
    seen = []
    monkeypatch.setattr(
        gathering.lessons, "build", spying(gathering.lessons.build, lambda named: seen.append(named["until_ms"]))
    )
    stations.DO["lessons"](late)
    assert seen == [began_ms]
    assert json.loads((folder / papers.ABOUT).read_text(encoding="utf-8"))[papers.UNTIL] == began_ms


def spying(real, see):
    def called(*given, **named):
        see(named)
        return real(*given, **named)

    return called
