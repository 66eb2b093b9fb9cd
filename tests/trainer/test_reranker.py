"""Learning the order of lines: what is learnt, and that it is kept only where it was of use for what it had not seen."""

from types import SimpleNamespace

import numpy as np
import pytest

from lmm_mcp.artifacts import places
from lmm_mcp.evaluation import runs
from lmm_mcp.recall.reranking import DECISION, FEATURES
from trainer import later
from trainer.stages import reranker
from trainer.stages.reranker import Case, Dials

LONG_AFTER_ms = 1_790_000_000_000
QUICK = Dials(steps=40, lr=0.1)
CLUE = FEATURES.index("code")
SCORE = FEATURES.index("score")


def invented(number: int, kind: str, project: str, clue_F: int = CLUE, num_lines: int = 24) -> Case:
    """A question whose right lines are told by one feature and not by the score."""
    rng = np.random.default_rng([number, len(kind), len(project)])
    features = rng.normal(size=(num_lines, len(FEATURES))).astype(np.float32)
    features[:, SCORE] = np.sort(rng.random(num_lines))[::-1]
    right = np.argsort(-features[:, clue_F])[:2].tolist()
    worth = np.array([0.5 * (n in right) for n in range(num_lines)], np.float32)
    items = tuple(frozenset({n}) if n in right else frozenset() for n in range(num_lines))
    return Case(f"{kind}{project}{number}", kind, project, features, worth, items, np.full(num_lines, 150, np.float32))


def history(clue_of: dict[str, int]) -> list[Case]:
    return [
        invented(n, kind, f"p{project}", clue)
        for kind, clue in clue_of.items()
        for project in range(5)
        for n in range(16)
    ]


def test_what_tells_the_right_lines_is_learnt_and_the_same_cases_give_the_same_model():
    found = history({"prompt": CLUE, "error": CLUE})
    one, other = (reranker.fit(found, QUICK) for _ in range(2))
    assert int(np.argmax(np.abs(one.weight_F))) == CLUE
    assert np.array_equal(one.weight_F, other.weight_F)


def test_what_holds_for_every_kind_of_question_is_kept():
    decision = reranker.judge(history({"prompt": CLUE, "error": CLUE, "edit": CLUE}), QUICK)
    assert decision.kept, decision.reasons
    assert decision.gains["other kinds"]["cover@250"].low > 0.2


def test_what_helps_each_kind_in_its_own_way_is_not_kept_however_much_it_gains():
    clues = {"prompt": FEATURES.index("user"), "error": FEATURES.index("error"), "edit": FEATURES.index("edit")}
    decision = reranker.judge(history(clues), QUICK)
    assert decision.gains["other projects"]["cover@250"].low > 0
    assert not decision.kept
    assert any(reason.startswith("other kinds") for reason in decision.reasons)


def mean(value: float, low: float, high: float) -> runs.Mean:
    return runs.Mean(value, low, high, 100)


@pytest.mark.parametrize(
    ("projects", "kinds", "num", "kept"),
    [
        (mean(0.1, 0.05, 0.2), mean(0.1, 0.01, 0.2), 500, True),
        (mean(0.1, 0.05, 0.2), mean(0.1, 0.0, 0.2), 500, False),
        (mean(0.1, -0.01, 0.2), mean(0.1, 0.01, 0.2), 500, False),
        (mean(0.1, 0.05, 0.2), mean(0.1, 0.01, 0.2), 100, False),
    ],
    ids=["surely better", "perhaps no better on other kinds", "perhaps worse", "too few"],
)
def test_only_a_sure_gain_on_both_rulers_is_kept(projects, kinds, num, kept):
    gains = {"other projects": {"cover@250": projects}, "other kinds": {"cover@250": kinds}}
    assert reranker.decided(gains, {"prompt": num}).kept is kept


def test_one_kind_that_is_surely_worse_is_reason_enough():
    good, bad = mean(0.1, 0.05, 0.2), mean(-0.1, -0.2, -0.01)
    gains = {"other projects": {"cover@250": good}, "other kinds": {"cover@250": good, "error cover@250": bad}}
    decision = reranker.decided(gains, {"prompt": 500})
    assert decision.reasons == ("other kinds: error cover@250 -10.0 (-20.0 to -1.0), surely worse",)


def test_the_figure_is_the_share_of_what_was_needed_in_the_first_tokens():
    case = invented(1, "prompt", "p", num_lines=40)
    perfect, worst = case.worth_L, -case.worth_L
    assert reranker.figures(case, perfect) == {"cover@250": 1.0, "cover@1000": 1.0}
    assert reranker.figures(case, worst)["cover@250"] == 0.0


def test_questions_come_from_sessions_with_lines_that_answer_them(bakery):
    found = later.asked(bakery.ledger, bakery.archive, bakery.store, LONG_AFTER_ms)
    kinds = later.by_kind(found)
    assert {"prompt", "error", "ending"} <= set(kinds)
    assert later.at_most(found, 3) == later.at_most(list(reversed(found)), 3)
    lines = {(chunk.id, n): line for each in found for chunk in bakery.store.get([c for c, _ in each.lines])
             for n, line in enumerate(chunk.lines)}  # fmt: skip
    endings = [each for each in found if each.kind == "ending"]
    assert all(lines[place].role == "agent" for each in endings for place in each.lines)


def test_a_question_is_asked_of_the_real_recall_and_its_lines_are_weighed(bakery):
    found = later.asked(bakery.ledger, bakery.archive, bakery.store, LONG_AFTER_ms)
    cases = list(reranker.cases(bakery.recaller, found))
    assert cases
    for case in cases:
        assert case.features_LF.shape == (len(case.worth_L), len(FEATURES))
        assert case.worth_L.max() > case.worth_L.min()


def test_a_wish_to_stop_is_heard_between_two_questions(bakery):
    found = later.asked(bakery.ledger, bakery.archive, bakery.store, LONG_AFTER_ms)
    assert list(reranker.cases(bakery.recaller, found, lambda: "user")) == []


def test_without_a_sentence_model_nothing_is_learnt_and_the_next_step_is_told(bakery):
    from lmm_mcp.errors import TrainingError
    from trainer import ranking

    with pytest.raises(TrainingError, match="sentence model"):
        ranking.fit_order(bakery.home, {"LMM_EMBEDDER_NAME": "none"}, lambda: "", print)
    assert not (places.ranking_folder(bakery.home) / DECISION).exists()


def test_what_is_forgotten_while_the_order_is_learnt_is_found_among_its_sources(bakery, tmp_path, monkeypatch):
    from lmm_mcp import artifacts
    from lmm_mcp.errors import TrainingError
    from lmm_mcp.paths import Home
    from trainer import ranking

    home = Home(tmp_path / "lmm").ensure()
    rows = list(bakery.ledger.threads())
    ledger = SimpleNamespace(threads=lambda: iter(rows))

    def forgetting_meanwhile(*_):
        key = (rows[0].thread.agent, rows[0].thread.thread_id)
        del rows[0]
        artifacts.mark_unclean(home, [key])
        yield invented(1, "ask", "shop")

    monkeypatch.setattr(ranking, "_opened", lambda *_: (bakery.store, ledger, SimpleNamespace(version="m")))
    monkeypatch.setattr(later, "asked", lambda *_, **__: [])
    monkeypatch.setattr(reranker, "cases", forgetting_meanwhile)
    monkeypatch.setattr(reranker, "judge", lambda *_: SimpleNamespace(reasons=(), kept=True))
    monkeypatch.setattr(reranker, "as_json", lambda *_, **__: {})
    with pytest.raises(TrainingError, match="forgotten meanwhile"):
        ranking.fit_order(home, {}, lambda: "", print)
    assert not (places.ranking_folder(home) / DECISION).exists()
