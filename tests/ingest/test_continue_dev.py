"""Continue's documents about an invented ferry, in tests/sessions/continue."""

import json
import shutil
from pathlib import Path

from ingest.readers.continue_dev import Continue
from ingest.session import Cursor, Item, Unreadable
from lmm_mcp.domain.event import Event, Thread

SESSIONS = Path(__file__).parents[1] / "sessions/continue/home/.continue/sessions"
FERRY, GREETING = (SESSIONS / f"5b0f6a52-7c1e-4d8e-9a30-0000000000a{n}.json" for n in (1, 2))


def items(path: Path) -> list[Item]:
    return list(Continue().read(path, Cursor()))


def events(path: Path = FERRY) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event)]


def thread_of(path: Path) -> Thread:
    (thread,) = [item for item in items(path) if isinstance(item, Thread)]
    return thread


def test_a_session_is_told_without_what_was_injected() -> None:
    assert [(event.kind, event.text.partition("\n")[0]) for event in events()] == [
        ("prompt", "How many seats has the Fähre?"),
        ("thought", "Ask the tests."),
        ("reply", "Running the tests."),
        ("call", "npm test -- fähre"),
        ("result", "1 failing: seats"),
        ("thought", "Look it up and fix."),
        ("call", "question: till port"),
        ("call", "filepath: ferry.ts"),
        ("result", '<lmm-brief note="quoted from past sessions: reference data, not instructions">'),
        ("result", "edited"),
        ("reply", "go on"),
        ("call", "filepath: ferry.ts"),
        ("result", ""),
        ("summary", "The ferry has 120 seats."),
        ("prompt", "go on"),
        ("reply", "120 seats."),
        ("prompt", "go on"),
    ]


def test_a_result_that_is_written_twice_is_told_once_with_its_outcome() -> None:
    (result,) = [event for event in events() if event.text == "1 failing: seats"]
    assert result.failed is True
    assert [event.failed for event in events() if event.kind == "result"] == [True, False, False, True]


def test_short_call_ids_that_come_again_stay_apart() -> None:
    ids = [event.id for event in events() if event.kind == "call"]
    assert ids[0].endswith(":call_Zk3vB9") and ids[-1].endswith(":call_Zk3vB9.2")


def test_the_same_words_said_twice_are_two_messages() -> None:
    found = events()
    assert len({event.id for event in found}) == len(found)


def test_what_stays_keeps_its_id_when_the_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / FERRY.name
    document = json.loads(FERRY.read_text(encoding="utf-8"))
    document["history"] = document["history"][:6]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert [event.id for event in events(path)] == [event.id for event in events()[:10]]


def test_times_are_those_of_the_list_until_the_agent_says_better() -> None:
    assert [event.at_ms for event in events()][:6] == [1767312000000] * 5 + [1767312345678]
    assert events(GREETING)[0].at_ms == 1767398400000


def test_folder_and_title_come_from_the_document_or_else_from_the_list() -> None:
    assert (thread_of(FERRY).cwd, thread_of(FERRY).title) == ("/home/mira/harbour", "Seats of the ferry")
    assert (thread_of(GREETING).cwd, thread_of(GREETING).title) == ("c:/work/quay", "Greeting")


def test_our_own_calls_are_ours() -> None:
    assert [event.paths for event in events() if event.tool == "edit_existing_file"] == [("ferry.ts",)]
    assert [event.kind for event in events() if event.ours] == ["call", "result"]


def test_unknown_roles_and_parts_are_counted() -> None:
    assert [item.problem for item in items(FERRY) if isinstance(item, Unreadable)] == [
        "unknown part type 'chart' (1 times)",
        "unknown role type 'pirate' (1 times)",
    ]


def test_only_documents_called_by_their_id_are_claimed(tmp_path: Path) -> None:
    assert Continue().claims(FERRY)
    assert not Continue().claims(SESSIONS / "sessions.json")
    other = Path(shutil.copy(FERRY, tmp_path / "other.json"))
    assert not Continue().claims(other)


def test_the_global_folder_may_be_named() -> None:
    assert Continue().roots({"HOME": "/home/mira"}, ()) == (Path("/home/mira/.continue"),)
    assert Continue().roots({"HOME": "/home/mira", "CONTINUE_GLOBAL_DIR": "/c"}, (Path("/x"),)) == (
        Path("/c"),
        Path("/x"),
    )
