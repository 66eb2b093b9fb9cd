"""What a model on this machine adds to lessons: only what it can answer with the evidence, and not without."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lmm_mcp import prompting
from lmm_mcp.artifacts import places, unlearning
from lmm_mcp.domain.chunk import Span
from lmm_mcp.domain.fact import Evidence, Fact
from lmm_mcp.errors import ModelError
from lmm_mcp.paths import Home
from trainer import gathering, presets, selfstudy
from trainer.plan import Plan
from trainer.recitals import Held

EVIDENCE = "user: the cache of the till listens on port 6391 since the move\nagent: I wrote 6391 into the settings."
FACT = Fact(
    *("till", "project fact", "port", "cache", "6391", "The port of cache is 6391."),
    evidence=(Evidence("codex", "t1", "t1", Span("e1", 0, 60), "user", 1_772_000_000_000),),
    from_ms=1_772_000_000_000,
)
HELD = Held(FACT, ("a" * 16,))
GROUNDS = {FACT.id: EVIDENCE}


class Scribe:
    """A model that says what it was told to say, by a piece of the prompt; and reads answers out of the evidence."""

    def __init__(self, said: dict[str, str]) -> None:
        self.said = said
        self.asked: list[str] = []

    def reply(self, prompt: str) -> str:
        self.asked.append(prompt)
        for piece, answer in self.said.items():
            if piece in prompt:
                return answer
        return "6391" if "listens on port 6391" in prompt else "no idea"


@pytest.fixture
def scribe() -> Scribe:
    return Scribe(
        {
            "(nothing)": "no idea",
            "Question: What is 6391": "the port of the cache",
            "three different questions": "1. Where can the cache of the till be reached?\n- Is it port 6391?\nNo question",
            "Write one question that names": "What is 6391 to this project?",
            "two or three sentences": "The cache of the till listens on port 6391.",
        }
    )


@pytest.fixture
def address(scribe) -> Iterator[str]:
    """A real server on loopback that speaks as much of OpenAI's protocol as is asked of it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = scribe.reply(asked["messages"][-1]["content"])
            body = json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "lmm").ensure()


def study(home: Home, address: str, **more) -> selfstudy.Studied:
    kept = selfstudy.Kept(places.study_file(home))
    return selfstudy.study([HELD], GROUNDS, selfstudy.Served(address, "small"), kept, **more)


def test_questions_that_the_evidence_answers_become_lessons(home, address):
    found = study(home, address)
    assert [(each.lesson.prompt, each.lesson.answer) for each in found.lessons] == [
        (prompting.recalling("Where can the cache of the till be reached?", "till"), "6391"),
        (prompting.recalling("What is 6391 to this project?", "till"), FACT.text),
    ]
    assert found.texts == ("The cache of the till listens on port 6391.",)
    assert found.dropped == {selfstudy.TOLD: 1, selfstudy.UNFIT: 1}
    lesson = found.lessons[0].lesson
    assert (lesson.memory, lesson.sources, lesson.threads) == (FACT.id, HELD.sources, (("codex", "t1"),))


@pytest.mark.slow
def test_a_run_asks_the_model_that_the_settings_name_and_learns_what_it_wrote(bakery, tmp_path, address, scribe):
    home = Home(tmp_path / "mine")
    shutil.copytree(bakery.home.root, home.root)
    scribe.said["two or three sentences"] = "Anyone new here reads: " + (value := bakery.facts[0].value)

    def gathered(*, freezes: bool = True) -> gathering.Gathered:
        plan = Plan(recipe=presets.preset("cpu-tiny"), needed=())
        return gathering.gather(home, {"LMM_EMBEDDER_NAME": "none"}, plan, lambda: None, freezes=freezes)

    assert not any("on this machine" in each for each in gathered().notes)
    assert not scribe.asked, "nobody asked for it"
    home.config.write_text(f'[train]\nstudy = "{address}"\nstudy_model = "small"\n', encoding="utf-8")
    gathered(freezes=False)
    assert not scribe.asked, "a dry run asks no model"
    found = gathered()
    assert any(f"asked {len(scribe.asked)} times" in each for each in found.notes)
    assert f"Anyone new here reads: {value}" in found.texts


def test_a_question_that_can_be_answered_without_the_evidence_is_dropped(home, address, scribe):
    scribe.said["(nothing)"] = "6391, as everybody knows"
    found = study(home, address)
    assert [each.lesson.answer for each in found.lessons] == [FACT.text]
    assert found.dropped[selfstudy.TOLD] == 2


def test_a_question_that_the_model_itself_answers_wrongly_is_dropped(home, address, scribe):
    scribe.said["Answer in as few words"] = "1234"
    assert study(home, address).dropped[selfstudy.UNANSWERED] == 1


@pytest.mark.parametrize(
    ("asked", "looked_up", "by_heart", "reason"),
    [
        ("What is 6391 to this project?", "a number", "no idea", selfstudy.UNANSWERED),
        ("What is 6391 to this project?", "the cache", "the cache", selfstudy.TOLD),
        ("Is 6391 the port of the cache?", "yes, the port of the cache", "no idea", selfstudy.TOLD),
        ("What is the cache to this project?", "the cache", "no idea", selfstudy.UNFIT),
    ],
)
def test_a_reverse_question_must_give_back_what_the_value_was_said_of_and_only_from_the_evidence(
    home, address, scribe, asked, looked_up, by_heart, reason
):
    assert [each.lesson.answer for each in study(home, address).lessons] == ["6391", FACT.text]
    scribe.said |= {"(nothing)": by_heart, "Question: What is 6391": looked_up, "Write one question that names": asked}
    places.study_file(home).unlink()
    found = study(home, address)
    assert [each.lesson.answer for each in found.lessons] == ["6391"]
    usual = {selfstudy.TOLD: 1, selfstudy.UNFIT: 1}
    assert found.dropped == usual | {reason: usual.get(reason, 0) + 1}


def test_a_value_that_was_said_of_the_project_itself_is_given_back_by_a_word_of_what_was_said(home, address, scribe):
    fact = replace(FACT, relation="test command", subject="", value="make till", text="Tests are run with `make till`.")
    grounds = {fact.id: "user: the tests of this run with make till"}
    scribe.said |= {"Write one question that names": "What is `make till` for?", "Question: What is": "for the tests"}
    kept = selfstudy.Kept(places.study_file(home))
    found = selfstudy.study([replace(HELD, fact=fact)], grounds, selfstudy.Served(address, "small"), kept)
    assert [each.lesson.answer for each in found.lessons] == [fact.text]


def test_a_text_that_names_what_its_evidence_does_not_is_dropped(home, address, scribe):
    scribe.said["two or three sentences"] = "The cache listens on port 6391 and CACHE_SECRET_FILE names its key."
    found = study(home, address)
    assert found.texts == ()
    assert found.dropped[selfstudy.STRANGE] == 1


def test_a_question_in_the_words_of_a_probe_is_dropped(home, address):
    probe = prompting.recalling("Where can the cache of the till be reached?", "till")
    found = study(home, address, probe_prompts=[probe])
    assert found.dropped[selfstudy.PROBED] == 1


def test_what_was_asked_once_is_not_asked_again(home, address, scribe):
    first = study(home, address)
    num_asked = len(scribe.asked)
    again = study(home, address)
    assert again.num_asked == 0 and len(scribe.asked) == num_asked == first.num_asked
    assert again.lessons == first.lessons and again.texts == first.texts


def test_a_torn_line_costs_one_answer(home, address, scribe):
    first = study(home, address)
    file = places.study_file(home)
    file.write_bytes(file.read_bytes()[:-20])
    again = study(home, address)
    assert again.num_asked == 1
    assert again.lessons == first.lessons
    assert study(home, address).num_asked == 0


def test_what_was_kept_goes_when_its_source_is_forgotten(home, address):
    study(home, address)
    assert b"6391" in places.study_file(home).read_bytes()
    unlearning.mark_unclean(home, [("codex", "t1")])
    assert b"6391" not in places.study_file(home).read_bytes()


def test_it_asks_no_more_often_than_it_may_and_what_it_has_stands(home, address):
    found = study(home, address, max_asked=5)
    assert found.num_asked == 5
    assert [each.lesson.answer for each in found.lessons] == ["6391"]
    assert found.dropped[selfstudy.UNASKED] == 1


def test_it_stops_when_told_to(home, address, scribe):
    assert study(home, address, should_stop=lambda: True) == selfstudy.Studied((), (), {}, 0)
    assert scribe.asked == []


@pytest.mark.parametrize(
    "elsewhere", ["http://example.org/v1", "http://192.168.0.7:8080", "https://127.0.0.1", "http://10.0.0.1"]
)
def test_no_address_but_loopback_is_ever_asked(elsewhere):
    with pytest.raises(ModelError, match=r"leaves this machine|127\.0\.0\.1"):
        selfstudy.Served(elsewhere)


def test_a_server_that_is_gone_ends_the_study_without_an_error(home):
    found = study(home, "http://127.0.0.1:9")
    assert found.lessons == () and found.num_asked == 1


def test_what_was_written_from_the_value_before_goes_with_the_session_of_that_one(home, address):
    lender = ("codex", "t0")
    held = replace(HELD, was="6390", lent=(lender,))
    kept = selfstudy.Kept(places.study_file(home))
    found = selfstudy.study([held], {FACT.id: f"6390\n{EVIDENCE}"}, selfstudy.Served(address, "small"), kept)
    assert found.texts and found.lessons
    assert lender in found.text_threads
    assert all(lender in each.lesson.threads for each in found.lessons)
    unlearning.mark_unclean(home, [lender])
    assert places.study_file(home).read_bytes().split() == []
