"""Whatever happens to a session file between two looks, each message is kept once, and what only grew is kept as if read once."""

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from ingest import reading, service
from lmm_mcp.config import Embedder, Settings
from lmm_mcp.paths import Home
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore

BY_WORDS = Settings(embedder=Embedder(name="none"))
CODEX = "00000000-0000-4000-8000-000000000001"


class Machine:
    """Session folders of Claude Code and Codex, and a memory that looks at them when it is told to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.projects = root / "claude" / "projects" / "p"
        self.codex = root / "codex"
        self.projects.mkdir(parents=True)
        (self.codex / "sessions" / "2026" / "03" / "01").mkdir(parents=True)
        (self.codex / "archived_sessions").mkdir()
        self.home = Home(root / "lmm").ensure()
        self.env = {"HOME": str(root), "CLAUDE_CONFIG_DIR": str(root / "claude"), "CODEX_HOME": str(self.codex)}

    def read(self) -> None:
        assert service.run(self.home, self.env, BY_WORDS, [], stay=False) == 0

    def kept(self) -> dict[str, Counter[str]]:
        """Agent -> how often each message text is archived."""
        archive = Archive(self.home.archive)
        found: dict[str, Counter[str]] = {}
        for _, thread in archive.threads():
            events = archive.read(thread.agent, thread.thread_id)[1]
            found.setdefault(thread.agent, Counter()).update(event.text for event in events)
        return found

    def chunks(self) -> dict[str, str]:
        store = ChunkStore.open(self.home.store)
        threads = [thread for _, thread in Archive(self.home.archive).threads()]
        found = [chunk for each in threads for chunk in store.thread(each.agent, each.thread_id)]
        assert len({chunk.id for chunk in found}) == len(found) == store.count()
        return {chunk.id: chunk.content_hash for chunk in found}


def claude_line(session: str, uuid: str, text: str) -> bytes:
    record = {
        "type": "user",
        "uuid": uuid,
        "sessionId": session,
        "timestamp": f"2026-03-01T10:{int(uuid.rpartition('-')[2]) % 60:02}:00.000Z",
        "cwd": "/work/harbour",
        "message": {"role": "user", "content": text},
    }
    return json.dumps(record).encode() + b"\n"


def codex_line(n: int, text: str) -> bytes:
    payload = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    return (
        json.dumps(
            {"timestamp": f"2026-03-01T10:{n % 60:02}:00.000Z", "type": "response_item", "payload": payload}
        ).encode()
        + b"\n"
    )


def codex_start() -> bytes:
    meta = {"id": CODEX, "timestamp": "2026-03-01T10:00:00.000Z", "cwd": "/work/harbour", "originator": "codex_cli_rs"}
    return (
        json.dumps({"timestamp": "2026-03-01T10:00:00.000Z", "type": "session_meta", "payload": meta}).encode() + b"\n"
    )


def words(n: int) -> str:
    return f"Message {n} about the crane." + " Heave." * (n % 40)


class Claude:
    """One session of Claude Code, and what may happen to its file."""

    agent = "claude-code"

    def __init__(self, machine: Machine, dice: random.Random) -> None:
        self.machine, self.dice = machine, dice
        self.path = machine.projects / "s1.jsonl"
        self.path.write_bytes(claude_line("s1", "s1-0", words(0)))
        self.said, self.n = {words(0)}, 0
        self.torn = b""

    def next_line(self) -> bytes:
        self.n += 1
        self.said.add(words(self.n))
        return claude_line("s1", f"s1-{self.n}", words(self.n))

    def append(self) -> None:
        self.mend()
        with self.path.open("ab") as out:
            out.write(b"".join(self.next_line() for _ in range(self.dice.randint(1, 4))))

    def tear(self) -> None:
        """A line of which only the beginning is there yet."""
        if not self.torn:
            line = self.next_line()
            at = self.dice.randrange(1, len(line) - 2)
            with self.path.open("ab") as out:
                out.write(line[:at])
            self.torn = line[at:]
            self.said.discard(words(self.n))
            self.held = words(self.n)

    def mend(self) -> None:
        if self.torn:
            with self.path.open("ab") as out:
                out.write(self.torn)
            self.said.add(self.held)
            self.torn = b""

    def touch(self) -> None:
        os.utime(self.path, ns=(self.dice.randrange(10**18, 3 * 10**18),) * 2)  # past or future

    def replace(self) -> None:
        """The same again, written beside and renamed over it, as careful editors do."""
        beside = self.path.with_suffix(".tmp")
        beside.write_bytes(self.path.read_bytes())
        beside.replace(self.path)

    def link(self) -> None:
        """A second name of the same file."""
        name = self.path.with_name(f"link{self.n}.jsonl")
        if not name.exists():
            os.link(self.path, name)

    def fork(self) -> None:
        """A resumed session copies what it goes on from, under its own id, and adds to it."""
        name = f"fork{self.n}"
        copy = (
            self.path.read_bytes().rpartition(b"\n")[0].replace(b'"sessionId": "s1"', f'"sessionId": "{name}"'.encode())
        )
        own = f"The fork {name} goes its own way."
        self.path.with_name(f"{name}.jsonl").write_bytes(copy + b"\n" + claude_line(name, f"{name}-59", own))
        self.said.add(own)

    def rename(self) -> None:
        """The project folder was moved, and the session's with it."""
        target = self.path.with_name(f"moved{self.n}.jsonl")
        if not target.exists():
            self.path.rename(target)
            self.path = target

    growing = (append, append, tear, mend, touch, replace, link, fork, rename)

    # What takes something away, or puts something in between

    def rewind(self) -> None:
        """The last lines are cut off, and others said in their place."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        keep = self.dice.randint(1, len(lines))
        whole = [line for line in lines[:keep] if line.endswith(b"\n")]
        self.torn = b""
        self.path.write_bytes(b"".join(whole) + self.next_line())

    def shorten(self) -> None:
        lines = [line for line in self.path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        self.torn = b""
        self.path.write_bytes(b"".join(lines[: max(1, len(lines) // 2)]))

    def insert(self) -> None:
        """Something is put in between, and the file is longer than it was."""
        lines = [line for line in self.path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        self.torn = b""
        lines.insert(self.dice.randint(1, len(lines)), self.next_line())
        self.path.write_bytes(b"".join(lines) + self.next_line())

    def begin_anew(self) -> None:
        self.torn = b""
        self.path.write_bytes(self.next_line())

    changing = (*growing, rewind, shorten, insert, begin_anew)


class Codex(Claude):
    """One rollout of Codex, which its agent moves and compresses."""

    agent = "codex"

    def __init__(self, machine: Machine, dice: random.Random) -> None:
        self.machine, self.dice = machine, dice
        self.path = machine.codex / "sessions" / "2026" / "03" / "01" / f"rollout-2026-03-01T10-00-00-{CODEX}.jsonl"
        self.path.write_bytes(codex_start() + codex_line(0, words(0)))
        self.said, self.n = {words(0)}, 0
        self.torn = b""
        self.is_packed = False

    def next_line(self) -> bytes:
        self.n += 1
        self.said.add(words(self.n))
        return codex_line(self.n, words(self.n))

    def append(self) -> None:
        if not self.is_packed:
            super().append()

    def tear(self) -> None:
        if not self.is_packed:
            super().tear()

    def archive(self) -> None:
        target = self.machine.codex / "archived_sessions" / self.path.name
        self.path.rename(target)
        self.path = target

    def unarchive(self) -> None:
        target = self.machine.codex / "sessions" / "2026" / "03" / "01" / self.path.name
        self.path.rename(target)
        self.path = target

    def compress(self) -> None:
        if not self.is_packed and not self.torn:
            packed = self.path.with_name(self.path.name + ".zst")
            packed.write_bytes(zstandard.compress(self.path.read_bytes()))
            self.path.unlink()
            self.path, self.is_packed = packed, True

    def unpack(self) -> None:
        if self.is_packed:
            plain = self.path.with_suffix("")
            plain.write_bytes(zstandard.decompress(self.path.read_bytes(), max_output_size=10_000_000))
            self.path.unlink()
            self.path, self.is_packed = plain, False

    growing = (append, append, tear, Claude.mend, Claude.touch, Claude.replace, archive, unarchive, compress, unpack)


SESSIONS: list[Callable[[Machine, random.Random], Claude]] = [Claude, Codex]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("session", SESSIONS)
def test_a_file_that_only_grows_moves_and_is_copied_is_kept_as_if_it_was_read_once(tmp_path, session, seed):
    machine, dice = Machine(tmp_path / "stepwise"), random.Random(seed)
    file = session(machine, dice)
    machine.read()
    for _ in range(12):
        for _ in range(dice.randint(1, 3)):
            dice.choice(file.growing)(file)
        machine.read()
        assert machine.kept()[file.agent] == Counter(file.said)
    file.mend()
    machine.read()
    whole = Machine(tmp_path / "whole")
    (whole.root / "claude").rename(whole.root / "unused")
    (whole.root / "codex").rename(whole.root / "unused-too")
    (machine.root / "claude").rename(whole.root / "claude")
    (machine.root / "codex").rename(whole.root / "codex")
    whole.read()
    assert machine.kept() == whole.kept()
    assert machine.chunks() == whole.chunks()


@pytest.mark.parametrize("seed", range(4))
def test_a_file_that_is_rewritten_in_every_way_loses_nothing_that_was_seen_and_doubles_nothing(tmp_path, seed):
    machine, dice = Machine(tmp_path), random.Random(100 + seed)
    file = Claude(machine, dice)
    machine.read()
    for _ in range(14):
        dice.choice(file.changing)(file)
        machine.read()
        assert machine.kept()[file.agent] == Counter(file.said)
    machine.chunks()


def test_a_line_put_in_before_the_place_where_reading_stopped_is_not_missed(tmp_path):
    machine = Machine(tmp_path)
    path = machine.projects / "s1.jsonl"
    lines = [claude_line("s1", f"s1-{n}", words(n)) for n in range(60)]
    path.write_bytes(b"".join(lines))
    machine.read()
    assert path.stat().st_size > 3 * 4096
    lines.insert(50, claude_line("s1", "s1-61", "Put in between."))
    path.write_bytes(b"".join([*lines, claude_line("s1", "s1-62", "Appended.")]))
    machine.read()
    kept = machine.kept()["claude-code"]
    assert (kept["Put in between."], kept["Appended."], len(kept)) == (1, 1, 62)


def test_a_line_that_was_edited_in_place_is_read_again(tmp_path):
    machine = Machine(tmp_path)
    path = machine.projects / "s1.jsonl"
    path.write_bytes(b"".join(claude_line("s1", f"s1-{n}", words(n)) for n in range(60)))
    machine.read()
    path.write_bytes(path.read_bytes().replace(b"Message 30 about the crane", b"Message 30 about the crate"))
    machine.read()
    assert [text for text in machine.kept()["claude-code"] if text.startswith("Message 30")] == [
        words(30).replace("crane", "crate")
    ]


@pytest.mark.parametrize("hashed_whole", [True, False])
def test_a_line_that_was_edited_in_place_while_others_were_added_is_read_again(tmp_path, monkeypatch, hashed_whole):
    if not hashed_whole:
        monkeypatch.setattr(reading, "WHOLE_bytes", 1024)
    machine = Machine(tmp_path)
    path = machine.projects / "s1.jsonl"
    path.write_bytes(b"".join(claude_line("s1", f"s1-{n}", words(n)) for n in range(60)))
    machine.read()
    edited = path.read_bytes().replace(b"Message 30 about the crane", b"Message 30 about the crate")
    path.write_bytes(edited + claude_line("s1", "s1-62", "Appended."))
    machine.read()
    kept = machine.kept()["claude-code"]
    assert kept[words(30).replace("crane", "crate")] == kept["Appended."] == 1
    assert len(kept) == 61


def test_two_names_of_one_folder_are_one_session(tmp_path):
    machine = Machine(tmp_path)
    (machine.projects / "s1.jsonl").write_bytes(claude_line("s1", "s1-0", words(0)))
    (tmp_path / "other").symlink_to(tmp_path / "claude")
    machine.env["CLAUDE_CONFIG_DIR"] = os.pathsep.join((str(tmp_path / "claude"), str(tmp_path / "other")))
    machine.read()
    assert machine.kept() == {"claude-code": Counter([words(0)])}
    with (machine.projects / "s1.jsonl").open("ab") as out:
        out.write(claude_line("s1", "s1-1", words(1)))
    machine.read()
    assert machine.kept() == {"claude-code": Counter([words(0), words(1)])}
    assert len(machine.chunks()) == 2
