"""What every reader promises of its own store, whatever kind it is: looked for, listed, read, read again, spoiled.

`tests/sessions/<agent>/home` is laid out in a temporary HOME; `NAME.db.sql` there becomes the database `NAME.db`.
`tests/sessions/<agent>/import` holds files that a user names.
"""

import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ingest import sources
from ingest.readers.registry import BUILT_IN, READERS, by_agent, reader_for
from ingest.session import Cursor, Item, Reader, ReadTo, SourceFile, Unreadable
from lmm_mcp.config import Sessions
from lmm_mcp.domain.agents import EXPORTS, KNOWN_AGENTS, PLACES
from lmm_mcp.domain.event import Event, LAST_ms, Thread

SESSIONS = Path(__file__).parent.parent / "sessions"
BESIDE = tuple(pattern.replace("*", "") for pattern in sources.NEVER_OPENED)
"""What lies beside sessions and is none of ours."""
SECRET = "hunter2-nobody-may-read-this"
_KINDS = {"prompt", "reply", "thought", "call", "result", "summary"}


@dataclass(frozen=True)
class Sample:
    """One agent's store, laid out for a test."""

    reader: Reader
    home: Path
    files: tuple[Path, ...]
    is_import: bool

    @property
    def env(self) -> dict[str, str]:
        return {"HOME": str(self.home), "USERPROFILE": str(self.home), "LMM_HOME": str(self.home / ".lmm")}

    def roots(self) -> list[Path]:
        extra = [self.home] if self.is_import or self.reader.lies_in_projects else []
        # Work lies anywhere below a home.
        if self.reader.lies_in_projects:
            extra = [Path(folder) for folder, _, _ in os.walk(self.home)]
        return list(self.reader.roots(self.env, extra))

    def found(self) -> list[Path]:
        paths = [path for root in self.roots() if root.exists() for path in self.reader.discover(root)]
        return sorted(set(paths))

    def sources(self) -> list[SourceFile]:
        return [item for path in self.found() for item in self.reader.sources(path) if isinstance(item, SourceFile)]


def laid_out(agent: str, kind: str, home: Path) -> Sample:
    shutil.copytree(SESSIONS / agent / kind, home)
    for script in sorted(home.rglob("*.sql")):
        database = script.with_suffix("")
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(script.read_text(encoding="utf-8"))
        script.unlink()
    files = tuple(sorted(path for path in home.rglob("*") if path.is_file()))
    return Sample(by_agent(agent), home, files, kind == "import")


AGENTS = [
    (folder.name, kind)
    for folder in sorted(SESSIONS.iterdir())
    for kind in ("home", "import")
    if (folder / kind).is_dir()
]
every_store = pytest.mark.parametrize(("agent", "kind"), AGENTS, ids=lambda value: str(value))


@pytest.fixture
def sample(agent: str, kind: str, tmp_path: Path) -> Sample:
    return laid_out(agent, kind, tmp_path / "home")


def whole(reader: Reader, source: SourceFile) -> list[Item]:
    """Everything of a source, slice after slice."""
    items: list[Item] = []
    cursor = source.start
    while True:
        *said, end = reader.read(source.path, cursor)
        items.extend(said)
        assert isinstance(end, ReadTo), "a reading ends with where it came to"
        if not end.has_more:
            return [*items, end]
        assert end.cursor != cursor, "a slice must come further"
        cursor = end.cursor


def events_in(items: Iterable[Item]) -> Iterator[tuple[Thread, Event]]:
    thread: Thread | None = None
    for item in items:
        if isinstance(item, Thread):
            thread = item
        elif isinstance(item, Event):
            assert thread is not None, "an event before any thread"
            yield thread, item


def all_events(sample: Sample) -> list[tuple[Thread, Event]]:
    return [pair for source in sample.sources() for pair in events_in(whole(sample.reader, source))]


def test_every_agent_that_may_be_named_has_a_reader_and_the_other_way_round() -> None:
    assert {reader.agent for reader in BUILT_IN} == {*KNOWN_AGENTS, EXPORTS}


class Asked(dict[str, str]):
    """An environment that remembers which variables it was asked for."""

    def __init__(self, given: dict[str, str]) -> None:
        super().__init__(given)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def test_every_variable_that_says_where_sessions_lie_is_known_to_whoever_must_hand_it_on(tmp_path: Path) -> None:
    env = Asked({"HOME": str(tmp_path)})
    for reader in BUILT_IN:
        reader.roots(env, [])
    # Those of the system itself every process has.
    assert env.names - {"HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"} == {*PLACES}


def test_no_variable_leads_a_test_to_real_sessions() -> None:
    ours = Path(os.environ["HOME"])
    left = {name: os.environ[name] for name in (*PLACES, "APPDATA", "LOCALAPPDATA") if name in os.environ}
    assert [name for name, place in left.items() if not Path(place).is_relative_to(ours)] == []


def test_variables_of_whoever_runs_the_tests_are_out_of_their_reach(tmp_path: Path) -> None:
    of_user = dict.fromkeys((*PLACES, "APPDATA", "LOCALAPPDATA"), str(tmp_path))
    asked = f"{__file__}::{test_no_variable_leads_a_test_to_real_sessions.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", asked]
    ended = subprocess.run(command, env={**os.environ, **of_user}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_every_reader_has_a_sample() -> None:
    shown = {agent for agent, _ in AGENTS} | {"claude-code", "codex", "notes", EXPORTS}  # test_readers, test_carrying
    assert {reader.agent for reader in BUILT_IN} <= shown


@every_store
def test_sessions_are_found_where_the_agent_keeps_them(sample: Sample) -> None:
    sources_found = sample.sources()
    assert sources_found
    assert len({source.name for source in sources_found}) == len(sources_found)
    assert all(source.agent == sample.reader.agent for source in sources_found)


@every_store
def test_the_same_is_found_by_the_walk_of_the_ingest_process(sample: Sample) -> None:
    settings = Sessions(folders=(f"{sample.reader.agent}={sample.home}",)) if sample.is_import else Sessions()
    projects = [Path(folder) for folder, _, _ in os.walk(sample.home)]
    found = sources.find(sample.env, settings, sample.home / ".lmm" / "notes", projects)
    mine = [item for item in found if isinstance(item, SourceFile) and item.agent == sample.reader.agent]
    assert {item.name for item in mine} == {item.name for item in sample.sources()}


@every_store
def test_prompts_replies_and_results_are_told_with_ids_and_times_that_fit(sample: Sample) -> None:
    events = all_events(sample)
    assert {"prompt", "reply"} <= {event.kind for _, event in events} <= _KINDS
    for thread, event in events:
        assert thread.agent == sample.reader.agent
        assert event.id
        assert str(sample.home) not in event.id
        assert 0 <= event.at_ms <= LAST_ms
        for text in (event.id, event.text, event.command, event.cwd, event.branch, *event.paths, thread.title):
            text.encode("utf-8")
            assert not re.search(r"[A-Za-z0-9+/]{2001}", text), "base64"


@every_store
def test_an_id_stands_for_one_message_of_one_thread(sample: Sample) -> None:
    for source in sample.sources():
        said: dict[tuple[str, str], str] = {}
        for thread, event in events_in(whole(sample.reader, source)):
            assert said.setdefault((thread.thread_id, event.id), event.kind) == event.kind


@every_store
def test_reading_again_says_the_same(sample: Sample) -> None:
    assert all_events(sample) == all_events(sample)


@every_store
def test_results_answer_calls(sample: Sample) -> None:
    events = [event for _, event in all_events(sample)]
    calls = {event.call_id for event in events if event.kind == "call"}
    results = [event.call_id for event in events if event.kind == "result" and event.call_id]
    assert calls or not results
    assert len([each for each in results if each in calls]) * 2 >= len(results)


@every_store
def test_our_own_traffic_is_marked(sample: Sample) -> None:
    events = [event for _, event in all_events(sample)]
    ours = [event for event in events if event.ours]
    if any("recall" in event.tool for event in events):
        assert ours
    assert not [event for event in events if not event.ours and "<lmm-brief" in event.text[:200]]


@every_store
def test_sub_agents_belong_to_the_session_that_started_them(sample: Sample) -> None:
    threads = {thread.thread_id: thread for thread, _ in all_events(sample)}
    for thread in threads.values():
        assert thread.thread_id and thread.session_id
        if thread.parent:
            assert thread.is_subagent
            assert thread.parent != thread.thread_id
            if thread.parent in threads:
                assert threads[thread.parent].session_id == thread.session_id


@every_store
def test_a_change_of_a_session_file_speaks_of_it_and_no_other_file_does(sample: Sample) -> None:
    found = set(sample.found())
    for root in sample.roots():
        for path in found:
            if path.is_relative_to(root) and path in set(sample.reader.discover(root)):
                assert sample.reader.session_of(root, path) == path
        for name in BESIDE:
            assert sample.reader.session_of(root, root / name) is None
        for path in sample.files:
            if path.is_relative_to(root) and (spoken := sample.reader.session_of(root, path)) is not None:
                assert spoken in found


@every_store
def test_only_session_files_are_ever_opened(sample: Sample) -> None:
    planted = plant_secrets(sample)
    with opened_files() as opened:
        events = all_events(sample)
    assert not set(opened) & planted
    assert not [event for _, event in events if SECRET in event.text]


@every_store
def test_a_home_that_is_named_gives_its_sessions_and_no_secret_in_it_is_opened(sample: Sample) -> None:
    planted = plant_secrets(sample)
    with opened_files() as opened:
        found = sources.named([sample.home])
    assert not set(opened) & planted
    assert {item.name for item in found if isinstance(item, SourceFile)} >= {item.name for item in sample.sources()}


def plant_secrets(sample: Sample) -> set[str]:
    folders = {parent for path in sample.found() for parent in path.parents if parent.is_relative_to(sample.home)}
    planted = set()
    for folder in folders:
        for name in BESIDE:
            if folder.is_dir() and not (folder / name).exists():
                (folder / name).write_text(f'{{"token": "{SECRET}"}}\n', encoding="utf-8")
                planted.add(str(folder / name))
    return planted


@every_store
def test_nothing_beside_the_sessions_is_changed_by_reading(sample: Sample) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sample.files}
    all_events(sample)
    after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sample.files}
    assert before == after


@every_store
def test_a_session_file_that_is_named_finds_its_reader(sample: Sample) -> None:
    for path in sample.found():
        if path.is_file():
            assert reader_for(path) is sample.reader, path.relative_to(sample.home)


@every_store
def test_files_of_strangers_are_claimed_by_nobody(sample: Sample, tmp_path: Path) -> None:
    for name in {path.name for path in sample.found()} | {"data.json", "notes.md", "app.db", "log.jsonl", "export.zip"}:
        stranger = tmp_path / "strangers" / name
        stranger.parent.mkdir(exist_ok=True)
        stranger.write_bytes(b'{"name": "left-pad", "version": "1.3.0"}\n')
        reader = reader_for(stranger)
        if reader is not None:  # by its name; then reading it must say nothing
            items = [
                item
                for source in reader.sources(stranger)
                if isinstance(source, SourceFile)
                for item in reader.read(source.path, source.start)
            ]
            assert not [item for item in items if isinstance(item, Event)]


@every_store
def test_garbage_is_said_and_never_raised(sample: Sample) -> None:
    dice = random.Random(5433)
    for path in sample.found():
        if path.is_dir():
            continue
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        for garbage in (b"", b"\0" * 5000, b"\n" * 99, b"[[]]\n", b"{}", b'{"a":', dice.randbytes(20_000)):
            path.write_bytes(garbage)
            for event in told_or_refused(sample.reader, path):
                assert not isinstance(event, Event)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@every_store
def test_a_pipe_in_place_of_a_session_is_not_waited_for(sample: Sample) -> None:
    for path in sample.found():
        if path.is_dir():
            continue
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.unlink()
        os.mkfifo(path)
        assert not sample.reader.claims(path)
        assert not [item for item in told_or_refused(sample.reader, path) if isinstance(item, Event)]
        with pytest.raises(OSError):  # it took the place of the file after that was looked at
            for source in [SourceFile(sample.reader.agent, path, 1, 1, part) for part in ("", "a")]:
                list(sample.reader.read(path, source.start))


@every_store
def test_a_file_cut_anywhere_is_read_as_far_as_it_goes(sample: Sample) -> None:
    for path in sample.found():
        if path.is_dir():
            continue
        content = path.read_bytes()
        for at in sorted({len(content) * n // 11 for n in range(11)}):
            path.write_bytes(content[:at])
            told_or_refused(sample.reader, path)
        path.write_bytes(content)


@every_store
def test_values_of_unexpected_types_are_survived(sample: Sample) -> None:
    dice = random.Random(1729)
    for path in sample.found():
        if path.is_dir():
            continue
        content = path.read_bytes()
        for _ in range(8):
            if content.startswith(b"SQLite format 3"):
                spoil_database(path, dice)
            else:
                path.write_bytes(spoilt_text(content, dice))
            for event in told_or_refused(sample.reader, path):
                if isinstance(event, Event):
                    assert all(isinstance(text, str) for text in (event.id, event.text, event.tool, event.command))
                    assert isinstance(event.at_ms, int)


@every_store
def test_unknown_kinds_are_counted_and_named_without_their_text(sample: Sample) -> None:
    said = [
        item for source in sample.sources() for item in whole(sample.reader, source) if isinstance(item, Unreadable)
    ]
    assert all(item.problem and len(item.problem) < 300 for item in said)
    assert not any("\n" in item.problem for item in said)
    assert max(Counter((item.path, item.line, item.problem) for item in said).values(), default=1) == 1


@every_store
def test_read_in_two_steps_equals_read_at_once(sample: Sample) -> None:
    for source in sample.sources():
        *_, end = whole(sample.reader, source)
        assert isinstance(end, ReadTo)
        if not end.cursor.offset:
            continue  # read whole each time
        content = source.path.read_bytes()
        at_once = {event.id: (thread.thread_id, event) for thread, event in events_in(whole(sample.reader, source))}
        for border in [match.end() for match in re.finditer(rb"\n", content)][:-1]:
            source.path.write_bytes(content[:border])
            *first, middle = sample.reader.read(source.path, Cursor())
            source.path.write_bytes(content)
            assert isinstance(middle, ReadTo)
            *second, _ = sample.reader.read(source.path, middle.cursor)
            # What a thread is called may be known later only.
            got = {event.id: (thread.thread_id, event) for thread, event in events_in([*first, *second])}
            assert got == at_once, f"cut at byte {border}"


def told_or_refused(reader: Reader, path: Path) -> list[Item]:
    """What is said of a spoiled file; being refused by the system is an answer, too."""
    items: list[Item] = []
    try:
        for source in reader.sources(path):
            items.extend([source] if isinstance(source, Unreadable) else whole(reader, source))
    except OSError:
        pass
    return items


def spoil_database(path: Path, dice: random.Random) -> None:
    """Replace about one value in eight by something of another type, JSON inside of texts included."""
    with closing(sqlite3.connect(path)) as connection, connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")') if not row[5]]
            for (rowid,) in connection.execute(f'SELECT rowid FROM "{table}"').fetchall():
                for column in columns:
                    if dice.random() < 0.12:
                        value = dice.choice([None, -1, 2.5, "", "x", "{}", "[]", "null", b"\xff\x00", 2**62])
                        try:
                            connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (value, rowid))
                        except sqlite3.Error:  # a constraint of the agent's
                            continue


_VALUE = re.compile(rb'(?<=[:\[,])\s*(?:"(?:[^"\\\n]|\\.)*"(?!\s*:)|\d+|true|false|null)')


def spoilt_text(content: bytes, dice: random.Random) -> bytes:
    """Replace about one JSON value in twelve by something of another type."""
    others = [b"null", b"-1", b"2.5", b'""', b"[]", b"{}", b"[null]", b'{"type": 7}', b"true", b"1e400", b'"x"']
    return _VALUE.sub(lambda found: dice.choice(others) if dice.random() < 0.08 else found[0], content)


class opened_files:
    """Notes every file that this process opens. An audit hook cannot be taken out again, so it is told to look away."""

    def __enter__(self) -> list[str]:
        self.names: list[str] | None = []
        sys.addaudithook(self._hear)
        return self.names

    def __exit__(self, *problem: object) -> None:
        self.names = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "sqlite3.connect") and self.names is not None and isinstance(arguments[0], str | Path):
            self.names.append(str(arguments[0]))


def test_other_packages_readers_do_not_hide_ours() -> None:
    assert READERS[: len(BUILT_IN)] == BUILT_IN
