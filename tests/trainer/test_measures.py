"""Figures over outputs, on examples small enough to be worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import measures

REFERENCE = "Sofia moved checkout.py to port 8081, so `uv run pytest -q` passes with Python 3.12 again"


def test_strict_coverage_counts_only_what_must_be_repeated_to_the_letter():
    keywords = measures.keywords_strict(REFERENCE)
    assert {"checkout.py", "8081", "pytest", "uv", "-q", "3.12"} <= keywords
    assert "Sofia" not in keywords
    assert measures.coverage({"checkout.py", "8081"}, "it is in checkout.py, on port 8081") == 1.0
    assert measures.coverage({"checkout.py", "8081"}, "it is in checkout, on port 80815") == 0.0


def test_loose_coverage_counts_names_and_the_rarest_terms_too():
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu omicron"
    loose = measures.keywords_loose(f"{words} Sofia")
    assert "sofia" in loose
    assert len(loose - {"sofia"}) == measures.NUM_TOP_TERMS
    rare = measures.keywords_loose(words, rarity=lambda word: 9.0 if word == "omicron" else 1.0)
    assert "omicron" in rare
    assert "omicron" not in measures.keywords_loose(words)


def test_a_reference_without_keywords_has_no_coverage():
    assert measures.coverage(measures.keywords_strict("as before"), "anything") is None


def test_diversity_is_the_mean_over_all_pairs():
    assert measures.diversity(["red lamp", "red boat", "green boat"]) == pytest.approx((1 / 3 + 0 + 1 / 3) / 3)
    assert measures.diversity(["one output"]) is None
    assert measures.diversity(["same words here"] * 500) == 1.0


def test_parrots_are_counted_over_near_duplicates():
    parrots = [
        "We use pnpm in this web shop today!",
        "we use pnpm in this web shop today",
        "we use pnpm in this web shop",
    ]
    others = [f"{word} decided {word}ly" for word in "alpha beta gamma delta epsilon zeta eta theta iota".split()]
    assert measures.top_share([*parrots, *others]) == 3 / 12
    assert measures.parrot_share([*parrots, *others]) == (3 + 1 + 1 + 1) / 12
    assert measures.parrot_share([]) == 0.0


@pytest.mark.parametrize(
    ("answers", "said", "right"),
    [
        (["8081"], "The port is 8081.", True),
        (["8081"], "The port is 18081.", False),
        (["8081"], "The port is 80812", False),
        (["pnpm", "yarn"], "It uses YARN", True),
        (["uv run  pytest"], "run `uv run\npytest`", True),
        (["--strict"], "with --strict on", True),
        (["v1"], "the api_v1", False),
        (["端口"], "它的端口是8081", True),
        ([], "anything", False),
        ([" "], "anything", False),
    ],
)
def test_an_answer_is_right_where_it_stands_as_a_word_of_its_own(answers, said, right):
    assert measures.is_right(answers, said) is right


@given(st.text(max_size=40), st.text(max_size=40))
def test_resemblance_is_symmetric_and_a_share(a, b):
    one, other = measures.words(a), measures.words(b)
    assert measures.jaccard(one, other) == measures.jaccard(other, one)
    assert 0 <= measures.jaccard(one, other) <= 1


@given(st.lists(st.text(max_size=12), max_size=12))
def test_clusters_hold_every_output_once(outputs):
    assert sum(measures.clusters(outputs).values()) == len(outputs)


def test_every_figure_is_told_for_each_category():
    given = [
        measures.Given("decision", 1.0, "the port is 8081", "port 8081"),
        measures.Given("decision", 0.0, "the port is 9999", "port 8082"),
        measures.Given("", 1.0, "as before", "as before"),
    ]
    found = measures.by_category(given)
    assert list(found) == ["decision", "other"]
    decision = found["decision"]
    assert (decision.num, decision.score, decision.strict, decision.loose) == (2, 0.5, 0.5, 0.75)
    assert decision.jaccard == pytest.approx(1 / 3)
    assert decision.parrot == 1.0
    assert (found["other"].strict, found["other"].jaccard) == (None, None)
