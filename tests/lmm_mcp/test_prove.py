"""`lmm prove`: what came later is asked of the memory of before, nothing later is used, and the receipt tells no content."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmm_mcp import artifacts, config, embedding
from lmm_mcp.artifacts import durable
from lmm_mcp.cli import answering, conditions
from lmm_mcp.cli import proving as commands
from lmm_mcp.cli.program import app
from lmm_mcp.domain.card import Card, CardSentence
from lmm_mcp.domain.recall import Question
from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation import fitting, needs, proving, receipt, runs
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
    with pytest.raises(BadInput, match=r"in 1 session cannot be cut into before and after: it takes two sessions"):
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


def run_of(*values: float, a_session: int = 2, without: tuple[str, ...] = ()) -> runs.Run:
    rows = [runs.Row(f"q{n}", (), {"share@250": value}, None, f"s{n // a_session}") for n, value in enumerate(values)]
    return runs.Run("prove", "recall", {"without": list(without)}, tuple(rows))


NO_GAIN, GAIN = [0.2] * 80, [0.2, 0.6] * 40


def test_a_part_is_proposed_to_go_only_where_recall_is_surely_better_without_it():
    whole = run_of(*NO_GAIN)
    found = fitting.worth("neighbours", whole, run_of(*GAIN))
    assert found.proposed
    assert [each.difference.num for each in (*found.gain, *found.held_out)] == [40, 40]
    assert not fitting.worth("neighbours", whole, run_of(*[0.1] * 80)).proposed
    assert not fitting.worth("neighbours", whole, whole).proposed


def test_what_pays_in_one_half_of_the_sessions_only_is_kept():
    whole = run_of(*NO_GAIN)
    first, second = fitting.halves(whole.rows)
    assert not first & second
    units = [{row.unit for row in whole.rows if row.id in half} for half in (first, second)]
    assert not units[0] & units[1] and all(len(each) >= fitting.MIN_SESSIONS for each in units)
    better = run_of(*(0.6 if row.id in second else 0.2 for row in whole.rows))
    found = fitting.worth("neighbours", whole, better)
    assert (found.proposed, found.why_not) == (False, fitting.ONE_HALF)
    assert (found.gain[0].difference.value, found.held_out[0].difference.value) == (0, pytest.approx(0.4))


def test_many_questions_of_few_sessions_decide_nothing():
    whole, better = run_of(*NO_GAIN, a_session=10), run_of(*GAIN, a_session=10)
    found = fitting.worth("neighbours", whole, better)
    assert (found.proposed, "too few sessions" in found.why_not) == (False, True)


def test_questions_of_one_session_hang_together_and_widen_the_interval():
    values = [0.0] * 20 + [1.0] * 20
    alone, together = runs.mean(values), runs.mean(values, [f"s{n // 10}" for n in range(40)])
    assert alone.value == together.value
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert runs.mean(values, [""] * 40) == alone


def test_of_two_parts_that_do_the_same_only_the_better_one_is_left_out():
    gains = {(): 0.2, ("words",): 0.5, ("roles",): 0.6, ("words", "roles"): 0.1}

    def run_without(parts):
        return run_of(*[gains[tuple(parts)]] * 80)

    found = {each.part: each for each in fitting.fit(["words", "roles"], run_without)}
    assert (found["roles"].proposed, found["words"].proposed) == (True, False)
    assert found["words"].why_not == fitting.NOT_TOGETHER


def test_a_part_is_kept_that_the_ruler_does_not_see_or_cannot_judge_yet():
    whole, better = run_of(*NO_GAIN), run_of(*GAIN)
    assert "silence" in fitting.worth("confidence", whole, better).why_not
    few = fitting.worth("neighbours", run_of(*[0.2] * 9), run_of(*[0.6] * 9))
    assert (few.proposed, "too few" in few.why_not) == (False, True)


def test_what_is_proposed_is_written_to_the_settings_and_what_nobody_judged_is_kept(orchard_env, tmp_path):
    home = Home(tmp_path / "lmm").ensure()
    home.config.write_text(
        '# mine\n[recall]\nbudget_tokens = 600\nwithout = ["cards", "roles", "confidence"]\n', encoding="utf-8"
    )
    whole, better = run_of(*NO_GAIN), run_of(*GAIN)
    judged = {"neighbours": (whole, better), "roles": (better, whole), "confidence": (whole, better)}
    commands._apply(Desk(home, {}), [fitting.worth(part, *both) for part, both in judged.items()])
    assert config.load(home.config, {}).recall == config.RecallSettings(600, ("cards", "confidence", "neighbours"))
    assert "# mine" in home.config.read_text(encoding="utf-8")


# What was learned from what came after the cut


@pytest.fixture
def own_home(orchard_env, tmp_path) -> Home:
    """A copy of the memory, for models to be put in."""
    shutil.copytree(orchard_env["LMM_HOME"], tmp_path / "lmm", ignore=shutil.ignore_patterns("engine*"))
    return Home(tmp_path / "lmm")


def serve(home: Home, until_ms: int, adapter: Path | None = None) -> None:
    """Let a version serve that has learned from nothing later; without `adapter` one that could never be loaded."""
    folder = artifacts.draft(home)
    if adapter is None:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights").write_text("none", encoding="utf-8")
    else:
        shutil.copytree(adapter, folder / "adapter")
    told = dict.fromkeys(("base_hash", "store_version", "lessons_hash", "probes_hash", "run", "code_version"), "")
    base = "" if adapter is None else str(adapter.parent / "base")
    manifest = artifacts.Manifest(
        base=base, recipe={}, seed=1, libraries={}, hardware="", verdict=None, until_ms=until_ms, **told
    )
    made = artifacts.commit(home, folder, manifest, None, artifacts.Sources.of((), (), as_of=0))
    artifacts.promote(home, made.name, force=True)


def own_desk(home: Home, orchard_env, **more: str) -> Desk:
    return Desk(home, {**orchard_env, "LMM_HOME": str(home.root), **more})


@pytest.mark.parametrize(
    ("until_ms", "why"), [(FIRST_OF_MARCH_ms, receipt.LEARNED_LATER), (0, receipt.LEARNED_UNKNOWN)]
)
def test_a_model_that_may_know_the_future_is_left_out_and_the_receipt_gives_no_day_and_no_version(
    own_home, orchard_env, tmp_path, until_ms, why
):
    serve(own_home, until_ms)
    kept = tmp_path / "receipt.json"
    env = {**orchard_env, "LMM_HOME": str(own_home.root)}
    told = lmm(env, "prove", "--at", "2026-03-01", "--fit", "--receipt", str(kept))
    assert told.returncode == 0, told.stderr
    assert "lmm train --until 2026-02-28" in told.stdout
    text = kept.read_text(encoding="utf-8")
    assert json.loads(text)["arms_left_out"] == {"recall + weights": why}
    assert set(json.loads(text)["figures"]) == {"nothing", "grep", "recent", "bm25", "recall"}
    assert not re.search(r"\d{4}-\d\d-\d\d|\d{13}|v\d{4}|/", text.replace("sentence-transformers/", ""))


def test_a_receipt_has_no_words_for_what_it_does_not_know(desk, proof):
    found = {"recall": runs.Run("prove", "recall", {}, proving.run(proof.posed, proving.silence))}
    told = receipt.of(
        proof, proof.posed, found, left_out_arms={"recall + weights": "since MARCHHARE"}, parts=(), ledger=desk.ledger,
        budget_tokens=1000, embedder="none",
    )  # fmt: skip
    assert "MARCHHARE" not in json.dumps(told)


def test_no_memory_model_has_a_say_in_what_a_part_of_recall_is_worth(own_home, orchard_env, proof, monkeypatch):
    serve(own_home, FIRST_OF_MARCH_ms - 1)
    own = own_desk(own_home, orchard_env)
    answering.put_to_the_past(own, proof.cut_ms)
    monkeypatch.setattr(type(own.holdings._served()), "writer", lambda *_, **__: pytest.fail("a model was asked"))
    judged = {each.part for each in commands._fitted(own, proof.posed, 1000)}
    assert "words" in judged
    assert not judged & {"model", "cards", "reranker"}


@pytest.mark.parametrize(
    ("until_ms", "may_answer"), [(FIRST_OF_MARCH_ms - 1, True), (FIRST_OF_MARCH_ms, False), (0, False)]
)
def test_of_the_past_only_a_memory_model_is_asked_that_learned_nothing_later(
    own_home, orchard_env, proof, until_ms, may_answer
):
    serve(own_home, until_ms)
    holdings = own_desk(own_home, orchard_env).holdings
    holdings.waits_for_model = False
    assert holdings.writer() is not None
    holdings.as_of_ms = proof.cut_ms
    assert (holdings.writer() is not None) == may_answer


def test_of_a_server_nobody_knows_what_it_learned_unless_it_names_a_version_of_ours(own_home, orchard_env, proof):
    serve(own_home, FIRST_OF_MARCH_ms - 1)
    address = {"LMM_MODEL_SERVER": "http://127.0.0.1:1", "LMM_MODEL_NAME": "any"}
    for named, may_answer in (({}, False), ({"LMM_MODEL_ADAPTER": "v0001"}, True)):
        holdings = own_desk(own_home, orchard_env, **address, **named).holdings
        assert holdings.writer() is not None
        holdings.as_of_ms = proof.cut_ms
        assert (holdings.writer() is not None) == may_answer


def test_of_the_past_no_sentence_model_is_asked_that_was_fitted_to_what_came_later(own_home, orchard_env, proof):
    name = f"{embedding.PERSONAL}/minilm-1"
    folder = durable.make_folder(embedding.folder_of(own_home, name))
    for until_ms, may_answer in ((proof.cut_ms, True), (proof.cut_ms + 1, False), (0, False)):
        embedding.write_card(folder, embedding.Card(name, "0", 8, 8, "graph", 1, until_ms=until_ms))
        own = own_desk(own_home, orchard_env, LMM_EMBEDDER_NAME=name)
        assert own.by_words_only() == ""
        own.holdings.as_of_ms = proof.cut_ms
        assert (own.by_words_only() == "") == may_answer


def test_a_model_of_before_the_cut_is_an_arm_of_its_own(own_home, orchard_env, small_models, tmp_path, proof):
    serve(own_home, FIRST_OF_MARCH_ms - 1, small_models / "says-two")
    own = own_desk(own_home, orchard_env, LMM_MODEL_WITHIN_MS="20000")
    assert answering.put_to_the_past(own, proof.cut_ms) == []
    (edit,) = [each for each in posed(proof, "edit") if "till_rounding" in each.asked.question]
    project, file = edit.asked.project, "src/till_rounding.py"
    quoted = {}
    try:
        for arm, asker in (("recall", commands._without_model(own)), (answering.WEIGHTS, own)):
            with commands._arm(asker, arm, 1000, proof.cut_ms) as ask:
                text = ask(edit.asked).text
                quoted[arm] = [line.partition("] ")[2] for line in text.splitlines() if line.startswith("[c")]
        plain, told = quoted["recall"], quoted[answering.WEIGHTS]
        assert told == [plain[1], plain[0], *plain[2:]]
        line = own.recaller().evidence(Question(edit.asked.question, project, until_ms=proof.cut_ms))[0]
        card = Card(
            "file", project, file, (CardSentence("Said on a card.", ((line.chunk.id, line.number),)),),
            {line.chunk.id: line.chunk.content_hash}, proof.cut_ms, "v0001",
        )  # fmt: skip
        for each, is_told in (
            (card, True),
            (replace(card, newest_ms=proof.cut_ms + 1), False),
            (replace(card, model="v2"), False),
        ):
            own.holdings.cards.keep(each, as_of=artifacts.forgettings(own_home))
            with commands._arm(own, answering.WEIGHTS, 1000, proof.cut_ms) as ask:
                assert ("Said on a card." in ask(edit.asked).text) == is_told
        assert conditions.of(own, [])["model"] == {"name": "v0001", "until_ms": FIRST_OF_MARCH_ms - 1}
    finally:
        own.holdings._served().close()


def test_the_command_shows_what_a_model_of_before_the_cut_adds(own_home, orchard_env, small_models, tmp_path):
    serve(own_home, FIRST_OF_MARCH_ms - 1, small_models / "says-two")
    env = {**orchard_env, "LMM_HOME": str(own_home.root), "LMM_MODEL_WITHIN_MS": "20000"}
    kept = tmp_path / "receipt.json"
    told = lmm(env, "prove", "--at", "2026-03-01", "--receipt", str(kept), "--results", str(tmp_path / "runs"))
    assert told.returncode == 0, told.stderr
    assert re.search(r"^  recall \+ weights +\d", told.stdout, re.MULTILINE)
    read = json.loads(kept.read_text(encoding="utf-8"))
    assert read["arms_left_out"] == {}
    assert {"recall", "recall + weights"} <= set(read["figures"])
    weights, plain = (runs.load(tmp_path / "runs" / f"{arm}.run.json") for arm in ("recall + weights", "recall"))
    assert (weights.about["model"]["name"], plain.about["model"]) == ("v0001", "none")
    assert plain.about["without"] == ["cards", "model"]
    assert all(row.unit for row in plain.rows)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--apply",), "--fit"),
        (("--at", "next spring"), "--at is 'next spring'"),
        (("--at", "2026-12-01"), "nothing can be asked of what came after 2026-11-30 23:59 UTC: no session"),
        (("--receipt", "no-such-folder/receipt.json"), "there is no folder"),
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
        with answering.answering(own, "recall", 1000) as ask:
            for each in proof.posed:
                mine, theirs = answering.by_recaller(recaller, each.asked, 1000), ask(each.asked)
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


@pytest.mark.parametrize("option", ["--results", "--receipt"])
def test_where_nothing_can_be_written_nothing_is_asked(orchard_env, tmp_path, option, monkeypatch):
    monkeypatch.setattr(proving, "proof", lambda *_: pytest.fail("the history was read"))
    (tmp_path / "a file").write_text("mine", encoding="utf-8")
    place = tmp_path / "a file" if option == "--results" else tmp_path
    done = CliRunner().invoke(app, ["prove", option, str(place)], env=orchard_env)
    assert (done.exit_code, (tmp_path / "a file").read_text("utf-8")) == (2, "mine")
