"""The matrix of versions and weeks, and what it tells of forgetting."""

import math

import pytest

from lmm_mcp.domain.verdict import Outcome, ScoreSheet
from trainer import forgetting_curve as curve
from trainer.forgetting_curve import Row


def row(version: str, learned: str = "", **scores: float) -> Row:
    return Row(version, 1, tuple(learned.split()), {name: (score, 10) for name, score in scores.items()})


FADING = (
    row("base", a=0.1, b=0.1, c=0.1),
    row("v0001", "a", a=0.8, b=0.1, c=0.1),
    row("v0002", "b", a=0.4, b=0.8, c=0.3),
    row("v0003", "c", a=0.2, b=0.4, c=0.8),
)


def test_backward_transfer_is_what_is_left_since_it_was_learned():
    found = curve.transfer(FADING)
    assert found.backward == pytest.approx(((0.2 - 0.8) + (0.4 - 0.8)) / 2)


def test_forward_transfer_is_what_was_known_before_it_was_learned():
    assert curve.transfer(FADING).forward == pytest.approx(((0.1 - 0.1) + (0.3 - 0.1)) / 2)


def test_what_halves_with_every_version_has_a_half_life_of_one():
    assert curve.transfer(FADING).half_life_versions == pytest.approx(1.0)


def test_what_is_kept_lasts():
    rows = [row(f"v{n}", "a" if n == 0 else "", a=0.8) for n in range(5)]
    found = curve.transfer(rows)
    assert (found.backward, found.half_life_versions, found.slope) == (0.0, math.inf, 0.0)
    assert not found.is_alarming


def test_a_slow_loss_that_no_gate_sees_in_one_night_is_told():
    rows = [row(f"v{n}", "a" if n == 0 else "", a=0.8 - 0.015 * n) for n in range(8)]
    assert curve.transfer(rows).is_alarming
    assert "look at the replay" in curve.table(rows)


def test_nothing_is_told_of_nothing():
    assert curve.transfer(()) == curve.Transfer(None, None, None, None)
    assert "no version" in curve.table(())
    assert curve.transfer([row("v1", "a", a=0.0), row("v2", a=0.0)]).half_life_versions is None


def test_a_line_of_the_matrix_is_what_a_version_answered_without_evidence():
    said = (
        Outcome("1", "fact", "", "2026-W06", 1.0),
        Outcome("2", "fact", "", "2026-W06", 0.0),
        Outcome("3", "general", "", "general", 1.0),
        Outcome("4", "fact", "", "2026-W06", 1.0, should_abstain=True),
    )
    sheet = ScoreSheet("v0003", "h", {"weights": said, "retrieval": said[:1]})
    assert curve.row_of(sheet, made_ms=5, learned=["2026-W06"]) == Row(
        "v0003", 5, ("2026-W06",), {"2026-W06": (0.5, 2)}
    )


def test_the_matrix_is_kept_and_read_back(tmp_path):
    path = tmp_path / "artifacts" / "forgetting.json"
    assert curve.load(path) == ()
    curve.save(path, FADING)
    assert curve.load(path) == FADING
    again = curve.added(curve.load(path), row("v0003", "c", a=0.5))
    assert [each.version for each in again] == ["base", "v0001", "v0002", "v0003"]
    path.write_text('{"rows": [3]}', encoding="utf-8")
    assert curve.load(path) == ()


def test_the_table_marks_where_a_cohort_was_learned():
    lines = curve.table(FADING).splitlines()
    assert lines[0].split() == ["version", "a", "b", "c"]
    assert lines[2].split() == ["v0001", "*0.80", "0.10", "0.10"]
    assert lines[-1].startswith("backward transfer -0.500")


def sheet_of(model: str, weights: dict[str, float], base: dict[str, float]) -> ScoreSheet:
    arms = {"weights": weights, "no memory": base}
    said = {
        arm: tuple(Outcome(f"{cohort} {arm}", "fact", "", cohort, score) for cohort, score in scores.items())
        for arm, scores in arms.items()
    }
    return ScoreSheet(model, "p", said)


def test_runs_write_the_base_and_what_served_before_so_that_forward_transfer_is_known(tmp_path):
    first, second = sheet_of("v1", {"a": 0.8}, {"a": 0.1}), sheet_of("v2", {"a": 0.6, "b": 0.9}, {"a": 0.1, "b": 0.2})
    rows = curve.after_run((), curve.row_of(first, made_ms=1, learned=["a"]), first, None)
    before = sheet_of("v1", {"a": 0.7, "b": 0.5}, {})
    rows = curve.after_run(rows, curve.row_of(second, made_ms=2, learned=["a", "b"]), second, before)
    assert [each.version for each in rows] == ["base", "v1", "v2"]
    assert rows[1].scores["a"][0] == 0.8, "what it said when it was made stands"
    found = curve.transfer(rows)
    assert found.forward == pytest.approx(0.5 - 0.2)
    assert found.backward == pytest.approx(0.6 - 0.8)
    curve.save(tmp_path / "forgetting.json", rows)
    assert curve.load(tmp_path / "forgetting.json") == rows


def test_what_was_refused_is_shown_and_counts_for_no_transfer(tmp_path):
    refused = Row("v0004", 1, ("a",), {"a": (0.0, 10)}, promoted=False)
    rows = (*FADING, refused)
    assert curve.transfer(rows) == curve.transfer(FADING)
    assert curve.table(rows).splitlines()[5].startswith("v0004") and "not promoted" in curve.table(rows)
    curve.save(tmp_path / "forgetting.json", rows)
    assert not curve.load(tmp_path / "forgetting.json")[-1].promoted
