"""The order of lines that was learnt: what it may change, and when it is not asked at all."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lmm_mcp import artifacts
from lmm_mcp.artifacts import durable, places
from lmm_mcp.artifacts.sources import Sources
from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.paths import Home
from lmm_mcp.recall.candidates import NOTHING
from lmm_mcp.recall.evidence import pick
from lmm_mcp.recall.query import understand
from lmm_mcp.recall.reranking import DECISION, FEATURES, FEATURES_VERSION, Model, features, load, of_json, reranked
from lmm_mcp.store.frequencies import Frequencies

DAY_ms = 86_400_000
QUERY = understand("which command loads the ferry timetable?", Frequencies.none())


def chunk(id: str, *lines: tuple[str, str], day: int = 20_000) -> Chunk:
    told = tuple(Line(role, text, Span(f"{id}-{n}", 0, len(text))) for n, (role, text) in enumerate(lines))
    when = (day * DAY_ms, day * DAY_ms)
    return Chunk(id, "codex", id, id, "github.com/acme/ferry", "main", *when, 0, 0, "ferry", told, (), (), "")


CHUNKS = [
    chunk(
        "a", ("agent", "The ferry timetable loads from a file, I think."), ("command", "ferryctl load --timetable 3")
    ),
    chunk("b", ("output", "timetable: 14 departures loaded for the ferry"), ("user", "load the ferry timetable again")),
]
SCORES = {"a": 1.0, "b": 0.6}


def model(**weights: float) -> Model:
    weight_F = np.array([weights.get(name.replace(" ", "_"), 0.0) for name in FEATURES], np.float32)
    zero_F = np.zeros(len(FEATURES), np.float32)
    return Model(zero_F, zero_F + 1, weight_F, base=1.0)


def lines(**weights: float) -> list[str]:
    found = pick(QUERY, CHUNKS, SCORES, without=("supersession",), reranker=model(**weights) if weights else None)
    return [each.text for each in found]


def test_every_feature_has_a_finite_value_for_every_line():
    found = pick(QUERY, CHUNKS, SCORES, without=("supersession",))
    table = features(found, QUERY, NOTHING)
    assert table.shape == (len(found), len(FEATURES))
    assert np.isfinite(table).all()
    by_name = dict(zip(FEATURES, table[[each.line.role for each in found].index("command")], strict=True))
    assert (by_name["command"], by_name["user"], by_name["number"], by_name["asks command"]) == (1, 0, 1, 1)


def test_a_model_without_weights_leaves_the_order_as_it_is():
    assert lines(score=0.0, words=0.0) == lines()


def test_a_model_brings_forward_what_it_prefers_and_scores_keep_their_places():
    before = pick(QUERY, CHUNKS, SCORES, without=("supersession",))
    after = reranked(before, QUERY, NOTHING, model(command=50.0))
    assert before[0].line.role != "command"
    assert after[0].line.role == "command"
    assert [each.score for each in after] == [each.score for each in before]
    assert {each.text for each in after} == {each.text for each in before}


def test_a_question_in_a_language_the_sentence_model_may_not_know_is_left_alone():
    before = pick(QUERY, CHUNKS, SCORES, without=("supersession",))
    assert reranked(before, QUERY, replace(NOTHING, is_foreign=True), model(command=50.0)) == before


def test_the_part_can_be_left_out():
    prefers_commands = model(command=50.0)
    without = pick(QUERY, CHUNKS, SCORES, without=("supersession", "reranker"), reranker=prefers_commands)
    assert [each.text for each in without] == lines()


def keep(home: Home, **changed: object) -> None:
    folder = durable.make_folder(places.ranking_folder(home))
    artifacts.write_sources(folder, Sources.of([("codex", "t1")], (), as_of=0))
    told = {"kept": True, "features": FEATURES_VERSION, "embedder": "v1", "model": model(command=2.0).as_json()}
    durable.write_json(folder / DECISION, told | changed)


def test_what_was_kept_is_served_as_it_was_written(tmp_path):
    home = Home(tmp_path)
    assert load(home, "v1") is None
    keep(home)
    found = load(home, "v1")
    assert found is not None
    assert found.as_json() == model(command=2.0).as_json()


@pytest.mark.parametrize(
    "changed",
    [
        {"kept": False},
        {"kept": "yes"},
        {"features": FEATURES_VERSION + 1},
        {"embedder": "another"},
        {"model": {"base": 1.0}},
        {"model": model().as_json() | {"weight_F": [1.0]}},
        {"model": model().as_json() | {"base": float("nan")}},
        {"model": model().as_json() | {"scale_F": [0.0] * len(FEATURES)}},
    ],
    ids=["not kept", "no yes or no", "other features", "other vectors", "half", "too short", "no number", "no scale"],
)
def test_what_does_not_fit_is_not_served(tmp_path, changed):
    keep(Home(tmp_path), **changed)
    assert load(Home(tmp_path), "v1") is None


@pytest.mark.parametrize(("until_ms", "is_served"), [(5, True), (6, False), (0, False), (None, False)])
def test_of_the_past_only_what_was_learnt_before_is_served(tmp_path, until_ms, is_served):
    keep(Home(tmp_path), **({} if until_ms is None else {"until_ms": until_ms}))
    assert (load(Home(tmp_path), "v1", as_of_ms=5) is not None) == is_served
    assert load(Home(tmp_path), "v1") is not None


def test_a_torn_decision_is_not_served(tmp_path):
    keep(Home(tmp_path))
    place = places.ranking_folder(Home(tmp_path)) / DECISION
    place.write_text(place.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    assert load(Home(tmp_path), "v1") is None


def test_what_was_learnt_from_a_forgotten_session_is_served_no_longer(tmp_path):
    home = Home(tmp_path)
    keep(home)
    artifacts.mark_unclean(home, [("codex", "another thread")])
    assert load(home, "v1") is not None
    artifacts.mark_unclean(home, [("codex", "t1")])
    assert load(home, "v1") is None


def test_a_model_survives_json():
    told = json.loads(json.dumps(model(words=0.5).as_json()))
    found = of_json(told)
    assert found is not None
    assert np.array_equal(found.weight_F, model(words=0.5).weight_F)
