"""Cards: written by the served model while nobody asks, told while they hold, gone when anything is forgotten."""

import dataclasses
import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from lmm_mcp import artifacts
from lmm_mcp.artifacts import places, unlearning
from lmm_mcp.domain.card import Card, CardSentence
from lmm_mcp.domain.recall import Question
from lmm_mcp.domain.writing import Offered, Sentence, Written
from lmm_mcp.model.cards import CardBox, is_void, sentences_of
from lmm_mcp.paths import Home
from lmm_mcp.recall import telling
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.server.carding import Carding
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.holdings import Holdings

CARD = Card("file", "shop", "src/cart.py", (CardSentence("Carts expire.", (("a" * 16, 0),)),), {"a" * 16: "h"}, 5, "v1")
OFFERED = [Offered(1, "a" * 16, 4, "user", "carts expire after 30 days", ""), Offered(2, "b" * 16, 0, "user", "no", "")]


class Scripted:
    """A writer that says what a test wants."""

    def __init__(self, says: Written | None) -> None:
        self.says = says

    def write(self, question, offered, *, within_s):
        return self.says


@pytest.fixture
def box(tmp_path) -> CardBox:
    return CardBox(Home(tmp_path / "lmm").ensure())


def test_a_card_is_kept_as_it_was_in_place_of_the_one_before(box, tmp_path):
    as_of = artifacts.forgettings(Home(tmp_path / "lmm"))
    other = dataclasses.replace(CARD, kind="error")
    for each in (CARD, other, dataclasses.replace(CARD, newest_ms=6)):
        assert box.keep(each, as_of=as_of)
    found = CardBox(Home(tmp_path / "lmm")).of("shop")
    assert found == (other, dataclasses.replace(CARD, newest_ms=6))
    assert box.of("another") == ()
    (path,) = places.cards_folder(Home(tmp_path / "lmm")).iterdir()
    assert "shop" not in path.name
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


def test_cards_of_subjects_that_are_no_longer_wanted_are_dropped(box, tmp_path):
    as_of = artifacts.forgettings(Home(tmp_path / "lmm"))
    for name in ("a.py", "b.py"):
        box.keep(dataclasses.replace(CARD, subject=name), as_of=as_of)
    box.drop("shop", [("file", "b.py")])
    assert [each.subject for each in box.of("shop")] == ["b.py"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2, "cards": []}', '{"format": 1, "cards": [{}]}'])
def test_a_file_that_cannot_be_read_holds_no_cards(box, tmp_path, text):
    home = Home(tmp_path / "lmm")
    box.keep(CARD, as_of=artifacts.forgettings(home))
    (path,) = places.cards_folder(home).iterdir()
    path.write_text(text, encoding="utf-8")
    assert CardBox(home).of("shop") == ()


def test_forgetting_anything_deletes_all_cards_and_what_was_read_before_it_is_not_kept(box, tmp_path):
    home = Home(tmp_path / "lmm")
    as_of = artifacts.forgettings(home)
    box.keep(CARD, as_of=as_of)
    unlearning.mark_unclean(home, [("codex", "thread")])
    assert box.of("shop") == () and not places.cards_folder(home).exists()
    assert not box.keep(CARD, as_of=as_of)
    assert not places.cards_folder(home).exists()
    assert box.keep(CARD, as_of=artifacts.forgettings(home))


def test_what_was_written_and_checked_is_the_card_else_what_was_chosen():
    said = Sentence("Carts expire after 30 days.", (1,))
    written = Scripted(Written((1,), (said,), model="v2"))
    assert sentences_of(written, "?", OFFERED, within_s=1) == (
        (CardSentence("Carts expire after 30 days.", (("a" * 16, 4),)),),
        "v2",
    )
    chosen = Scripted(Written((1,), model="v2"))
    assert [each.text for each in sentences_of(chosen, "?", OFFERED, within_s=1)[0]] == ["carts expire after 30 days"]
    for nothing in (None, Written((), model="v2")):
        assert sentences_of(Scripted(nothing), "?", OFFERED, within_s=1) == ((), "")


def test_a_card_is_void_where_a_passage_changed_or_is_gone():
    assert not is_void(CARD, {"a" * 16: "h"})
    assert is_void(CARD, {"a" * 16: "other"}) and is_void(CARD, {})


# In a real memory


ASKED = "What should I know about {}?"


@pytest.fixture
def own_home(harbour_env, tmp_path) -> Home:
    shutil.copytree(
        harbour_env["LMM_HOME"], tmp_path / "lmm", ignore=shutil.ignore_patterns("engine*")
    )  # sockets cannot be copied
    return Home(tmp_path / "lmm")


@pytest.fixture
def plain(own_home, harbour_env) -> Desk:
    return Desk(own_home, {**harbour_env, "LMM_HOME": str(own_home.root)})


@pytest.fixture
def a_file(plain) -> tuple[str, str]:
    """A project and a file that was touched there and is asked about with success."""
    for project in plain.known_projects():
        for chunk in plain.store().newest(plain_scope(project), 50):
            for file in chunk.files:
                if plain.recaller().evidence(Question(ASKED.format(file), project)):
                    return project, file
    raise AssertionError("no session touches a file")


def plain_scope(project: str):
    from lmm_mcp.store.search import Scope

    return Scope(project=project)


def card_of(plain: Desk, project: str, file: str) -> Card:
    lines = plain.recaller().evidence(Question(ASKED.format(file), project))
    best = lines[0]
    return Card(
        kind="file",
        project=project,
        subject=file,
        sentences=(CardSentence("A sentence of the card.", ((best.chunk.id, best.number),)),),
        sources={best.chunk.id: best.chunk.content_hash},
        newest_ms=max(each.chunk.last_ms for each in lines),
        model="v0009",
    )


class Kept:
    """Cards that a test made."""

    def __init__(self, *cards: Card) -> None:
        self.cards = cards

    def of(self, project: str):
        return [each for each in self.cards if each.project == project]


def told_by(plain: Desk, card: Card, question: Question, *without: str):
    return Recaller(plain.store(), None, frozenset(without), cards=Kept(card)).answer(question)


def test_a_question_about_the_file_is_told_the_card_first_and_by_whom(plain, a_file):
    project, file = a_file
    question, card = Question(ASKED.format(file), project), card_of(plain, project, file)
    recaller = Recaller(plain.store(), None, cards=Kept(card))
    found = recaller.recall(question)
    first = next(line for line in found.text.splitlines() if line.startswith("["))
    assert first == "[c1] in short: A sentence of the card."
    assert found.citations[0].chunk_id == card.sentences[0].rests_on[0][0]
    assert found.notes == ("summed up before by the memory model v0009",)
    assert telling.explained(recaller.answer(question)) == ["card of the memory model v0009: 1 sentence"]


def test_a_card_is_not_told_where_it_does_not_hold_or_is_not_asked_for(plain, a_file):
    project, file = a_file
    question, card = Question(ASKED.format(file), project), card_of(plain, project, file)
    ((chunk_id, was),) = card.sources.items()
    assert told_by(plain, card, question).sentences
    assert not told_by(plain, dataclasses.replace(card, sources={chunk_id: was + "x"}), question).sentences
    assert not told_by(plain, dataclasses.replace(card, sources={"0" * 16: was}), question).sentences
    assert not told_by(plain, dataclasses.replace(card, newest_ms=0), question).sentences
    far = dataclasses.replace(card, sentences=(CardSentence("x", ((chunk_id, 10_000),)),))
    assert not told_by(plain, far, question).sentences
    assert not told_by(plain, dataclasses.replace(card, subject="another.py"), question).sentences
    assert not told_by(plain, card, question, "cards").sentences
    for limited in ({"since_ms": 1}, {"agent": "codex"}, {"project": None}):
        assert not told_by(plain, card, dataclasses.replace(question, **limited)).sentences


def test_asked_of_the_past_only_a_card_is_told_whose_writer_saw_nothing_later(plain, a_file):
    project, file = a_file
    card = card_of(plain, project, file)
    as_of_ms = card.newest_ms + 10
    question = Question(ASKED.format(file), project, until_ms=as_of_ms)
    for newest_ms, is_told in ((card.newest_ms, True), (as_of_ms, True), (as_of_ms + 1, False)):
        told = told_by(plain, dataclasses.replace(card, newest_ms=newest_ms), question)
        assert bool(told.sentences) == is_told
        assert told.lines


def serve(home: Home, models: Path, name: str) -> None:
    folder = artifacts.draft(home)
    shutil.copytree(models / name, folder / "adapter")
    told = dict.fromkeys(("base_hash", "store_version", "lessons_hash", "probes_hash", "run", "code_version"), "")
    manifest = artifacts.Manifest(
        base=str(models / "base"), recipe={}, seed=1, libraries={}, hardware="", verdict=None, **told
    )
    made = artifacts.commit(home, folder, manifest, None, artifacts.Sources.of((), (), as_of=0))
    artifacts.promote(home, made.name, force=True)


@pytest.fixture
def holdings(own_home, harbour_env, small_models):
    serve(own_home, small_models, "says-two")
    found = Holdings(own_home, {**harbour_env, "LMM_HOME": str(own_home.root), "LMM_MODEL_CARDS": "3"})
    yield found
    found._served().close()


def test_cards_are_written_told_and_forgotten_in_a_whole_memory(holdings, own_home, harbour_env):
    assert holdings.writer() is not None  # it waits until the model is loaded
    carding = Carding(holdings)
    quiet_since_s = holdings._used_model_s
    written = [card for _ in range(12) if (card := carding.step()) is not None]
    assert written and all(each.model == "v0001" and each.sentences for each in written)
    assert holdings._used_model_s == quiet_since_s  # work of our own keeps nothing open
    assert carding.step() is None
    assert Carding(holdings).step() is None  # all are up to date: nothing is written again

    desk = Desk(own_home, holdings.env, holdings=holdings)
    card = next(each for each in written if each.kind == "file")
    told = desk.recall(ASKED.format(card.subject), project=card.project)
    assert "summed up before by the memory model v0001" in told.notes
    assert f"in short: {card.sentences[0].text[:40]}" in told.text

    ids = [chunk_id for each in written for chunk_id in each.sources]
    threads = {(chunk.agent, chunk.thread_id) for chunk in holdings.store().get(ids)}
    unlearning.mark_unclean(own_home, sorted(threads))
    assert "in short" not in desk.recall(ASKED.format(card.subject), project=card.project).text
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in own_home.artifacts.rglob("*.json")]
    assert not any(card.sentences[0].text in text for text in texts)


def test_without_a_served_version_no_card_is_written_or_told(own_home, harbour_env, plain, a_file):
    project, file = a_file
    box = CardBox(own_home)
    box.keep(card_of(plain, project, file), as_of=artifacts.forgettings(own_home))
    holdings = Holdings(own_home, {**harbour_env, "LMM_HOME": str(own_home.root)})
    assert Carding(holdings).step() is None
    assert not holdings.recaller().answer(Question(ASKED.format(file), project)).sentences


def test_no_card_is_written_while_somebody_asks(own_home, harbour_env, monkeypatch):
    holdings = Holdings(own_home, {**harbour_env, "LMM_HOME": str(own_home.root)})
    carding = Carding(holdings)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert not carding.is_time()
    holdings._used_model_s -= 60
    assert carding.is_time()
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    assert not carding.is_time()
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    holdings.recaller()
    assert not carding.is_time()


def test_many_cards_written_at_once_are_all_kept(box, tmp_path):
    as_of = artifacts.forgettings(Home(tmp_path / "lmm"))
    threads = [
        threading.Thread(target=box.keep, args=(dataclasses.replace(CARD, subject=f"{n}.py"),), kwargs={"as_of": as_of})
        for n in range(6)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(CardBox(Home(tmp_path / "lmm")).of("shop")) == 6
    assert json.loads(next(places.cards_folder(Home(tmp_path / "lmm")).glob("*.json")).read_text("utf-8"))
