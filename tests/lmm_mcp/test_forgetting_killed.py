"""Forgetting by real processes: killed at some point and completed by the next command, and met by the reader again."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from lmm_mcp.domain.chunk import Span
from lmm_mcp.domain.fact import Evidence, Fact, Salience
from lmm_mcp.paths import Home
from lmm_mcp.store import frames, tables
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.facts import REPOSITORY, Derived, FactStore
from lmm_mcp.store.ledger import Ledger

NEEDLE = "zebrafish"

SAME, OTHER, IMPORT = (
    ("forget", "--match", NEEDLE, "--yes"),
    ("forget", "--match", "xyzzy", "--yes"),
    ("import", "--words-only"),
)
ROUNDS = {
    "before anything is decided": ("Ledger.set_meta", SAME),
    "before the notes": ("lines.drop_notes", IMPORT),
    "before a file of the archive is renamed": ("Path.replace *.zst.new", OTHER),
    "before old versions of the store are dropped": ("tables.drop_old_versions", SAME),
    "before facts are deleted": ("FactStore.forget", SAME),
    "before the facts are written anew": ("FactStore.purge", OTHER),
    "before the ledger is written anew": ("ledger_schema.rewrite", IMPORT),
    "before the rest is cut anew": ("children.hand_over", OTHER),
}
"""Where it dies, and the command that comes next."""

KILLED = """
import os, signal, sys
from pathlib import Path
from lmm_mcp import children
from lmm_mcp.cli import program
from lmm_mcp.store import ledger_schema, lines, tables
from lmm_mcp.store.facts import FactStore
from lmm_mcp.store.ledger import Ledger

name, *only = sys.argv[1].split()
room, function = name.split(".")
room = globals()[room]
real = getattr(room, function)

def dies(*given, **named):
    if only and not given[0].match(only[0]):
        return real(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(room, function, dies)
program.run(sys.argv[2:])
"""


def run(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "lmm_mcp", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)


@pytest.fixture
def home(own_env) -> Home:
    """A memory that speaks of a zebrafish wherever it can."""
    home = Home(Path(own_env["LMM_HOME"]))
    (home.logs / "server.log").write_text(f"warn {NEEDLE}\n", encoding="utf-8")
    home.progress.write_text(json.dumps({"pid": 0, "phase": "done", "error": f"no {NEEDLE}"}), encoding="utf-8")
    home.handover.joinpath("1-1.json").write_text(json.dumps({"paths": [f"/w/{NEEDLE}/x.jsonl"]}), encoding="utf-8")
    note = {"id": "n1", "at_ms": 1, "text": f"not read yet: {NEEDLE}", "project": "", "cwd": ""}
    home.notes.joinpath("2026-11.jsonl").write_text(json.dumps(note) + "\n", encoding="utf-8")
    ledger = Ledger.open(home.ledger)
    ledger.record_unreadable(f"/w/{NEEDLE}.jsonl", 1, "no JSON")
    ledger.add_root(f"/w/{NEEDLE}", f"/w/{NEEDLE}")
    ledger.close()
    derive_from(home)
    assert len(traces(home)) >= 7
    return home


def derive_from(home: Home) -> None:
    """What might have been derived from the sessions that hold the needle, and from the files of a project."""
    archive, facts = Archive(home.archive), FactStore.open(home.facts, create=True)
    for _, thread in archive.threads():
        events = archive.read(thread.agent, thread.thread_id)[1]
        holding = [event for event in events if NEEDLE in event.text.lower()]
        for key in [(thread.agent, thread.thread_id), *([(REPOSITORY, f"/w/{NEEDLE}")] if holding else [])]:
            said = tuple(
                Fact(
                    "w",
                    "decision",
                    "decision",
                    "",
                    event.text,
                    event.text,
                    (Evidence(*key, "s", Span(event.id, 0, 1), "user", 1),),
                    1,
                )
                for event in holding
            )
            weighed = (Salience(f"{key}", 0.5, ((NEEDLE if holding else "pinned", 1.0),)),)
            facts.replace(Derived(*key, "s", "w", "1", said, weighed))
    assert facts.num_observations() >= 2
    facts.close()


def traces(home: Home) -> list[str]:
    """Everything under the memory home that holds the needle, unpacked where it is packed."""
    found = []
    for path in sorted(home.root.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        unpacked = [data]
        if ".zst" in path.name:
            spans, torn_at = frames.walk(data, path)
            unpacked += [zstandard.ZstdDecompressor().decompress(data[start:end]) for start, end in spans]
            assert torn_at is None
        if any(NEEDLE.encode() in text.lower() for text in unpacked):
            found.append(str(path.relative_to(home.root)))
    return found


def every_version(home: Home) -> str:
    """All rows of all versions of all tables."""
    database, said = tables.connect(home.store), []
    for path in sorted(home.store.glob("*.lance")):
        table = database.open_table(path.stem)
        for version in table.list_versions():
            table.checkout(version["version"])
            said.append(str(table.search().limit(tables.ALL_ROWS).to_list()))
    return "\n".join(said).casefold()


def ledger_of(home: Home) -> str:
    """Every row of the ledger."""
    with contextlib.closing(sqlite3.connect(home.ledger)) as ledger:
        return "\n".join(ledger.iterdump()).casefold()


@pytest.mark.parametrize("point", ROUNDS)
def test_a_killed_forgetting_is_completed_by_the_next_command(own_env, home, point):
    where, comes_next = ROUNDS[point]
    command = [sys.executable, "-P", "-c", KILLED, where, *SAME]
    dead = subprocess.run(command, env=own_env, capture_output=True, timeout=60, check=False)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    before = set(home.store.rglob("*.lance"))

    done = run(own_env, *comes_next)
    assert done.returncode == 0, done.stderr
    assert traces(home) == []
    # Nothing that the dead one left in the store is there any more, however LanceDB packs it.
    assert not {path for path in before & set(home.store.rglob("*.lance")) if path.is_file()}
    assert NEEDLE not in every_version(home)
    with contextlib.closing(sqlite3.connect(home.ledger)) as ledger:
        assert ledger.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert NEEDLE not in ledger_of(home)

    assert ChunkStore.open(home.store).lexical(["lamp"], Scope(), 1)  # what is left was cut anew
    if comes_next != IMPORT:
        assert run(own_env, *IMPORT).returncode == 0  # the agent's own file still holds it
        assert traces(home) == []


def test_a_damaged_file_is_named_with_the_next_step_and_the_exit_code_says_so(own_env, home):
    archive = Archive(home.archive)
    path = next(path for path, thread in archive.threads() if "lighthouse" not in thread.cwd)
    path.write_bytes(b"this is no archive" * 9)
    shown = run(own_env, "forget", "--match", NEEDLE)
    assert (shown.returncode, str(path) in shown.stderr) == (1, True)
    assert "would be forgotten" in shown.stdout
    done = run(own_env, *SAME)
    assert (done.returncode, str(path) in done.stderr, "lmm import" in done.stderr) == (1, True, True)
    assert "forgot 1 message;" in done.stdout
    path.unlink()
    assert traces(home) == []


def test_of_a_forgotten_project_not_even_the_name_comes_back_with_its_file(own_env):
    home = Home(Path(own_env["LMM_HOME"]))
    assert run(own_env, *IMPORT).returncode == 0
    assert "lighthouse" in ledger_of(home)
    assert run(own_env, "forget", "--project", "lighthouse", "--yes").returncode == 0
    assert "lighthouse" not in ledger_of(home)
    assert run(own_env, *IMPORT).returncode == 0
    assert "lighthouse" not in ledger_of(home)
    assert not [path for path in home.root.rglob("*") if path.is_file() and b"lighthouse" in path.read_bytes().lower()]


def said(number: int, role: str, text: str, day: str, branch: str) -> dict[str, object]:
    content = text if role == "user" else [{"type": "text", "text": text}]
    return {
        "type": role,
        "uuid": f"u{number}",
        "sessionId": "s-1",
        "timestamp": f"{day}T10:00:00.000Z",
        "cwd": "/w/aviary",
        "gitBranch": branch,
        "message": {"id": f"m{number}", "role": role, "content": content},
    }


def titled(title: str) -> dict[str, object]:
    return {"type": "ai-title", "aiTitle": title, "sessionId": "s-1"}


def test_title_and_branch_of_a_forgotten_beginning_stay_away_while_the_session_goes_on(own_env):
    home = Home(Path(own_env["LMM_HOME"]))
    file = Path(own_env["CLAUDE_CONFIG_DIR"]) / "projects" / "-w-aviary" / "s-1.jsonl"
    file.parent.mkdir()

    def write(*records: dict[str, object]) -> None:
        with file.open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(record) + "\n" for record in records)
        assert run(own_env, *IMPORT).returncode == 0

    def speaks_of(*words: str) -> list[str]:
        threads = [thread for _, thread in Archive(home.archive).threads()]
        archived = [str(one) for each in threads for one in Archive(home.archive).records(each.agent, each.thread_id)]
        files = [path.read_bytes().decode("latin-1") for path in home.root.rglob("*") if path.is_file()]
        everything = "\n".join([ledger_of(home), *archived, *files]).casefold()
        return [word for word in words if word in everything]

    write(
        said(1, "user", "the client is Ms Quokka", "2025-06-01", "fix/quokka"),
        titled("a wombat's order"),
        said(2, "assistant", "noted", "2025-06-01", "fix/quokka"),
        said(3, "user", "what about pears", "2026-02-01", "main"),
        titled("wombat and pears"),
    )
    assert speaks_of("wombat", "quokka") == ["wombat", "quokka"]
    assert run(own_env, "forget", "--project", "/w/aviary", "--until", "2026-01-01", "--yes").returncode == 0
    assert speaks_of("wombat", "quokka", "pears") == ["pears"]
    write(titled("the wombat once more"), said(4, "user", "and plums", "2026-02-02", "main"))
    assert speaks_of("wombat", "quokka", "plums") == ["plums"]
    chunks = ChunkStore.open(home.store).thread("claude-code", "s-1")
    assert {(chunk.project, chunk.branch) for chunk in chunks} == {("/w/aviary", "main")}

    assert run(own_env, "forget", "--project", "/w/aviary", "--yes").returncode == 0
    with file.open("a", encoding="utf-8") as out:
        out.write("no JSON\n")
    assert run(own_env, *IMPORT).returncode == 0
    assert speaks_of("aviary", "plums", "pears") == []
