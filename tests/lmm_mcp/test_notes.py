"""`remember` keeps a note, whole and at once, whoever else is writing; and the reader of the inbox finds it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.readers.notes import Notes
from ingest.session import Cursor, ReadTo, Unreadable
from lmm_mcp import children
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.errors import BadInput, HomeError
from lmm_mcp.notes import MAX_NOTE_chars, remember
from lmm_mcp.paths import Home
from lmm_mcp.server.desk import Desk

MARCH_ms = 1_772_366_400_000  # 2026-03-01 12:00 UTC


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "lmm")


def keep(
    home: Home, text: str, *, project: str = "github.com/ann/shop", cwd: str = "/work/shop", now_ms: int = MARCH_ms
) -> str:
    return remember(home, text, project=project, cwd=cwd, now_ms=now_ms)


def inbox(home: Home, month: str = "2026-03") -> Path:
    return home.notes / f"{month}.jsonl"


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read(path: Path, cursor: Cursor = Cursor()) -> list[object]:  # noqa: B008 - frozen
    return list(Notes().read(path, cursor))


def test_a_note_is_one_line_of_the_month_it_was_told_in(home: Home) -> None:
    note_id = keep(home, "  Staging listens on port 5433.\nSince March. ")
    assert records(inbox(home)) == [
        {
            "id": note_id,
            "at_ms": MARCH_ms,
            "text": "Staging listens on port 5433.\nSince March.",
            "project": "github.com/ann/shop",
            "cwd": "/work/shop",
        }
    ]
    assert inbox(home).read_bytes().endswith(b"\n")


def test_every_note_has_an_id_of_its_own_and_the_earlier_ones_stay(home: Home) -> None:
    ids = [keep(home, f"note {n}") for n in range(3)]
    assert [record["id"] for record in records(inbox(home))] == ids
    assert len(set(ids)) == 3


def test_a_new_month_is_a_new_file_by_utc(home: Home) -> None:
    april_ms = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp()) * 1000
    keep(home, "in March", now_ms=april_ms - 1)
    keep(home, "in April", now_ms=april_ms)
    assert [path.name for path in Notes().discover(home.notes)] == ["2026-03.jsonl", "2026-04.jsonl"]


def test_secrets_never_reach_the_inbox(home: Home) -> None:
    secret = "hunter" + "2"
    keep(home, f"the database: postgres://shop:{secret}@db/shop", cwd=f"/work/DB_PASSWORD={secret}/x")
    written = b"".join(path.read_bytes() for path in home.notes.iterdir())
    assert secret.encode() not in written
    assert b"[REDACTED:url-password]" in written


@pytest.mark.parametrize("text", ["", "  \n\t ", "x" * (MAX_NOTE_chars + 1)])
def test_an_empty_or_overlong_note_is_refused_and_nothing_is_kept(home: Home, text: str) -> None:
    with pytest.raises(BadInput):
        keep(home, text)
    assert not inbox(home).exists()


def test_a_note_of_the_greatest_length_is_kept_whole(home: Home) -> None:
    keep(home, "ä" * MAX_NOTE_chars)
    assert records(inbox(home))[0]["text"] == "ä" * MAX_NOTE_chars


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_inbox_is_for_its_owner_alone(home: Home) -> None:
    keep(home, "a note")
    assert inbox(home).stat().st_mode & 0o777 == 0o600
    assert home.notes.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_written_is_said_with_the_next_step(home: Home) -> None:
    home.root.mkdir()
    home.notes.write_text("in the way", encoding="utf-8")
    with pytest.raises(HomeError, match="Nothing was remembered"):
        keep(home, "a note")


def test_a_torn_line_of_a_writer_that_died_takes_no_later_note_with_it(home: Home) -> None:
    keep(home, "before")
    with inbox(home).open("ab") as stream:
        stream.write(b'{"id": "torn", "te')
    keep(home, "after")
    items = read(inbox(home))
    assert [item.text for item in items if isinstance(item, Event)] == ["before", "after"]
    assert sum(isinstance(item, Unreadable) for item in items) == 1


def test_many_processes_append_at_once_and_every_note_arrives_whole(home: Home) -> None:
    program = (
        "import sys; from pathlib import Path; from lmm_mcp.notes import remember; from lmm_mcp.paths import Home\n"
        "for n in range(20): remember(Home(Path(sys.argv[1])), f'{sys.argv[2]} {n} ' + 'x' * 9000,"
        f" project='', cwd='', now_ms={MARCH_ms})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(home.root), str(n)]) for n in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    told = [str(record["text"]).rstrip("x").strip() for record in records(inbox(home))]
    assert sorted(told) == sorted(f"{writer} {n}" for writer in range(4) for n in range(20))


def test_the_reader_yields_each_note_as_something_a_person_said(home: Home) -> None:
    note_id = keep(home, "we deploy on Thursdays")
    thread, event, last = read(inbox(home))
    assert isinstance(thread, Thread)
    assert (thread.agent, thread.title, thread.session_id == thread.thread_id) == ("notes", "notes", True)
    assert thread.thread_id.startswith("notes-2026-03")
    assert isinstance(event, Event)
    assert (event.id, event.kind, event.text, event.at_ms) == (
        f"note:{note_id}",
        "prompt",
        "we deploy on Thursdays",
        MARCH_ms,
    )
    assert isinstance(last, ReadTo)


def test_a_note_belongs_to_the_project_it_was_told_under(home: Home) -> None:
    keep(home, "for the shop", project="github.com/ann/shop", cwd="/elsewhere")
    keep(home, "for a folder", project="/work/mill", cwd="/elsewhere")
    keep(home, "for nobody", project="", cwd="/somewhere")
    threads = [item for item in read(inbox(home)) if isinstance(item, Thread)]
    assert [(thread.remote, thread.cwd) for thread in threads] == [
        ("github.com/ann/shop", ""),
        ("", "/work/mill"),
        ("", ""),
    ]
    assert len({thread.thread_id for thread in threads}) == 3


def test_reading_goes_on_where_it_ended(home: Home) -> None:
    keep(home, "first")
    *_, last = read(inbox(home))
    assert isinstance(last, ReadTo)
    keep(home, "second")
    assert [item.text for item in read(inbox(home), last.cursor) if isinstance(item, Event)] == ["second"]


def test_the_reader_claims_its_inbox_and_nothing_else(home: Home, tmp_path: Path) -> None:
    keep(home, "a note")
    other = tmp_path / "2026-03.jsonl"
    other.write_text('{"type": "user"}\n', encoding="utf-8")
    assert Notes().claims(inbox(home))
    assert not Notes().claims(other)
    assert not Notes().claims(home.notes / ".lock")


def test_a_line_that_is_no_note_is_counted(home: Home) -> None:
    home.notes.mkdir(parents=True)
    inbox(home).write_text('{"id": 7, "text": "x"}\nnot json\n', encoding="utf-8")
    problems = [item for item in read(inbox(home)) if isinstance(item, Unreadable)]
    assert [problem.line for problem in problems] == [1, 2]


def test_a_note_for_no_project_is_found_by_whoever_asks_all_and_by_no_project(tmp_path: Path) -> None:
    env = {**os.environ, "LMM_HOME": str(tmp_path / "lmm"), "LMM_EMBEDDER_NAME": "none"}
    home = Home(tmp_path / "lmm").ensure()
    shop, mill = tmp_path / "shop", tmp_path / "mill"
    for place in (shop, mill):
        (place / ".git").mkdir(parents=True)
        (place / ".git" / "config").write_text("[core]\n", encoding="utf-8")
    at_shop, at_mill, nowhere = (Desk(home, env, cwd=str(place)) for place in (shop, mill, tmp_path))
    at_shop.remember("The lamp oil is blue.", project="*")
    nowhere.remember("The lamp wick is long.")
    at_shop.remember("The lamp glass is green.")
    assert children.start_ingest(home, env, stay=False).wait(90) == 0
    assert at_mill.known_projects() == {"": 2, str(shop): 1}

    def seen(desk: Desk, **asked: str) -> set[str]:
        text = desk.recall("lamp", **asked).text
        return {word for word in ("blue", "long", "green") if word in text}

    assert seen(nowhere) == seen(at_shop, project="*") == seen(at_mill, project="*") == {"blue", "long", "green"}
    # What was said for no project was perhaps said of another one: a project is answered from its own past alone.
    assert seen(at_shop) == {"green"}
    assert seen(at_mill) == set()
