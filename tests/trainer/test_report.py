"""The page of a training run: complete or not, it opens, loads nothing, and shows sessions as text."""

import re
from html.parser import HTMLParser

from lmm_mcp.domain.fact import CATEGORIES
from lmm_mcp.domain.verdict import Finding, Keep, Promote, Said, ScoreSheet
from lmm_mcp.training_runs import RunState
from trainer import reporting
from trainer.plots import Curve, nice_ticks, plot
from trainer.report import RunView, Sample, page

STATE = RunState("2026-03-02-a", started_ms=1_772_400_000_000, options_hash="x", num_passages=1200)
METRICS = [
    {
        "stage": stage,
        "step": step,
        "loss_mean": 3 / step,
        "loss_median": 2 / step,
        "lr": 1e-3,
        "tokens_per_s": 900,
        "memory_mb": 500,
    }
    for stage in ("cpt", "sft")
    for step in range(1, 9)
]


class Tags(HTMLParser):
    """Fails on what is opened and not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("line", "circle", "polyline"):
            return
        assert self.open.pop() == tag


def parsed(text):
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    return tags.seen


def test_a_run_that_ended_early_has_a_page_too():
    text = page(RunView(STATE))
    parsed(text)
    assert "unfinished" in text
    assert "Curves" not in text


def test_the_page_shows_curves_gates_and_what_was_learned_and_forgotten():
    view = RunView(
        STATE,
        metrics=METRICS,
        mix=[("choice", "new", 120)],
        verdict=Keep((Finding("G0", True, "clean"), Finding("G7", False, "1.2 points below retrieval"))),
        arms=[("retrieval", "choice", 0.5, 80, "40 to 60")],
        categories=[
            ("decision", "weights", Said(7, 0.5, 0.25, None, 0.125, 0.75)),
            ("open task", "", None),
        ],
        samples=[Sample("which port?", "none", "1", "1")],
        learned=["which port does the shop use?"],
        forgotten=["who reviews?"],
    )
    text = page(view)
    seen = parsed(text)
    assert sum(tag == "svg" for tag, _ in seen) == 8
    for told in (
        "Not promoted",
        "refused",
        "1.2 points below retrieval",
        "which port does the shop use?",
        "who reviews?",
    ):
        assert told in text
    assert re.search(r"decision<.*weights<.*>50<.*>25<.*>-<.*>12<.*>75<.*>7<", text)
    assert re.search(r"open task<.*no probe asks about this", text)


def test_a_promoted_run_says_which_version_it_became():
    from dataclasses import replace

    text = page(RunView(replace(STATE, version="v0003", ended_ms=STATE.started_ms), verdict=Promote(())))
    assert "Promoted as v0003" in text


def test_text_of_sessions_is_shown_and_never_run():
    hostile = "</pre><script>alert(1)</script><img src=http://127.0.0.1/x onerror=alert(1)>"
    text = page(
        RunView(STATE, samples=[Sample(hostile, hostile, hostile, hostile)], learned=[hostile], notes=[hostile])
    )
    assert not [tag for tag, _ in parsed(text) if tag in ("script", "img", "link", "iframe")]
    assert "default-src 'none'" in text


def test_the_page_names_no_address_to_load_from():
    text = page(RunView(STATE, metrics=METRICS))
    assert not re.search(r"(src|href)\s*=", text)
    assert "http" not in text.replace("http-equiv", "")


def test_a_plot_leaves_out_what_is_no_number_and_shows_one_point_alone():
    assert plot("a", [Curve("x", [(1, float("nan"))])], x_name="step") == ""
    assert "<circle" in plot("a", [Curve("x", [(1, 2.0), (2, float("inf"))])], x_name="step")
    assert nice_ticks(0, 1e-4)[0] == 0


def test_every_category_is_told_also_one_that_nobody_asked_about():
    said = Said(7, 0.5, 0.25, None, 0.125, 0.75)
    sheet = ScoreSheet("v1", "", {}, by_category={"weights": {"decision": said}, "oracle": {"decision": said}})
    told = list(reporting._categories(sheet))
    assert ("decision", "weights", said) in told
    assert {name for name, _, _ in told} == set(CATEGORIES)
    assert sum(figures is None for _, _, figures in told) == len(CATEGORIES) - 1
    assert list(reporting._categories(None)) == []
