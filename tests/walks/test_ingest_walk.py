"""From session files to the store through the real service, on invented sessions."""

import dataclasses
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from ingest import pipeline, service
from ingest.chunking import CHUNKER_VERSION
from lmm_mcp import children, embedding, notes
from lmm_mcp.config import Sessions, Settings
from lmm_mcp.domain.fence import FENCE_OPEN
from lmm_mcp.domain.recall import Brief, NothingFound, Question
from lmm_mcp.paths import Home
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.server.desk import Desk
from lmm_mcp.store import forgetting, forgetting_plan
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

SESSIONS = Path(__file__).parents[1] / "sessions"


class Machine:
    """A machine with session folders of its own and a memory home."""

    def __init__(self, root: Path) -> None:
        self.claude = root / "claude"
        self.codex = root / "codex"
        (self.claude / "projects" / "p").mkdir(parents=True)
        self.home = Home(root / "lmm").ensure()
        self.env = {"HOME": str(root), "CLAUDE_CONFIG_DIR": str(self.claude), "CODEX_HOME": str(self.codex)}

    def read(self, *paths: Path, settings: Settings | None = None) -> int:
        return service.run(self.home, self.env, settings or Settings(), paths, stay=False)

    def write(self, session: str, *records: dict, mode: str = "a") -> Path:
        path = self.claude / "projects" / "p" / f"{session}.jsonl"
        with path.open(mode, encoding="utf-8") as out:
            out.writelines(json.dumps(record) + "\n" for record in records)
        return path

    @property
    def store(self) -> ChunkStore:
        return ChunkStore.open(self.home.store)

    @property
    def ledger(self) -> Ledger:
        return Ledger.open(self.home.ledger)

    def recall(self, text: str, **more):
        return Recaller(self.store, None).recall(Question(text, **more))

    def everything(self) -> dict[str, str]:
        store = self.store
        ids = [
            chunk.id for row in self.ledger.threads() for chunk in store.thread(row.thread.agent, row.thread.thread_id)
        ]
        assert len(ids) == len(set(ids)) == store.count()
        return {chunk.id: chunk.content_hash for chunk in store.get(ids)}


def until(holds: Callable[[], bool], *, at_most_s: float = 30.0) -> None:
    """Wait for a condition that another process brings about."""
    end = time.monotonic() + at_most_s
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def said(
    session: str, n: int, role: str, text: str, *, cwd: str = "/work/harbour", uuid: str = "", at: str = ""
) -> dict:
    content = text if role == "user" else [{"type": "text", "text": text}]
    return {
        "type": role,
        "uuid": uuid or f"{session}-{n}",
        "parentUuid": None,
        "sessionId": session,
        "timestamp": at or f"2026-03-0{1 + n % 9}T10:00:00.000Z",
        "cwd": cwd,
        "gitBranch": "main",
        "message": {"id": f"m-{uuid or session}-{n}", "role": role, "content": content},
    }


def test_every_invented_session_becomes_recallable(machine):
    shutil.copytree(SESSIONS / "claude_code" / "projects", machine.claude / "projects", dirs_exist_ok=True)
    (machine.codex / "sessions").mkdir(parents=True)
    for n, path in enumerate(sorted((SESSIONS / "codex").glob("*.jsonl"))):
        shutil.copy(path, machine.codex / "sessions" / f"rollout-2026-03-01T00-00-{n:02}-{path.stem}.jsonl")
    assert machine.read() == 0
    by_agent = machine.store.stats().by_agent
    assert by_agent["claude-code"] > 10
    assert by_agent["codex"] > 5
    assert children.progress(machine.home).phase == "done"


def test_reading_again_changes_nothing(machine):
    machine.write(
        "s1", said("s1", 1, "user", "Which port has the tide service?"), said("s1", 2, "assistant", "Port 7311.")
    )
    machine.read()
    before, version = machine.everything(), machine.store.stats().num_versions
    machine.read()
    assert machine.everything() == before
    assert machine.store.stats().num_versions == version


def test_a_session_fed_step_by_step_gives_the_same_chunks_as_fed_whole(tmp_path):
    records = [
        record
        for n in range(0, 12, 2)
        for record in (
            said("s1", n, "user", f"Question {n} about the crane?"),
            said("s1", n + 1, "assistant", f"Answer {n}: " + "load it. " * 60),
        )
    ]
    stepwise, whole = Machine(tmp_path / "a"), Machine(tmp_path / "b")
    for record in records:
        stepwise.write("s1", record)
        stepwise.read()
    whole.write("s1", *records)
    whole.read()
    assert stepwise.everything() == whole.everything()


def test_a_rewritten_file_loses_nothing_and_doubles_nothing(machine):
    one, two, three = (said("s1", n, "user", f"Prompt number {n} about ropes") for n in (1, 2, 3))
    machine.write("s1", one, two)
    machine.read()
    machine.write("s1", two, three, mode="w")
    machine.read()
    found = Archive(machine.home.archive).read("claude-code", "s1")
    assert [event.id for event in found[1]] == ["s1-1", "s1-2", "s1-3"]


def test_memory_outlives_the_agents_file(machine):
    path = machine.write("s1", said("s1", 1, "user", "The ferry manifest lives in the blue folder."))
    machine.read()
    path.unlink()
    machine.read()
    assert isinstance(machine.recall("where is the ferry manifest"), Brief)


def test_an_archived_session_that_was_taken_away_is_read_again(machine):
    path = machine.write("s1", said("s1", 1, "user", "The ferry manifest lives in the blue folder."))
    machine.read()
    Archive(machine.home.archive).path("claude-code", "s1").unlink()
    with path.open("a") as out:
        out.write(json.dumps(said("s1", 2, "user", "And the harbour dues in the green one.")) + "\n")
    machine.read()
    assert len(Archive(machine.home.archive).read("claude-code", "s1")[1]) == 2
    assert "blue" in machine.recall("where is the ferry manifest").text


def test_a_session_whose_archive_and_store_are_gone_is_read_again_though_a_process_dies_while_it_mends(
    machine, monkeypatch
):
    machine.write("s1", said("s1", 1, "user", "The ferry manifest lives in the blue folder."))
    machine.read()
    Archive(machine.home.archive).path("claude-code", "s1").unlink()
    shutil.rmtree(machine.home.store)
    real = pipeline.store_cuts

    def dies(*args):
        real(*args)
        raise RuntimeError("died here")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="died here"):
        patched.setattr(pipeline, "store_cuts", dies)
        machine.read()
    machine.read()
    assert "blue" in machine.recall("where is the ferry manifest").text


@pytest.mark.parametrize("lost", ["store", "ledger"])
def test_what_the_archive_holds_comes_back_without_the_agents_file(machine, lost):
    path = machine.write("s1", said("s1", 1, "user", "The ferry manifest lives in the blue folder."))
    machine.read()
    before = machine.everything()
    path.unlink()
    if lost == "store":
        shutil.rmtree(machine.home.store)
    else:
        for file in machine.home.root.glob("ledger.sqlite*"):
            file.unlink()
    machine.read()
    assert machine.everything() == before
    found = machine.recall("where is the ferry manifest")
    assert machine.ledger.resolve_chunk(found.citations[0].chunk_id) is not None


def test_a_sub_agent_that_was_read_before_its_caller_named_it_hangs_on_the_caller(machine):
    def step(agent: str, n: int, **more: object) -> str:
        return (
            json.dumps({**said("s", n, "user", f"step {n} of {agent}"), "isSidechain": True, "agentId": agent, **more})
            + "\n"
        )

    folder = machine.write("s", said("s", 0, "user", "Survey the harbour.")).with_suffix("") / "subagents"
    folder.mkdir(parents=True)
    (folder / "agent-aa11.jsonl").write_text(step("aa11", 1), encoding="utf-8")
    (folder / "agent-bb22.jsonl").write_text(step("bb22", 2), encoding="utf-8")
    (folder / "agent-bb22.meta.json").write_text('{"description": "Count ropes"}', encoding="utf-8")
    machine.read()
    before = Archive(machine.home.archive).read("claude-code", "bb22")
    assert (before[0].parent, before[0].title) == ("s", "Count ropes")
    with (folder / "agent-aa11.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(step("aa11", 3, toolUseResult={"status": "completed", "agentId": "bb22", "content": []}))
    machine.read()
    after = Archive(machine.home.archive).read("claude-code", "bb22")
    assert after == (dataclasses.replace(before[0], parent="aa11"), before[1])
    known = {row.thread.thread_id: row for row in machine.ledger.threads()}
    assert (known["bb22"].thread, known["bb22"].project) == (after[0], known["aa11"].project)


@pytest.mark.parametrize("first", ["origin", "fork"])
def test_a_fork_is_counted_once_under_the_session_where_it_first_appeared(machine, first):
    shared = [
        said("origin", 1, "user", "How do we moor the barge?", uuid="u1", at="2026-03-01T10:00:00Z"),
        said("origin", 2, "assistant", "With two lines and a spring.", uuid="u2", at="2026-03-01T10:01:00Z"),
    ]
    origin = [*shared, said("origin", 3, "user", "And at low tide?", uuid="u3", at="2026-03-01T10:05:00Z")]
    fork = [{**record, "sessionId": "fork"} for record in shared]
    fork.append(said("fork", 4, "user", "What about a storm?", uuid="u4", at="2026-03-02T09:00:00Z"))
    for session, records in sorted({"origin": origin, "fork": fork}.items(), key=lambda item: item[0] != first):
        machine.write(session, *records)
        machine.read()
    machine.everything()
    found = machine.recall("how do we moor the barge")
    assert found.sessions[0] == "origin"
    assert machine.recall("the barge in a storm").sessions[0] == "fork"


@pytest.mark.parametrize("dies_in", [pipeline.ownership.take, pipeline.store_cuts])
def test_a_robbed_fork_is_cut_anew_whenever_the_walk_dies(machine, monkeypatch, dies_in):
    shared = said("origin", 1, "user", "How do we moor the zanzibar barge?", uuid="u1", at="2026-03-01T10:00:00Z")
    later = said("origin", 3, "user", "And at low tide?", uuid="u3", at="2026-03-01T10:05:00Z")
    answer = said("fork", 4, "assistant", "With two lines.", uuid="u4", at="2026-03-02T09:00:00Z")
    machine.write("fork", {**shared, "sessionId": "fork"}, answer)
    machine.read()
    machine.write("origin", shared, later)

    def power_cut(*given):
        if dies_in is pipeline.ownership.take:
            dies_in(*given)
        raise KeyboardInterrupt

    place = pipeline.ownership if dies_in is pipeline.ownership.take else pipeline
    monkeypatch.setattr(place, dies_in.__name__, power_cut)
    with pytest.raises(KeyboardInterrupt):
        machine.read()
    monkeypatch.undo()
    machine.read()
    machine.everything()
    assert [chunk.text_of() for chunk in machine.store.thread("claude-code", "fork")] == ["With two lines."]
    assert machine.recall("zanzibar barge").sessions == ("origin",)


def test_what_was_archived_before_a_death_is_claimed_after_it_and_never_kept_twice(machine, monkeypatch):
    origin = [said("origin", n, "user", f"Question {n} about the barge?", uuid=f"u{n}") for n in range(6)]
    copy = [{**record, "sessionId": "fork"} for record in origin]
    own = said("fork", 9, "user", "And in a storm?", uuid="u9", at="2026-03-02T09:00:00Z")

    def power_cut(*given):
        raise KeyboardInterrupt

    def read_and_die(place, name):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(place, name, power_cut)
            machine.read()

    machine.write("other", said("other", 1, "user", "Of an empty ledger all would be cut anew."))
    machine.read()
    first = machine.write("origin", *origin)
    read_and_die(pipeline.ownership, "take")  # archived, and nobody knows whose
    second = machine.write("fork", *copy, own)
    os.utime(first, ns=(1, 1))  # the fork is read first from now on
    read_and_die(pipeline, "keep")
    os.utime(second, ns=(0, 0))
    machine.read()
    archive = Archive(machine.home.archive)
    kept = {name: [event.id for event in archive.read("claude-code", name)[1]] for name in ("origin", "fork")}
    assert kept == {"origin": [f"u{n}" for n in range(6)], "fork": ["u9"]}
    assert set(machine.ledger.owners("claude-code", kept["origin"]).values()) == {"origin"}
    machine.everything()


def test_what_older_rules_cut_is_cut_anew_under_its_old_ids(machine):
    machine.write("s1", said("s1", 1, "user", "The winch is rated for nine tonnes."))
    machine.read()
    before = machine.everything()
    machine.store.replace_thread("claude-code", "s1", [])
    with sqlite3.connect(machine.home.ledger) as ledger:
        ledger.execute("UPDATE threads SET chunker_version = chunker_version - 1")
    machine.read()
    assert before
    assert machine.everything() == before
    assert {row.chunker_version for row in machine.ledger.threads()} == {CHUNKER_VERSION}


def test_what_we_answered_leaves_no_trace_in_store_or_brief(machine):
    machine.write("s1", said("s1", 1, "user", "The winch is rated for nine tonnes."))
    machine.read()
    brief = machine.recall("what is the winch rated for")
    assert isinstance(brief, Brief)
    call = said("s2", 1, "assistant", "")
    call["message"]["content"] = [
        {"type": "tool_use", "id": "t1", "name": "mcp__lmm__recall", "input": {"query": "winch"}}
    ]
    result = said("s2", 2, "user", "")
    result["message"]["content"] = [{"type": "tool_result", "tool_use_id": "t1", "content": brief.text}]
    machine.write(
        "s2",
        said("s2", 0, "user", "Look it up please"),
        call,
        result,
        said("s2", 3, "user", f"You said:\n{brief.text}\nIs that so?"),
    )
    machine.read()
    for chunk in machine.store.thread("claude-code", "s2"):
        assert FENCE_OPEN not in chunk.text_of()
        assert "nine tonnes" not in chunk.text_of()
    assert machine.recall("what is the winch rated for").sessions == ("s1",)
    kept = Archive(machine.home.archive).read("claude-code", "s2")
    assert [event.ours for event in kept[1]] == [False, True, True, False]


def test_a_note_is_recallable_after_the_next_look(machine):
    notes.remember(
        machine.home,
        "Deploys go out on Tuesdays only.",
        project="/work/harbour",
        cwd="/work/harbour",
        now_ms=1_772_000_000_000,
    )
    machine.read()
    found = machine.recall("when do deploys go out", project="/work/harbour")
    assert isinstance(found, Brief)
    assert "Tuesdays" in found.text
    assert found.citations[0].agent == "notes"


def test_secrets_reach_neither_archive_nor_store_nor_brief(machine):
    secret = "ghp_" + "Zx81" * 9
    machine.write(
        "s1",
        said(
            "s1", 1, "user", f"Use the deploy token {secret} for the crane release <private>my diary</private> please"
        ),
    )
    machine.read()
    found = machine.recall("deploy token crane release")
    assert isinstance(found, Brief)
    assert secret not in found.text
    assert "diary" not in found.text
    for path in machine.home.root.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    for _, thread in Archive(machine.home.archive).threads():
        for event in Archive(machine.home.archive).read(thread.agent, thread.thread_id)[1]:
            assert secret not in event.text
            assert "diary" not in event.text


def test_what_is_excluded_is_never_archived(machine):
    machine.write("s1", said("s1", 1, "user", "A public matter about buoys."), mode="w")
    machine.write("s2", said("s2", 1, "user", "A hidden matter about smugglers.", cwd="/work/secret/deep"), mode="w")
    machine.read(settings=Settings(sessions=Sessions(exclude_paths=("/work/secret",))))
    assert [thread.thread_id for _, thread in Archive(machine.home.archive).threads()] == ["s1"]
    assert machine.store.count() == 1
    machine.read()  # the rule was lifted
    assert machine.store.count() == 2


def test_a_session_of_another_memory_tools_observer_is_left_out_and_counted(machine):
    opening = "You are a Claude-Mem, a specialized observer tool for creating searchable memory FOR FUTURE SESSIONS."
    machine.write("s1", said("s1", 1, "user", opening), said("s1", 2, "assistant", "They moored a zanzibar barge."))
    machine.write("s2", said("s2", 1, "user", "Who moored the barge?"), said("s2", 2, "user", opening))
    machine.read()
    assert children.progress(machine.home).observers == 1
    machine.write("s1", said("s1", 3, "assistant", "And a second zanzibar barge."))
    machine.read()
    assert [thread.thread_id for _, thread in Archive(machine.home.archive).threads()] == ["s2"]
    assert not machine.ledger.unreadable()


def test_an_excluded_session_leaves_not_even_its_name(machine):
    title = {"type": "ai-title", "sessionId": "s2", "aiTitle": "The Smugglers Plan"}
    machine.write("s2", title, said("s2", 1, "user", "A hidden matter.", cwd="/work/secret/cove"), title)
    rules = Settings(sessions=Sessions(exclude_paths=("/work/secret",)))
    machine.read(settings=rules)
    machine.write("s2", said("s2", 2, "user", "More of it.", cwd="/work/secret/cove"))
    machine.read(settings=rules)
    for path in machine.home.root.rglob("*"):
        if path.is_file():
            assert b"Smugglers" not in path.read_bytes() and b"cove" not in path.read_bytes(), path
    machine.read()  # the rule was lifted
    assert len(Archive(machine.home.archive).read("claude-code", "s2")[1]) == 2


def test_what_a_session_does_in_an_excluded_folder_is_left_out(machine):
    machine.write(
        "s1",
        said("s1", 1, "user", "A public matter about buoys."),
        said("s1", 2, "user", "A hidden matter about smugglers.", cwd="/work/secret/cove"),
        said("s1", 3, "user", "Back to the buoys."),
    )
    machine.read(settings=Settings(sessions=Sessions(exclude_paths=("/work/secret",))))
    kept = Archive(machine.home.archive).read("claude-code", "s1")
    assert [event.id for event in kept[1]] == ["s1-1", "s1-3"]


def test_exclusions_set_while_a_reader_stays_are_obeyed(machine):
    child = children.start_ingest(machine.home, {**os.environ, **machine.env, "LMM_EMBEDDER_NAME": "none"}, stay=True)
    try:
        machine.write("s1", said("s1", 1, "user", "A public matter about buoys."))
        children.hand_over(machine.home, [])
        until(lambda: ChunkStore.exists(machine.home.store) and machine.store.count() == 1)
        machine.home.config.write_text('[sessions]\nexclude_paths = ["/work/secret"]\n')
        machine.write("s2", said("s2", 1, "user", "A hidden matter.", cwd="/work/secret/cove"))
        machine.write("s3", said("s3", 1, "user", "Another public matter."))
        children.hand_over(machine.home, [])
        until(lambda: machine.store.count() == 2)
    finally:
        child.stop()
    assert {thread.thread_id for _, thread in Archive(machine.home.archive).threads()} == {"s1", "s3"}


def test_a_note_is_read_even_while_reading_is_paused(machine):
    machine.write("s1", said("s1", 1, "user", "A session that has to wait."))
    notes.remember(machine.home, "Deploys go out on Tuesdays.", project="", cwd="", now_ms=1_772_000_000_000)
    machine.home.paused.touch()
    machine.read()
    assert machine.store.stats().by_agent == {"notes": 1}


def test_a_large_session_in_slices_gives_the_same_as_in_one_piece(tmp_path, monkeypatch):
    records = []
    for n in range(0, 60, 2):
        records.append(said("s1", n, "user", f"Question {n} about the crane? " + f"Load {n}. " * 50))
        records.append(said("s1", n + 1, "assistant", f"Answer {n}: " + "it lifts. " * 60))
    whole, sliced = Machine(tmp_path / "a"), Machine(tmp_path / "b")
    whole.write("s1", *records)
    whole.read()
    for place in ("ingest.readers.claude_code", "ingest.service"):
        monkeypatch.setattr(f"{place}.SLICE_bytes", 5_000)
    sliced.write("s1", *records)
    sliced.read()
    assert sliced.everything() == whole.everything()
    assert sliced.ledger.sources()[0].cursor_offset == whole.ledger.sources()[0].cursor_offset > 5 * 5_000


@pytest.mark.parametrize("first", ["origin", "copy"])
def test_a_copy_that_is_longer_than_a_slice_robs_nobody(tmp_path, monkeypatch, first):
    def message(session: str, n: int, uuid: str, day: int) -> dict:
        text = f"Message {uuid} about the crane. " * 5
        return said(session, n, "user", text, uuid=uuid, at=f"2026-03-{day:02}T10:{n:02}:00Z")

    origin = [message("origin", n, f"u{n}", 1) for n in range(40)]
    copy = [{**record, "sessionId": "copy"} for record in origin[:30]]
    copy += [message("copy", n, f"c{n}", 2) for n in range(5)]
    found = {}
    for name in ("whole", "sliced"):
        machine = found[name] = Machine(tmp_path / name)
        if name == "sliced":
            for place in ("ingest.readers.claude_code", "ingest.service"):
                monkeypatch.setattr(f"{place}.SLICE_bytes", 3_000)
        for session, records in sorted({"origin": origin, "copy": copy}.items(), key=lambda item: item[0] != first):
            machine.write(session, *records)
            machine.read()
    archives = [Archive(machine.home.archive) for machine in found.values()]
    assert [len(each.read("claude-code", "origin")[1]) for each in archives] == [40, 40]
    assert [len(each.read("claude-code", "copy")[1]) for each in archives] == [5, 5]
    assert found["sliced"].everything() == found["whole"].everything()


def test_what_is_said_after_a_forgotten_beginning_longer_than_a_slice_is_remembered(machine, monkeypatch):
    for place in ("ingest.readers.claude_code", "ingest.service"):
        monkeypatch.setattr(f"{place}.SLICE_bytes", 3_000)
    old = [said("s1", n, "user", f"Old words number {n}. " * 10, at="2026-03-01T10:00:00Z") for n in range(30)]
    machine.write("s1", *old)
    machine.read()
    rooms = (machine.store, Archive(machine.home.archive), machine.ledger)
    what = forgetting_plan.plan(*rooms, session="s1")
    store = ChunkStore.open(machine.home.store, create=True)
    forgetting.carry_out(what, store, *rooms[1:], notes=machine.home.notes, logs=machine.home.logs)
    machine.write("s1", said("s1", 99, "user", "New words.", at="2036-03-02T10:00:00Z"))
    machine.read()
    (kept,) = Archive(machine.home.archive).read("claude-code", "s1")[1]
    assert kept.text == "New words."


def test_a_result_of_a_call_in_an_excluded_folder_stays_out_though_it_comes_later(machine):
    call = said("s1", 2, "assistant", "", cwd="/work/secret")
    call["message"]["content"] = [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "cat plan"}}]
    result = said("s1", 3, "user", "")
    result["message"]["content"] = [{"type": "tool_result", "tool_use_id": "t1", "content": "the smugglers' plan"}]
    rules = Settings(sessions=Sessions(exclude_paths=("/work/secret",)))
    for record in (said("s1", 1, "user", "A public matter."), call, result, said("s1", 4, "user", "Back again.")):
        machine.write("s1", record)
        machine.read(settings=rules)
    kept = Archive(machine.home.archive).read("claude-code", "s1")[1]
    assert [event.text for event in kept] == ["A public matter.", "Back again."]


def test_a_session_that_cannot_be_taken_in_keeps_no_other_out(machine, monkeypatch):
    machine.write("good", said("good", 1, "user", "The lock opens at nine."))
    machine.write("odd", said("odd", 1, "user", "Something odd."))
    real = pipeline.redact_event

    def stumbling(event):
        if "odd" in event.text:
            raise ValueError("year 99999 is out of range")
        return real(event)

    monkeypatch.setattr(pipeline, "redact_event", stumbling)
    assert machine.read() == 0
    assert isinstance(machine.recall("when does the lock open"), Brief)
    (complaint,) = machine.ledger.unreadable()
    assert (Path(complaint.path).name, "report" in complaint.problem) == ("odd.jsonl", True)
    monkeypatch.undo()
    machine.write("odd", said("odd", 2, "user", "Something more."))
    machine.read()
    assert len(Archive(machine.home.archive).read("claude-code", "odd")[1]) == 2
    assert not machine.ledger.unreadable()


def test_vectors_of_a_model_that_is_not_there_are_made_anew_by_the_one_that_is_wanted(machine, minilm_home):
    machine.write("s1", said("s1", 1, "user", "The lock opens at nine."))
    machine.read()
    store = ChunkStore.open(machine.home.store, create=True)
    store.set_embedder("acme/other", "1", 3)
    (chunk,) = store.unembedded(9)
    store.add_vectors([(chunk.id, 0, np.array([1, 0, 0], np.float32))])
    shutil.copytree(minilm_home.models, machine.home.models, dirs_exist_ok=True)
    machine.write("s2", said("s2", 1, "user", "The ferry leaves at ten."))
    assert machine.read() == 0
    assert isinstance(machine.recall("when does the ferry leave"), Brief)
    assert (machine.store.embedder.name, machine.store.num_unembedded()) == (embedding.MINILM, 0)
    assert Desk(machine.home, machine.env).by_words_only() == ""


def test_none_of_a_hundred_canaries_of_other_projects_gets_into_a_brief(machine):
    folders = ("/work/harbour-2", "/work/harbour2", "/work/Harbour", "/work/quarry", "/other/harbour")
    for n in range(100):
        home, away = f"The canary of pier {n} sings at dawn.", f"The canary of pier {n} sings CANARY{n} at dusk."
        machine.write(f"a{n}", said(f"a{n}", 1, "user", home))
        machine.write(f"b{n}", said(f"b{n}", 1, "user", away, cwd=folders[n % len(folders)]))
    machine.read()
    for n in range(100):
        for question in (f"when does the canary of pier {n} sing", f"CANARY{n} at dusk"):
            inside = machine.recall(question, project="/work/harbour", budget_tokens=2000)
            assert "CANARY" not in inside.text
    assert "CANARY" in machine.recall("when does the canary sing", budget_tokens=2000).text


def test_a_session_in_a_subfolder_belongs_to_the_repository_above(machine):
    machine.write("s1", said("s1", 1, "user", "Paint the hull red."))
    machine.write("s2", said("s2", 1, "user", "Paint the mast blue.", cwd="/work/harbour/web"))
    machine.read()
    assert machine.store.projects() == {"/work/harbour": 2}


def test_nothing_later_than_until_is_used(machine):
    machine.write("s1", said("s1", 1, "user", "The lock opens at nine.", at="2026-03-01T10:00:00Z"))
    machine.write("s2", said("s2", 1, "user", "The lock opens at noon.", at="2026-04-01T10:00:00Z"))
    machine.read()
    found = machine.recall("when does the lock open", until_ms=1_773_000_000_000)
    assert "nine" in found.text
    assert "noon" not in found.text


def test_nothing_relevant_is_said_in_one_line(machine):
    machine.write("s1", said("s1", 1, "user", "The lock opens at nine."))
    machine.read()
    found = machine.recall("kubernetes ingress annotations")
    assert isinstance(found, NothingFound)
    assert found.num_searched == 1


def test_of_a_file_that_is_gone_nobody_complains_unless_its_whole_folder_is_away(machine):
    machine.write("s1", said("s1", 1, "user", "Which crane?"))
    torn = machine.write("s2", said("s2", 1, "user", "Which port?"))
    with torn.open("a", encoding="utf-8") as stream:
        stream.write('{"broken\n')
    machine.read()
    assert [row.path for row in machine.ledger.unreadable()] == [str(torn)]
    away = machine.claude.rename(machine.claude.with_name("unmounted"))
    machine.read()
    assert machine.ledger.unreadable()
    away.rename(machine.claude)
    machine.read()
    assert machine.ledger.unreadable()
    torn.unlink()
    machine.read()
    assert not machine.ledger.unreadable()


def test_bad_files_are_named_and_the_rest_goes_on(machine):
    machine.write("good", said("good", 1, "user", "The lock opens at nine."))
    folder = machine.claude / "projects" / "p"
    (folder / "empty.jsonl").touch()
    (folder / "torn.jsonl").write_text('{"type": "user", "uuid"')
    (folder / "garbage.jsonl").write_bytes(b"\xff\xfe\x00rubbish\n" * 3)
    (folder / "folder.jsonl").mkdir()
    assert machine.read() == 0
    assert isinstance(machine.recall("when does the lock open"), Brief)
    complained = {Path(row.path).name for row in machine.ledger.unreadable()}
    assert "garbage.jsonl" in complained
    assert not complained & {"good.jsonl", "empty.jsonl", "torn.jsonl"}


def test_paths_that_are_no_sessions_are_named(machine, tmp_path):
    (tmp_path / "notes.txt").write_text("just text")
    machine.read(tmp_path / "notes.txt", tmp_path / "missing.jsonl")
    assert {Path(row.path).name for row in machine.ledger.unreadable()} == {"notes.txt", "missing.jsonl"}


def test_a_second_process_hands_its_paths_over(machine):
    path = machine.write("s1", said("s1", 1, "user", "The lock opens at nine."))
    with FileLock(machine.home.write_lock):
        assert machine.read(path) == 0
        assert not ChunkStore.exists(machine.home.store)
    machine.claude.rename(machine.claude.with_name("elsewhere"))
    (machine.claude / "projects").mkdir(parents=True)
    handed = next(machine.home.handover.glob("*.json"))
    assert json.loads(handed.read_text())["paths"] == [str(path)]


def test_a_walk_that_died_before_the_ledger_is_repeated_without_doubles(machine, monkeypatch):
    machine.write("s1", said("s1", 1, "user", "One."), said("s1", 2, "user", "Two about ropes."))

    def power_cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "record_source", power_cut)
    with pytest.raises(KeyboardInterrupt):
        machine.read()
    monkeypatch.undo()
    machine.read()
    assert len(machine.everything()) == 2
    found = Archive(machine.home.archive).read("claude-code", "s1")
    assert len(found[1]) == 2
