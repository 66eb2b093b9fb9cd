"""Suites of long talks: their files as they are published, the memory made of them, and the figures. All talks are invented."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from lmm_mcp.cli import program
from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation import conversations, locomo, locomo_plus, longmemeval, runs
from lmm_mcp.evaluation.conversations import Found
from lmm_mcp.paths import Home
from lmm_mcp.server.desk import Desk
from lmm_mcp.store.chunks import Scope

DAY_ms = 24 * 3600 * 1000
TALKS = {
    "ferry": (
        ("Ines", "Tom"),
        [
            ("8:05 am on 3 May, 2023", ["Good morning Tom!", "Morning, Ines.", "I bought a kayak, a yellow one."]),
            ("1:30 pm on 20 May, 2023", ["The baker's oven broke.", "Then I will bring rye bread from Lund."]),
            ("12:00 am on 2 June, 2023", ["My sister moved to Bergen.", "Does she like the rain there?"]),
        ],
    ),
    "forge": (
        ("Ada", "Udo"),
        [
            ("9:15 pm on 1 July, 2023", ["I sold my kayak, the red one.", "A kayak? I did not know you had a kayak."]),
            ("10:00 am on 9 July, 2023", ["The kayak money went into an anvil.", "An anvil for a kayak!"]),
        ],
    ),
}
QUESTIONS = {
    "ferry": [
        {"question": "What colour is the kayak of Ines?", "evidence": ["D1:3"], "category": 4},
        {"question": "Which bread and which city were spoken of?", "evidence": ["D2:2; D3:01"], "category": 1},
        {"question": "When did the oven break?", "evidence": ["D2:1", "D9:1"], "category": 2},
        {"question": "What did Tom forge?", "evidence": ["D"], "category": 5},
        {"question": "Who is the sister of Tom?", "evidence": ["D3:1"], "category": 5},
    ],
    "forge": [{"question": "What was bought with the kayak money?", "evidence": ["D2:1"], "category": 3}],
}


def locomo_file(folder: Path) -> Path:
    """Talks in the shape of LoCoMo: speakers take turns, and one of them shares a picture."""
    samples = []
    for name, (speakers, sessions) in TALKS.items():
        talk = {"speaker_a": speakers[0], "speaker_b": speakers[1], "session_9_date_time": "9:00 am on 9 June, 2024"}
        for number, (date, said) in enumerate(sessions, 1):
            turns = [
                {"speaker": speakers[n % 2], "dia_id": f"D{number}:{n + 1}", "text": text}
                for n, text in enumerate(said)
            ]
            talk |= {f"session_{number}": turns, f"session_{number}_date_time": date}
        samples.append({"sample_id": name, "conversation": talk, "qa": QUESTIONS[name]})
    samples[0]["conversation"]["session_1"][2]["blip_caption"] = "a photo of a boat on a beach"
    path = folder / "locomo10.json"
    path.write_text(json.dumps(samples), encoding="utf-8")
    return path


def plus_file(folder: Path) -> Path:
    """Pairs in the shape of LoCoMo-Plus. The first and the third go into the first of two talks."""
    pairs = [
        (
            "A: The gulls stole my sandwich.\nB: They are bold.",
            "A: I eat indoors now, gulls or not.",
            "two weeks later",
        ),
        ("A: My hammer split.", "A: The new hammer is heavy.", "several months later"),
        ("A: I fear deep water.\nB: Since when?", "A: No deep water for me.", "about a month later"),
    ]
    path = folder / "locomo_plus.json"
    path.write_text(
        json.dumps(
            [
                {"relation_type": "causal", "cue_dialogue": cue, "trigger_query": trigger, "time_gap": time_gap}
                for cue, trigger, time_gap in pairs
            ]
        ),
        encoding="utf-8",
    )
    return path


def haystack_file(folder: Path) -> Path:
    """Questions in the shape of LongMemEval, the first asked before the session that holds its answer is dated."""
    noise = [{"role": "user", "content": "How long does rye bread keep?"}, {"role": "assistant", "content": "A week."}]
    answer = [
        {"role": "user", "content": "My heron is called Otto, what does he eat?", "has_answer": True},
        {"role": "assistant", "content": "Herons such as Otto eat fish.", "has_answer": False},
        {"role": "user", "content": "   "},
    ]
    answer_as_said = [{key: turn[key] for key in ("role", "content")} for turn in answer]

    def entry(name: str, question: str, sessions: list, gold: list[str]) -> dict:
        return {
            "question_id": name,
            "question_type": "single-session-user",
            "question": question,
            "answer": "Otto",
            "question_date": "2023/05/21 (Sun) 10:00",
            "haystack_session_ids": [session_id for session_id, _ in sessions],
            "haystack_dates": [f"2023/05/{20 + n} (Sat) 02:21" for n in range(len(sessions))],
            "haystack_sessions": [said for _, said in sessions],
            "answer_session_ids": gold,
        }

    entries = [
        entry("q1", "What is my heron called?", [("n1", noise), ("n1", noise), ("answer_1", answer)], ["answer_1"]),
        entry("q2_abs", "What is my stork called?", [("n1", noise)], []),
        entry("q3", "What does a heron eat?", [("answer_1", answer_as_said), ("n1", noise)], ["answer_1"]),
        entry("q4", "Which heron?", [("n1", noise)], ["answer_1"]),
    ]
    path = folder / "longmemeval_s.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


# Their files


def test_evidence_is_read_as_leniently_as_it_was_written(tmp_path):
    suite = locomo.read(locomo_file(tmp_path))
    gold = {posed.text: sorted(posed.gold_turns) for posed in suite.questions}
    assert gold["Which bread and which city were spoken of?"] == ["ferry:D2:2", "ferry:D3:1"]
    assert gold["When did the oven break?"] == ["ferry:D2:1"]
    assert (len(suite.questions), dict(suite.left_out)) == (5, {"their evidence names no turn": 1})


def test_categories_are_named_and_the_adversarial_ones_stand_apart(tmp_path):
    groups = [posed.groups for posed in locomo.read(locomo_file(tmp_path)).questions]
    assert groups == [
        ("4 single-hop", "1-4"),
        ("1 multi-hop", "1-4"),
        ("2 temporal", "1-4"),
        ("5 adversarial",),
        ("3 open-domain", "1-4"),
    ]


def test_a_talk_has_its_dates_its_speakers_and_what_its_pictures_show(tmp_path):
    ferry = locomo.read(locomo_file(tmp_path)).conversations[0]
    assert [session.id for session in ferry.sessions] == ["ferry:session_1", "ferry:session_2", "ferry:session_3"]
    assert [session.at_ms for session in ferry.sessions] == [1_683_101_100_000, 1_684_589_400_000, 1_685_664_000_000]
    first = ferry.sessions[0].turns
    assert [(turn.speaker, turn.kind) for turn in first] == [("Ines", "prompt"), ("Tom", "reply"), ("Ines", "prompt")]
    assert first[2].text == "I bought a kayak, a yellow one. [shares a photo of a boat on a beach]"


def test_turns_and_sessions_count_by_how_early_they_are_found(tmp_path):
    posed = locomo.read(locomo_file(tmp_path)).questions[1]
    found = Found(("ferry:D2:2", *(f"x{n}" for n in range(8)), "ferry:D3:1"), ("ferry:session_2", "y"))
    assert locomo.judge(posed, found) == {
        "turns@5": 0.5,
        "turns@10": 1.0,
        "turns@20": 1.0,
        "sessions@5": 0.5,
        "sessions@10": 0.5,
    }


def test_a_cue_is_a_session_of_its_own_so_long_before_the_trigger_as_it_says(tmp_path):
    suite = locomo_plus.read(plus_file(tmp_path), locomo_file(tmp_path))
    sessions = {session.id: session for talk in suite.conversations for session in talk.sessions}
    asked = {posed.id: posed for posed in suite.questions}
    gulls, hammer = sessions["ferry:pair_0"], sessions["forge:pair_1"]
    assert [(turn.speaker, turn.text) for turn in gulls.turns] == [
        ("Ines", "The gulls stole my sandwich."),
        ("Tom", "They are bold."),
    ]
    assert asked[gulls.id].asked_ms == sessions["ferry:session_3"].at_ms + 7 * DAY_ms
    assert asked[gulls.id].asked_ms - gulls.at_ms == 14 * DAY_ms
    assert asked[hammer.id].asked_ms == hammer.at_ms
    assert asked[hammer.id].text == "The new hammer is heavy."


def test_cues_of_other_pairs_in_the_same_talk_are_struck_from_the_ranking_and_told_beside(tmp_path):
    posed = locomo_plus.read(plus_file(tmp_path), locomo_file(tmp_path)).questions[0]
    assert posed.others == {"ferry:pair_2:0", "ferry:pair_2:1"}
    found = Found(("ferry:pair_2:0", *(f"x{n}" for n in range(9)), "ferry:pair_0:1", "ferry:pair_0:0"), ())
    assert locomo_plus.judge(posed, found) == {"turns@5": 0.0, "turns@10": 0.5, "turns@20": 1.0, "crowded@10": 0.0}


def test_a_haystack_knows_its_answers_by_session_and_by_turn(tmp_path):
    suite = longmemeval.read(haystack_file(tmp_path))
    first, second = suite.questions
    assert (first.gold_sessions, first.gold_turns) == ({"q1:2:answer_1"}, {"q1:2:answer_1:0"})
    assert (second.gold_sessions, second.gold_turns) == ({"q3:0:answer_1"}, frozenset())
    assert suite.left_out == {"nobody knows their answer": 1, "their haystack does not hold the answer": 1}
    assert [len(session.turns) for session in suite.conversations[0].sessions] == [2, 2, 2]


def test_of_a_haystack_any_and_all_are_told_apart_and_turns_only_where_they_are_marked(tmp_path):
    first, second = longmemeval.read(haystack_file(tmp_path)).questions
    two = conversations.Posed("q", "", "", first.gold_turns | {"other"}, first.gold_sessions, ())
    figures = longmemeval.judge(two, Found(("x", "q1:2:answer_1:0"), ("y", "q1:2:answer_1")))
    assert (figures["turns any@1"], figures["turns any@5"], figures["turns all@10"]) == (0.0, 1.0, 0.0)
    assert (figures["sessions any@1"], figures["sessions all@5"], figures["sessions ndcg@10"]) == (0.0, 1.0, 1.0)
    assert not [name for name in longmemeval.judge(second, Found((), ())) if name.startswith("turns")]


def test_a_gain_is_discounted_from_the_third_place_on():
    assert conversations.ndcg({"a", "b", "c"}, ["a", "b", "x", "c"], 10) == pytest.approx(
        (1 + 1 + 1 / 2) / (2 + 0.63093)
    )


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '[{"sample_id": "x"}]', "no json", '[{"question_id": "q"}]'])
def test_a_file_of_another_shape_is_named(tmp_path, content):
    other = tmp_path / "other.json"
    other.write_text(content, encoding="utf-8")
    talks = locomo_file(tmp_path)
    for read in (locomo.read, lambda path: locomo_plus.read(path, talks), longmemeval.read):
        with pytest.raises(BadInput, match=r"other\.json"):
            read(other)


# The commands


@pytest.fixture
def bench(monkeypatch, capsys):
    """Runs `lmm bench` by words alone and gives what it said, on both outputs."""
    monkeypatch.setenv("LMM_EMBEDDER_NAME", "none")

    def run(*arguments: object, expect: int = 0) -> str:
        code = program.run(["bench", *map(str, arguments)])
        told = capsys.readouterr()
        assert code == expect, told.err + told.out
        return told.out + told.err

    return run


def stamps(home: Path) -> dict[str, int]:
    """When the talks, and each of their archived sessions, were written."""
    files = [home / "conversations.jsonl", *sorted((home / "archive").rglob("*.zst"))]
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_turns_are_found_by_recall_and_by_passages_and_the_memory_is_read_once(bench, tmp_path):
    talks, home = locomo_file(tmp_path), tmp_path / "memory"
    results = [tmp_path / f"{n}.run.json" for n in range(3)]
    told = bench("locomo", talks, "--home", home, "--results", results[0])
    assert "left out: 1 question, since their evidence names no turn" in told
    assert "by words only" in told
    before = stamps(home)
    bench("locomo", talks, "--home", home, "--results", results[1])
    bench("locomo", talks, "--home", home, "--results", results[2], "--arm", "bm25")
    assert stamps(home) == before
    assert len(before) == 1 + 5
    first, again, passages = (runs.load(path) for path in results)
    assert [row.figures for row in first.rows] == [row.figures for row in again.rows]
    kayak = {run.arm: next(row.figures for row in run.rows if row.id == "ferry:q0") for run in (first, passages)}
    assert kayak["recall"]["turns@5"] == kayak["bm25"]["turns@5"] == 1.0
    assert first.about["without"] == ["confidence"]
    assert first.about["files"].keys() == {"locomo10.json"}
    assert "1-4 · 4 questions" in told


@pytest.mark.parametrize("arm", ["vectors", "fusion"])
def test_the_model_of_the_user_serves_the_talks_too(bench, tmp_path, monkeypatch, minilm_home, arm):
    own = tmp_path / "own"
    shutil.copytree(minilm_home.models, own / "models")
    monkeypatch.setenv("LMM_HOME", str(own))
    monkeypatch.delenv("LMM_EMBEDDER_NAME")
    results = tmp_path / "arm.run.json"
    told = bench("locomo", locomo_file(tmp_path), "--arm", arm, "--results", results)
    run = runs.load(results)
    assert "by words only" not in told
    assert run.about["embedder"].startswith("sentence-transformers/all-MiniLM-L6-v2 ")
    assert run.about["store"]["embedded"] == run.about["store"]["chunks"] > 0
    assert [row.figures["turns@5"] for row in run.rows if row.id == "ferry:q0"] == [1.0]


def test_who_wants_no_model_is_measured_without_one(bench, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.toml").write_text('[embedder]\nname = "none"\n', encoding="utf-8")
    monkeypatch.setenv("LMM_HOME", str(own))
    monkeypatch.delenv("LMM_EMBEDDER_NAME")
    assert "by words only: the settings say `none`" in bench("locomo", locomo_file(tmp_path), "--limit", 1)


def test_all_talks_are_searched_only_where_that_is_asked_for(tmp_path):
    asked: list = []

    def rank(posed, scope):
        asked.append(scope.project)
        return ["forge:D1:1", "ferry:D1:3", "forge:D1:1"]

    suite = locomo.read(locomo_file(tmp_path)).sampled(1)
    (row,) = conversations.run(suite, rank, num_warm=0)
    list(conversations.run(suite, rank, pooled=True, num_warm=0))
    assert asked == ["/conversations/ferry", None]
    assert (row.figures["turns@5"], row.figures["sessions@5"]) == (1.0, 1.0)


def test_another_talk_is_found_only_in_the_pool(bench, tmp_path):
    talks, home = locomo_file(tmp_path), tmp_path / "memory"
    bench("locomo", talks, "--home", home)
    recaller = Desk(Home(home), {"LMM_HOME": str(home), "LMM_EMBEDDER_NAME": "none"}).holdings.recaller(["confidence"])
    rank = conversations.by_recall(recaller)
    posed = locomo.read(talks).questions[0]
    own, pooled = set(rank(posed, Scope(project="/conversations/ferry"))), set(rank(posed, Scope()))
    assert "ferry:D1:3" in own
    assert {turn.split(":")[0] for turn in own} == {"ferry"}
    assert {turn.split(":")[0] for turn in pooled} == {"ferry", "forge"}


def test_what_is_said_later_leads_to_the_remark_before_it(bench, tmp_path):
    locomo_file(tmp_path)
    results = tmp_path / "plus.run.json"
    bench("locomo-plus", plus_file(tmp_path), "--results", results)
    run = runs.load(results)
    assert run.suite == "locomo-plus"
    assert {row.id: row.figures["turns@5"] for row in run.rows}["forge:pair_1"] == 1.0
    assert run.about["files"].keys() == {"locomo_plus.json", "locomo10.json"}


def test_a_haystack_is_searched_to_its_end_even_where_the_question_is_dated_earlier(bench, tmp_path, monkeypatch):
    thrown_away = tmp_path / "temporary"
    thrown_away.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(thrown_away))
    results = tmp_path / "heron.run.json"
    told = bench("longmemeval", haystack_file(tmp_path), "--results", results)
    rows = {row.id: row.figures for row in runs.load(results).rows}
    assert rows["q1"]["turns any@1"] == rows["q1"]["sessions all@5"] == 1.0
    assert rows["q3"]["sessions any@1"] == 1.0
    assert "single-session-user · 2 questions" in told
    assert list(thrown_away.iterdir()) == []


def test_a_folder_with_other_things_in_it_is_left_alone(bench, tmp_path):
    talks, mine = locomo_file(tmp_path), tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear", encoding="utf-8")
    assert "holds other things" in bench("locomo", talks, "--home", mine, expect=1)
    assert [path.name for path in mine.iterdir()] == ["letter.txt"]
    (mine / "letter.txt").rename(mine / "conversations.jsonl")
    assert "holds other conversations" in bench("locomo", talks, "--home", mine, expect=1)
    assert (mine / "conversations.jsonl").read_text(encoding="utf-8") == "dear"


def test_what_was_cut_off_while_the_talks_were_written_is_no_obstacle(bench, tmp_path):
    home = tmp_path / "memory"
    home.mkdir()
    (home / ".conversations.jsonl.123.part").write_text("{", encoding="utf-8")
    assert "recall without confidence · all · 1 question" in bench(
        "locomo", locomo_file(tmp_path), "--home", home, "--limit", "1"
    )


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--arm", "luck", "there is no arm 'luck'"),
        ("--arm", "vectors", "needs a model"),
        ("--without", "luck", "'luck'"),
    ],
)
def test_what_cannot_rank_says_why(bench, tmp_path, option, value, told):
    assert told in bench("locomo", locomo_file(tmp_path), option, value, expect=1)
