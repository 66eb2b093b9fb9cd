"""`lmm prove`: what came later is asked of the memory of before, nothing later is used, and the receipt tells no content."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmm_mcp import config
from lmm_mcp.cli import proving as commands
from lmm_mcp.domain.recall import Question
from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation import needs, proving, runs
from lmm_mcp.evaluation.asked_again import KnowingStore
from lmm_mcp.evaluation.grepping import Grep
from lmm_mcp.evaluation.questions import Answered
from lmm_mcp.paths import Home
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.server.desk import Desk
from lmm_mcp.store.search import Scope

MARCH_SESSION = "5c0ffee2-6c55-4b07-9a1e-7d1c5a5f0a11"
FIRST_OF_MARCH_ms = 1_772_323_200_000


@pytest.fixture(scope="module")
def desk(orchard_env) -> Desk:
    return Desk(Home(Path(orchard_env["LMM_HOME"])), orchard_env)


@pytest.fixture(scope="module")
def proof(desk) -> proving.Proof:
    return proving.proof(desk.ledger, desk.archive, FIRST_OF_MARCH_ms - 1)


def lmm(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "lmm_mcp", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)


def posed(proof: proving.Proof, kind: str) -> list[proving.Posed]:
    return [each for each in proof.posed if each.kind == kind]


def test_a_later_prompt_needs_what_was_then_used_and_known_before(proof):
    (prompt,) = posed(proof, "prompt")
    assert set(prompt.needed) == {
        "till_rounding.py",
        "refund_ledger.py",
        "uv run pytest -q tests/till",
        "round_half_even",
        "total_in_cents",
    }


def test_an_error_is_asked_with_its_own_words_and_needs_what_mended_it(proof):
    (error,) = posed(proof, "error")
    assert error.asked.question == "TypeError: round_half_even got an unexpected keyword argument refunds"
    assert error.needed == ("refund_ledger.py",), (
        "the command itself and the name in the message are known to the asker"
    )


def test_an_edit_is_asked_by_its_path_and_needs_the_other_files_and_commands(proof):
    questions = {each.asked.question: each.needed for each in posed(proof, "edit")}
    assert set(questions) == {
        "What should I know before I change src/till_rounding.py?",
        "What should I know before I change src/refund_ledger.py?",
    }
    needed = questions["What should I know before I change src/till_rounding.py?"]
    assert {"refund_ledger.py", "uv run pytest -q tests/till"} <= set(needed)
    assert "till_rounding.py" not in needed


def test_what_came_after_the_cut_is_no_known_thing(desk, proof):
    needed = {item for each in proof.posed for item in each.needed}
    assert "MARCHHARE" not in " ".join(needed)
    later = proving.proof(desk.ledger, desk.archive, FIRST_OF_MARCH_ms * 2)
    assert later.posed == ()


@pytest.mark.parametrize("arm", ["grep", "recent", "bm25", "recall"])
def test_nothing_later_than_the_cut_is_told_by_any_arm(desk, proof, arm):
    with commands._arm(desk, arm, 1000, proof.cut_ms) as ask:
        answers = [ask(each.asked) for each in proof.posed]
    assert any(answer.text for answer in answers)
    assert not any("MARCHHARE" in answer.text or MARCH_SESSION in answer.sessions for answer in answers)


def test_grep_would_tell_what_came_later_if_it_were_asked_later(desk, proof):
    asked, files = posed(proof, "prompt")[0].asked, Grep(desk.ledger)
    assert "MARCHHARE" in files.answer(asked.question, Scope(project=asked.project), 1000).text
    as_of_the_cut = Scope(project=asked.project, until_ms=proof.cut_ms)
    assert "MARCHHARE" not in files.answer(asked.question, as_of_the_cut, 1000).text


def test_a_session_that_goes_on_over_the_cut_is_grepped_as_far_as_the_cut(desk, proof):
    middle_of_january_session_ms = 1_768_039_320_000
    asked = posed(proof, "prompt")[0].asked
    then = Scope(project=asked.project, until_ms=middle_of_january_session_ms)
    told = Grep(desk.ledger).answer(asked.question, then, 4000).text
    assert "till round" in told
    assert "refund_in_cents" not in told


def test_a_figure_is_the_share_of_the_needed_within_the_first_tokens():
    text = "till_rounding.py" + " " * 1000 + "uv  run pytest"
    figures = proving.judge(("till_rounding.py", "uv run pytest", "Till"), Answered(text, (), False))
    assert figures == {"share@250": pytest.approx(1 / 3), "share@1000": pytest.approx(2 / 3)}
    assert proving.judge(("a_name",), Answered("a_name", (), True)) == {"share@250": 0, "share@1000": 0}


def test_names_of_every_day_are_not_needed():
    known = needs.Known(names=needs.Counter({"often_said": 60, "seldom_said": 2}), num_events=100)
    use = needs.Used((), (), {"often_said": 3, "seldom_said": 1, "never_said": 5})
    assert needs.needed("how?", use, known, {}) == ("seldom_said",)
    assert needs.needed("how is seldom_said made?", use, known, {}) == ()


def test_by_default_a_fifth_of_the_prompts_lies_after_the_cut(desk):
    whole = proving.proof(desk.ledger, desk.archive)
    assert 1_770_000_000_000 < whole.cut_ms < 1_773_137_000_000
    assert posed(whole, "prompt")


def test_a_history_of_one_session_cannot_be_cut(desk):
    with pytest.raises(BadInput, match="cut"):
        proving.cut_of(desk.archive, proving.history.sessions(desk.ledger)[:1])


def test_the_receipt_tells_figures_and_nothing_that_anybody_wrote(orchard_env, tmp_path):
    receipt = tmp_path / "receipt.json"
    env = {**orchard_env, "LMM_EMBEDDER_NAME": "quokka/secret-model"}
    told = lmm(
        env, "prove", "--at", "2026-03-01", "--fit", "--receipt", str(receipt), "--results", str(tmp_path / "runs")
    )
    assert told.returncode == 0, told.stderr
    assert "recall + weights" in told.stdout
    text = receipt.read_text(encoding="utf-8")
    read = json.loads(text)
    assert read["questions"]["asked"] == 4
    assert read["history"]["from"] == "2026-01"
    assert set(read["figures"]) == {"nothing", "grep", "recent", "bm25", "recall"}
    assert read["figures"]["recall"]["all"]["share@1000"][0] > read["figures"]["nothing"]["all"]["share@1000"][0] == 0
    assert {each["figure"] for each in read["recall_minus"]["bm25"]} == {"share@250", "share@1000"}
    for planted in ("QUAGGA", "quokka", "MARCHHARE", "orchard", "till", "round_half", "pytest", "5c0ffee", "/", "mira"):
        assert planted not in text.replace("sentence-transformers/all-MiniLM-L6-v2", ""), planted
    assert not re.search(r"\d{4}-\d\d-\d\d|\d{13}", text), "times are told by month"
    assert runs.load(tmp_path / "runs" / "recall.run.json").suite == "prove"


def run_of(*values: float) -> runs.Run:
    rows = tuple(runs.Row(f"q{n}", (), {"share@250": value}) for n, value in enumerate(values))
    return runs.Run("prove", "recall", {}, rows)


def test_a_part_is_proposed_to_go_only_where_recall_is_surely_better_without_it():
    whole, better, worse = run_of(*[0.2] * 60), run_of(*[0.2] * 40, *[0.6] * 20), run_of(*[0.1] * 60)
    assert proving.worth("neighbours", whole, better).proposed
    assert not proving.worth("neighbours", whole, worse).proposed
    assert not proving.worth("neighbours", whole, whole).proposed


def test_a_part_is_kept_that_the_ruler_does_not_see_or_cannot_judge_yet():
    whole, better = run_of(*[0.2] * 60), run_of(*[0.6] * 60)
    assert "silence" in proving.worth("confidence", whole, better).why_not
    few = proving.worth("neighbours", run_of(*[0.2] * 9), run_of(*[0.6] * 9))
    assert (few.proposed, "too few" in few.why_not) == (False, True)


def test_what_is_proposed_is_written_to_the_settings_and_comments_there_are_kept(orchard_env, tmp_path):
    home = Home(tmp_path / "lmm").ensure()
    home.config.write_text("# mine\n[recall]\nbudget_tokens = 600\n", encoding="utf-8")
    whole, better = run_of(*[0.2] * 60), run_of(*[0.6] * 60)
    commands._apply(Desk(home, {}), [proving.worth("neighbours", whole, better), proving.worth("roles", better, whole)])
    assert config.load(home.config, {}).recall == config.RecallSettings(600, ("neighbours",))
    assert "# mine" in home.config.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--apply",), "--fit"),
        (("--at", "next spring"), "--at is 'next spring'"),
        (("--at", "2026-12-01"), "nothing can be asked"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(orchard_env, arguments, told):
    done = lmm(orchard_env, "prove", *arguments)
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_memory_of_nothing_says_what_to_do(orchard_env, tmp_path):
    done = lmm({**orchard_env, "LMM_HOME": str(tmp_path / "empty")}, "prove")
    assert (done.returncode, "lmm import" in done.stderr) == (1, True)


def test_what_fitting_looks_up_once_is_what_the_tool_tells(desk, proof):
    looked_up = KnowingStore(desk.store())
    for parts in ((), ("roles",)):
        recaller = Recaller(looked_up, None, frozenset(parts))
        own = Desk(desk.home, {**desk.holdings.env, "LMM_RECALL_WITHOUT": ":".join(parts)}, holdings=desk.holdings)
        with commands.answering(own, "recall", 1000) as ask:
            for each in proof.posed:
                mine, theirs = commands._answered(recaller, each.asked, 1000), ask(each.asked)
                assert mine.abstained == theirs.abstained
                assert theirs.abstained or mine == theirs


def test_a_store_that_knows_asks_the_real_one_once(desk):
    class Counting:
        num_asked = 0

        def __getattr__(self, name):
            self.num_asked += 1
            return getattr(desk.store(), name)

    counting = Counting()
    knowing = KnowingStore(counting)
    first = Recaller(knowing, None).recall(Question("why does the till round?"))
    num_asked = counting.num_asked
    assert num_asked > 0
    assert Recaller(knowing, None, frozenset({"roles", "neighbours"})).recall(Question("why does the till round?")).text
    assert Recaller(knowing, None).recall(Question("why does the till round?")).text == first.text
    assert counting.num_asked == num_asked
