"""What every reader promises, whatever the agent: checked on all synthetic sessions, cut and spoiled in every way."""

import random
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest import sources
from ingest.readers.registry import READERS, by_agent, reader_for
from ingest.session import Cursor, Item, Reader, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.errors import BadInput

SESSIONS = Path(__file__).parent.parent / "sessions"
SAMPLES = sorted(
    path
    for path in SESSIONS.rglob("*")
    if path.name.endswith((".jsonl", ".jsonl.zst"))
    # Those laid out as a home folder are read as such: see test_every_reader.
    and path.relative_to(SESSIONS).parts[1] not in ("home", "import")
    and reader_for(path) is not None
)
NEVER_OPENED = (
    *(pattern.replace("*", "") for pattern in sources.NEVER_OPENED),
    *("history.jsonl", "state_5.sqlite"),
)

every_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.agent)
every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.relative_to(SESSIONS).as_posix())


def reader_of(sample: Path) -> Reader:
    reader = reader_for(sample)
    assert reader is not None
    return reader


def copied(sample: Path, folder: Path) -> Path:
    """A copy of the sample to be spoiled, with whatever lies beside it: names and side files are part of a session."""
    shutil.copytree(sample.parent, folder / "copy")
    return folder / "copy" / sample.name


def told(items: Iterable[Item]) -> tuple[dict[tuple[str, str], Event], dict[str, Thread], set[str]]:
    """Events and threads as they stand in the end, the last of an id winning, and complaints."""
    events: dict[tuple[str, str], Event] = {}
    threads: dict[str, Thread] = {}
    problems: dict[str, str] = {}
    thread_id = ""
    for item in items:
        match item:
            case Thread():
                thread_id = item.thread_id
                threads[thread_id] = item
            case Event():
                assert thread_id, "an event before any thread"
                events[thread_id, item.id] = item
            case Unreadable():
                # What is counted for a whole file is said again with the new number.
                problems[f"{item.line} {re.sub(r'[(][0-9,]+ times[)]', '', item.problem)}"] = item.problem
            case ReadTo():
                pass
    return events, threads, {f"{where}: {problem}" for where, problem in problems.items()}


def read_to(items: Iterable[Item]) -> Cursor:
    *_, last = items
    assert isinstance(last, ReadTo)
    # Through JSON and back, as the ledger keeps it.
    return replace(last.cursor, context=orjson.loads(orjson.dumps(last.cursor.context)))


def test_there_is_a_sample_for_every_agent_that_writes_files() -> None:
    agents = {reader_of(sample).agent for sample in SAMPLES}
    assert agents <= {reader.agent for reader in READERS}
    assert agents


@every_reader
def test_a_reader_is_found_by_its_name(reader: Reader) -> None:
    assert by_agent(reader.agent) is reader
    assert reader.version >= 1


def test_an_unknown_agent_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match=READERS[0].agent):
        by_agent("nobody")


@every_sample
def test_reading_in_two_steps_equals_reading_at_once(sample: Path, tmp_path: Path) -> None:
    if sample.suffix == ".zst":
        pytest.skip("compressed files are read whole")
    reader, path = reader_of(sample), copied(sample, tmp_path)
    whole = path.read_bytes()
    at_once = told(reader.read(path, Cursor()))
    for border in [match.end() for match in re.finditer(rb"\n", whole)]:
        path.write_bytes(whole[:border])
        first = list(reader.read(path, Cursor()))
        path.write_bytes(whole)
        second = list(reader.read(path, read_to(first)))
        assert told([*first, *second]) == at_once, f"cut at byte {border}"


@every_sample
def test_nothing_new_is_told_of_a_file_that_did_not_grow(sample: Path) -> None:
    if sample.suffix == ".zst":
        pytest.skip("compressed files are read whole")
    reader = reader_of(sample)
    cursor = read_to(reader.read(sample, Cursor()))
    (end,) = reader.read(sample, cursor)
    assert isinstance(end, ReadTo)
    assert (end.cursor.offset, end.cursor.line) == (cursor.offset, cursor.line)


@every_sample
def test_every_event_has_an_id_and_means_one_thing_by_it(sample: Path) -> None:
    kinds: dict[str, str] = {}
    for item in reader_of(sample).read(sample, Cursor()):
        if isinstance(item, Event):
            assert item.id
            assert kinds.setdefault(item.id, item.kind) == item.kind
            assert str(sample) not in item.id


@every_sample
def test_what_is_yielded_can_be_written_and_holds_no_base64(sample: Path) -> None:
    for item in reader_of(sample).read(sample, Cursor()):
        if isinstance(item, Event):
            for text in (item.id, item.text, item.command, item.cwd, item.branch, *item.paths):
                text.encode("utf-8")
                assert not re.search(r"[A-Za-z0-9+/]{2001}", text)


@every_sample
def test_a_file_cut_anywhere_is_read_as_far_as_it_goes(sample: Path, tmp_path: Path) -> None:
    reader, path = reader_of(sample), copied(sample, tmp_path)
    whole = path.read_bytes()
    for at in {len(whole) * n // 23 for n in range(23)}:
        path.write_bytes(whole[:at])
        *_, end = reader.read(path, Cursor())
        assert isinstance(end, ReadTo)
        assert path.suffix == ".zst" or end.cursor.offset <= at


@every_sample
def test_garbage_is_said_and_never_raised(sample: Path, tmp_path: Path) -> None:
    reader, path = reader_of(sample), copied(sample, tmp_path)
    dice = random.Random(5433)
    for garbage in (b"", b"\0" * 5000, b"\n" * 99, b"[[]]\n", dice.randbytes(20_000), "é\n".encode("utf-16") * 99):
        path.write_bytes(garbage)
        items = list(reader.read(path, Cursor()))
        assert isinstance(items[-1], ReadTo)
        assert not any(isinstance(item, Event) for item in items)


@every_sample
def test_fields_of_unexpected_types_are_survived(sample: Path, tmp_path: Path) -> None:
    if sample.suffix == ".zst":
        pytest.skip("the same records as in the plain files")
    reader, path = reader_of(sample), copied(sample, tmp_path)
    records = [record for line in path.read_bytes().splitlines() if (record := parsed(line)) is not None]
    dice = random.Random(1729)
    spoiled = [orjson.dumps(spoilt(record, dice)) for _ in range(12) for record in records]
    path.write_bytes(b"\n".join(spoiled) + b"\n")
    items = list(reader.read(path, Cursor()))
    assert isinstance(items[-1], ReadTo)
    told(items)
    for item in items:
        if isinstance(item, Event):
            assert all(isinstance(text, str) for text in (item.id, item.text, item.call_id, item.tool, item.cwd))
            assert isinstance(item.at_ms, int)


@pytest.mark.parametrize(
    "reader",
    [reader for reader in READERS if any(reader_for(sample) is reader for sample in SAMPLES)],
    ids=lambda reader: reader.agent,
)
def test_only_session_files_are_ever_opened(reader: Reader, tmp_path: Path) -> None:
    home = tmp_path / "home"
    env = {"HOME": str(home), "USERPROFILE": str(home), "LMM_HOME": str(home / ".lmm")}
    for folder in reader.roots(env, []):
        mine = [sample for sample in SAMPLES if reader_of(sample).agent == reader.agent]
        for sample in mine:
            inside = sample.relative_to(SESSIONS).parts[1:]
            # The agents' folders begin with the root's own name, or lie directly under it.
            target = folder.joinpath(*(inside[1:] if inside[0] == folder.name else inside))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sample, target)
        for place in (folder.parent, folder):
            for name in NEVER_OPENED:
                place.mkdir(parents=True, exist_ok=True)
                (place / name).write_text('{"token": "hunter2"}\n', encoding="utf-8")
    found = [path for root in reader.roots(env, []) for path in reader.discover(root)]
    with opened_files() as opened:
        for path in found:
            list(reader.read(path, Cursor()))
    assert set(opened) >= {str(path) for path in found}
    assert not [path for path in opened if Path(path).name in NEVER_OPENED]


class opened_files:
    """Notes every file that this process opens. An audit hook cannot be taken out again, so it is told to look away."""

    def __enter__(self) -> list[str]:
        self.names: list[str] | None = []
        sys.addaudithook(self._hear)
        return self.names

    def __exit__(self, *problem: object) -> None:
        self.names = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self.names is not None and isinstance(arguments[0], str | Path):
            self.names.append(str(arguments[0]))


def parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def spoilt(value: Any, dice: random.Random) -> Any:
    """The same, with about one value in twelve replaced by something of another type."""
    if dice.random() < 0.08:
        return dice.choice(
            [None, True, -1, 2.5, "", "x", [], {}, [None], [[]], {"type": 7}, ["text"], {"a": {"b": []}}]
        )
    if isinstance(value, dict):
        return {key: spoilt(inner, dice) for key, inner in value.items()}
    if isinstance(value, list):
        return [spoilt(inner, dice) for inner in value]
    return value
