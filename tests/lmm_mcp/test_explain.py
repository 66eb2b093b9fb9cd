"""`--explain` tells of the ranking that was told: its parts, its boosts, what stands where for another reason, what was folded."""

from dataclasses import replace

import numpy as np

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.domain.recall import Question
from lmm_mcp.recall import confidence
from lmm_mcp.recall.explain import explained
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.recall.reranking import FEATURES, Model
from lmm_mcp.store.chunks import ChunkStore

DAY_ms = 86_400_000
REFUSED = "ConnectionError: the tide service refused the connection on port {}"


def passage(number: int, *lines: tuple[str, str], day: int = 20_500, files: tuple[str, ...] = ()) -> Chunk:
    return Chunk(
        id=f"{number:016x}",
        agent="codex",
        session_id=f"session-{number}",
        thread_id=f"session-{number}",
        project="/home/ann/shop",
        branch="",
        first_ms=day * DAY_ms,
        last_ms=day * DAY_ms,
        part=0,
        ordinal=0,
        header="",
        lines=tuple(Line(role, text, Span(f"e{number}-{n}", 0, len(text))) for n, (role, text) in enumerate(lines)),
        files=files,
        commands=(),
        content_hash=f"h{number}",
    )


def told(tmp_path, text: str, *chunks: Chunk, without: tuple[str, ...] = (), budget: int = 600, **given) -> list[str]:
    store = ChunkStore.open(tmp_path / "store", create=True)
    store.replace_threads([(each.agent, each.thread_id, [each]) for each in chunks])
    recaller = Recaller(store, None, frozenset(without), **given)
    question = Question(text, budget_tokens=budget)
    return explained(question, recaller.search(question), recaller.recall(question))


def scored(lines: list[str]) -> list[str]:
    return [line.partition(". ")[2] for line in lines if " = " in line and " x (" in line and "score" not in line]


TIDES = passage(1, ("agent", "The tide service listens on port 7311."), ("output", "tide service: port 7311 is open"))


def test_each_score_is_the_sum_that_is_shown_with_roles_and_without(tmp_path):
    for without, weights in (((), {"1.0", "0.5"}), (("roles",), {"1.0"})):
        found = scored(told(tmp_path / "-".join(("x", *without)), "tide service port", TIDES, without=without))
        assert len(found) == 2
        for line in found:
            total, rest = line.split(" = ")
            weight, parts = rest.split(" x (")
            values = [float(part.rsplit(" ", 1)[1]) for part in parts.partition(")")[0].split(" + ")]
            assert abs(float(total) - float(weight) * sum(values)) < 0.03
        assert {line.split(" = ")[1].split(" x ")[0] for line in found} == weights


def test_it_names_the_parts_that_are_left_out_and_explains_the_ranking_without_them(tmp_path):
    one, two = (passage(n, ("agent", "The tide service listens on port 7311.")) for n in (1, 2))
    with_all = told(tmp_path / "a", "tide service port", one, two)
    assert "1 line left out as told already:" in with_all
    assert any(line.startswith("  - agent: The tide service") and line.endswith("(by line 1)") for line in with_all)
    less = told(tmp_path / "b", "tide service port", one, two, without=("duplicates",))
    assert "parts left out: duplicates" in less
    assert "nothing left out as told already" in less
    assert len(scored(less)) == 2


def test_it_shows_what_the_question_names_and_what_that_gave(tmp_path):
    done = passage(1, ("user", "Round to the nearest cent."), files=("src/cart.py",), day=20_501)
    found = told(tmp_path, "why does src/cart.py round to the cent, as codex did on 2026-02-17?", done)
    assert "names files: src/cart.py" in found
    assert "names times: 2026-02-17 to 2026-02-17" in found
    row = next(line for line in found if line.startswith("  1. "))
    assert "+0.25 for the file" in row
    assert "for the time" in row
    agent = told(tmp_path / "more", "what did codex decide about the cent?", done)
    assert "names agents: codex" in agent
    assert any("+0.25 for the agent" in line for line in agent)


def test_what_is_told_first_is_not_explained_by_a_score(tmp_path):
    mended = passage(
        1,
        ("command", "$ make check-tides  [exit 2]"),
        ("error", REFUSED.format(7311)),
        ("agent", "It listens on the wrong interface."),
        ("command", "$ make check-tides  [exit 0]"),
    )
    found = told(tmp_path, REFUSED.format(99), mended)
    assert any(line.startswith("holds errors: ") for line in found)
    assert sum("told first: an error" in line for line in found) == 3
    assert not any("0.00 = " in line for line in found)


def test_a_line_of_a_learnt_order_says_so(tmp_path):
    zeros = np.zeros(len(FEATURES), np.float32)
    by_rank = np.asarray([float(name == "rank") for name in FEATURES], np.float32)
    other = passage(2, ("agent", "The tide table is printed every week."))
    backwards = Model(zeros, np.ones(len(FEATURES), np.float32), by_rank, 0.0)
    found = told(tmp_path, "tide service port", TIDES, other, reranker=backwards)
    assert any("by its place in the learnt order; " in line for line in found)


def test_it_names_what_the_budget_had_no_room_for_and_why_it_was_silent(tmp_path):
    many = [passage(n, ("agent", f"The tide service {'and more of it ' * 9}listens on port {n}.")) for n in range(1, 9)]
    found = told(tmp_path / "a", "tide service port", *many, budget=120)
    assert any(line.startswith("  - no room: agent: The tide service") for line in found)
    silent = told(tmp_path / "b", "crane of invoices, receipts, refunds, vouchers and brokers", *many)
    assert any(line.startswith("silent: ") for line in silent)
    never = told(tmp_path / "c", "tide service port", *many, without=("confidence",))
    assert any("silence is switched off" in line for line in never)


def test_it_names_what_was_left_out_as_far_weaker_than_the_best(tmp_path):
    painted = passage(2, ("output", "the port was painted last spring"))
    found = told(tmp_path / "a", "tide service port", TIDES, painted)
    assert any(line.startswith("1 line left out as far weaker than the best (below ") for line in found)
    assert "  - output: the port was painted last spring" in found
    assert not any("no room" in line for line in found)
    with_it = told(tmp_path / "b", "tide service port", TIDES, painted, without=("weak",))
    assert not any("far weaker" in line for line in with_it)


def test_what_was_done_at_a_time_is_listed_and_not_scored(tmp_path):
    found = told(
        tmp_path, "what did we do on 2026-02-17?", replace(TIDES, first_ms=20_501 * DAY_ms, last_ms=20_501 * DAY_ms)
    )
    assert "names times: 2026-02-17 to 2026-02-17, and asks of nothing else" in found
    assert any("what was done then" in line for line in found)
    assert confidence.MIN_SCORE > 0
    assert not scored(found)
