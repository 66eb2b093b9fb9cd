import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span, chunk_id
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.errors import BadInput, StoreError
from lmm_mcp.store import forgetting, lines
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.forgetting import ForgetPlan, Forgotten
from lmm_mcp.store.ledger import Ledger, SourceState


@dataclass(frozen=True)
class House:
    """A memory home with real rooms, filled by a walk that makes one chunk of each event."""

    home: Path
    archive: Archive
    store: ChunkStore
    ledger: Ledger

    def hear(self, thread: Thread, events: list[Event], project: str = "shop") -> None:
        buried = self.ledger.buried(thread.agent, [event.id for event in events])
        fresh = [event for event in events if event.id not in buried]
        if not fresh:
            return
        self.archive.append(thread, fresh)
        self.cut(thread.agent, thread.thread_id, project)
        path = self.home.parent / "sessions" / f"{thread.session_id}.jsonl"
        cursor = json.dumps({"context": {"title": thread.title}})
        self.ledger.record_source(
            SourceState(str(path), thread.agent, 1, 1, "", 0, 1, cursor, "1", (thread.thread_id,))
        )
        self.ledger.record_unreadable(path, 1, "no JSON")

    def cut(self, agent: str, thread_id: str, project: str) -> None:
        found = self.archive.read(agent, thread_id)
        assert found is not None
        thread, events = found
        chunks = [chunk_of(thread, event, number, project) for number, event in enumerate(events)]
        self.ledger.claim(agent, thread_id, [event.id for event in events])
        self.ledger.record_chunks(agent, thread_id, [(c.id, c.event_ids[0], c.event_ids[-1]) for c in chunks])
        self.store.replace_thread(agent, thread_id, chunks)
        self.store.add_vectors([(chunk.id, 0, np.array([1, 0], np.float32)) for chunk in self.store.unembedded(99)])
        self.ledger.record_thread(
            thread, project=project, first_ms=1, last_ms=2, num_events=len(events), chunker_version=1
        )

    def plan(self, **conditions: str | int) -> ForgetPlan:
        return forgetting.plan(self.store, self.archive, self.ledger, **conditions)  # type: ignore[arg-type]

    def forget(self, **conditions: str | int) -> Forgotten:
        return forgetting.carry_out(
            self.plan(**conditions),
            self.store,
            self.archive,
            self.ledger,
            notes=self.home / "notes",
            logs=self.home / "logs",
        )

    def finish(self) -> Forgotten | None:
        return forgetting.finish(
            self.store, self.archive, self.ledger, notes=self.home / "notes", logs=self.home / "logs"
        )

    def holds(self, needle: str) -> bool:
        """Whether any file holds the text, the archive's unpacked."""
        threads = [thread for _, thread in self.archive.threads()]
        records = [str(r) for t in threads for r in self.archive.records(t.agent, t.thread_id)]
        files = [path.read_bytes() for path in self.home.rglob("*") if path.is_file()]
        return any(needle in text for text in records) or any(needle.encode() in data for data in files)

    def event_ids(self, agent: str = "codex", thread_id: str = "s1") -> list[str]:
        found = self.archive.read(agent, thread_id)
        return [event.id for event in found[1]] if found else []


def chunk_of(thread: Thread, event: Event, number: int, project: str) -> Chunk:
    return Chunk(
        id=chunk_id(thread.agent, event.id, 0, 1),
        agent=thread.agent,
        session_id=thread.session_id,
        thread_id=thread.thread_id,
        project=project,
        branch="",
        first_ms=event.at_ms,
        last_ms=event.at_ms,
        part=0,
        ordinal=number,
        header=f"{project} {thread.title}",
        lines=(Line("user", event.text, Span(event.id, 0, len(event.text))),),
        files=event.paths,
        commands=(event.command,) if event.command else (),
        content_hash=f"{project}{event}",
    )


@pytest.fixture
def house(tmp_path: Path) -> House:
    home = tmp_path / "home"
    store = ChunkStore.open(home / "store", create=True)
    store.set_embedder("m", "1", 2)
    for name in ("logs", "notes"):
        (home / name).mkdir()
    return House(home, Archive(home / "archive"), store, Ledger.open(home / "ledger.sqlite"))


def session(name: str, agent: str = "codex", title: str = "") -> Thread:
    return Thread(agent, name, name, title=title, cwd="/work/app")


def said(name: str, text: str, at_ms: int = 1_000) -> Event:
    return Event(name, "prompt", text, at_ms=at_ms)


@pytest.fixture
def needle() -> str:
    return secrets.token_hex(20)


# What would go


def test_a_plan_says_what_would_go_and_touches_nothing(house: House) -> None:
    house.hear(session("s1"), [said("a", "apple", 1_000), said("b", "pear", 2_000)])
    house.hear(Thread("codex", "s1", "sub"), [said("c", "apple", 3_000)])
    house.hear(session("s2", agent="claude-code"), [said("d", "plum", 9_000)])
    plan = house.plan(match="APPLE")
    assert {each.thread.thread_id: each.event_ids for each in plan.threads} == {"s1": ("a",), "sub": ("c",)}
    assert (plan.num_events, plan.num_chunks) == (2, 2)
    assert [(name, len(threads)) for name, threads in plan.by_session.items()] == [(("codex", "s1"), 2)]
    assert [(each.num_left, each.first_ms, each.last_ms) for each in plan.threads] == [
        (1, 1_000, 1_000),
        (0, 3_000, 3_000),
    ]
    assert house.store.count() == 4
    assert house.event_ids() == ["a", "b"]


def test_conditions_narrow_one_another_down(house: House) -> None:
    house.hear(session("s1"), [said("a", "apple", 1_000), said("b", "apple", 0), said("c", "apple", 3_000)])
    house.hear(session("s2"), [said("d", "apple", 1_000)], project="other")

    def ids(**conditions: str | int) -> str:
        return "".join(sorted(name for each in house.plan(**conditions).threads for name in each.event_ids))

    assert ids(match="apple") == "abcd"
    assert ids(match="apple", project="other") == "d"
    assert ids(session="s1") == "abc"
    assert ids(session="s1", since_ms=2_000) == "c"
    assert ids(until_ms=1_000) == "abd"
    assert ids(until_ms=1_000, project="shop", match="app") == "ab"
    assert ids(project="nobody") == ids(session="x") == ids(match="plum") == ""


def test_a_session_may_be_named_by_a_beginning_that_is_its_own(house: House) -> None:
    for name in ("abc-1", "abc-2", "abc"):
        house.hear(session(name), [said(name, "x")])
    assert [each.thread.session_id for each in house.plan(session="abc-1").threads] == ["abc-1"]
    assert [each.thread.session_id for each in house.plan(session="abc").threads] == ["abc"]
    with pytest.raises(BadInput, match="3 sessions"):
        house.plan(session="ab")
    for nothing in ({}, {"match": "  "}):
        with pytest.raises(BadInput, match="say what"):
            house.plan(**nothing)


SHOWN = {
    "text": Event("a", "reply", "so NEEDLE it is", 1_000),
    "text over two lines": Event("a", "reply", "so NEE\n  DLE it is", 1_000),
    "command": Event("a", "call", "x", 1_000, command="echo needle"),
    "paths": Event("a", "call", "x", 1_000, paths=("y", "/z/Needle.py")),
    "tool": Event("a", "call", "x", 1_000, tool="mcp__needle__ask"),
    "cwd": Event("a", "reply", "x", 1_000, cwd="/work/needle"),
    "branch": Event("a", "reply", "x", 1_000, branch="fix/needle"),
}


@pytest.mark.parametrize("where", SHOWN)
def test_a_text_is_looked_for_in_all_that_is_shown_of_a_message(house: House, where: str) -> None:
    house.hear(session("s1"), [said("first", "plum"), SHOWN[where], said("b", "pear")])
    match = "nee dle" if "lines" in where else "needle"
    assert [each.event_ids for each in house.plan(match=match).threads] == [("a",)]


@pytest.mark.parametrize("field", ["cwd", "remote"])
def test_a_thread_whose_place_holds_the_text_goes_whole(house: House, field: str) -> None:
    house.hear(replace(session("s1"), **{field: "/work/needle"}), [said("a", "apple"), said("b", "pear")])
    house.hear(session("s2"), [said("c", "plum")])
    house.ledger.add_root("/work/needle", "shop")
    house.ledger.record_source(SourceState("/home/-work-needle/x", "codex", 1, 1, "", 0, 1, "{}", "1", ("s9",)))
    assert house.forget(match="NEEDLE").num_events == 2
    assert not house.holds("needle")
    assert house.event_ids(thread_id="s2") == ["c"]


def test_a_thread_whose_project_holds_the_text_goes_whole(house: House) -> None:
    house.hear(session("s1"), [said("a", "apple")], project="github.com/needle/app")
    house.hear(session("s2"), [said("c", "plum")])
    house.ledger.add_alias("/old", "github.com/needle/app")
    house.forget(match="needle/APP")
    assert not house.holds("needle")
    assert house.ledger.aliases() == {}


def test_a_branch_goes_with_what_was_done_on_it_and_comes_back_in_no_other_way(house: House) -> None:
    thread = replace(session("s1"), branch="needle")
    on_it, later = (
        Event(name, "reply", "x", 1_000, branch=branch) for name, branch in (("a", "needle"), ("b", "main"))
    )
    house.hear(thread, [on_it, later])
    house.forget(match="needle")
    assert not house.holds("needle")
    assert [row.thread.branch for row in house.ledger.threads()] == ["main"]
    assert forgetting.without_forgotten(thread, house.ledger, [later]).branch == "main"
    assert forgetting.without_forgotten(thread, house.ledger).branch == ""
    other = replace(session("s2"), branch="needle")
    assert forgetting.without_forgotten(other, house.ledger) == other


# Titles


def test_a_title_in_other_words_goes_with_the_first_prompt_it_was_made_from(house: House, needle: str) -> None:
    house.hear(session("s1", title=f"early {needle}"), [said("a", "name of the customer", 1_000)])
    titled = session("s1", title=f"Paraphrase {needle}")
    house.hear(titled, [said("b", "pear", 2_000), said("c", "plum", 3_000)])
    assert house.plan(match="plum").threads[0].loses_title is False
    forgotten = house.forget(until_ms=1_500)
    assert (forgotten.num_events, forgotten.to_cut) == (1, (("codex", "s1"),))
    assert not house.holds(needle)
    assert house.event_ids() == ["b", "c"]
    for again in (titled, session("s1", title=f"early {needle}"), session("s1", title="what the agent thinks of next")):
        assert forgetting.without_forgotten(again, house.ledger).title == ""


def test_a_title_goes_with_the_first_reply_too_and_with_a_digest_that_repeats_it(house: House, needle: str) -> None:
    events = [
        said("a", "hello"),
        Event("b", "reply", "of apples", 1_000),
        said("c", "x"),
        Event("d", "summary", needle, 1_000),
    ]
    house.hear(session("s1", title=needle), events)
    house.forget(match="apples")
    assert not house.holds(needle)
    assert house.event_ids() == ["a", "c"]


def test_a_fork_loses_its_title_with_the_session_it_grew_from(house: House, needle: str) -> None:
    house.hear(session("s1", title=f"first {needle}"), [said("a", "apple")])
    house.hear(replace(session("s2", title=f"second {needle}"), forked_from="s1"), [said("b", "pear")])
    house.hear(session("s3", title=f"first {needle}"), [said("c", "plum")])
    house.hear(session("s4", title="its own"), [said("d", "fig")])
    forgotten = house.forget(session="s1")
    assert sorted(forgotten.to_cut) == [("codex", "s2"), ("codex", "s3")]
    assert not house.holds(needle)
    assert [row.thread.title for row in house.ledger.threads()] == ["", "", "its own"]


def test_notes_keep_the_title_that_all_notes_have(house: House) -> None:
    for month in ("n1", "n2"):
        house.hear(session(month, agent="notes", title="notes"), [said(f"note:{month}", f"apple {month}")])
    assert house.forget(match="apple n1").to_cut == ()
    assert [row.thread.title for row in house.ledger.threads()] == ["notes"]
    assert not house.ledger.is_text_buried("notes")


# What is gone


def test_of_a_forgotten_session_no_byte_is_left_and_others_stay(house: House, needle: str) -> None:
    secret = Event("a", "call", f"run {needle}", 1_000, command=f"echo {needle}", paths=(f"/{needle}",))
    house.hear(session("s1", title=f"about {needle}"), [secret, said("b", "pear")])
    house.hear(Thread("codex", "s1", "sub", title=needle), [said("c", needle)])
    house.hear(session("s2"), [said("d", "plum")])
    (house.home / "logs" / "ingest.log").write_text("reading s1.jsonl\nreading s2.jsonl\n", encoding="utf-8")
    house.store.optimize()
    assert house.holds(needle)
    forgotten = house.forget(session="s1")
    assert forgotten == Forgotten(num_events=3, num_threads=2, num_chunks=3, to_cut=())
    assert not house.holds(needle)
    assert not house.holds("s1.jsonl")
    assert [row.thread.session_id for row in house.ledger.threads()] == ["s2"]
    assert [hit.chunk_id for hit in house.store.lexical(["plum"], Scope(), 5)] == [chunk_id("codex", "d", 0, 1)]
    assert len(house.store.nearest(np.array([1, 0], np.float32), Scope(), 9)) == 1
    assert house.ledger.resolve_chunk(chunk_id("codex", "a", 0, 1)) is None
    assert house.ledger.resolve_chunk(chunk_id("codex", "d", 0, 1)) is not None
    assert (house.home / "logs" / "ingest.log").read_text(encoding="utf-8") == "reading s2.jsonl\n"


def test_what_is_forgotten_stays_forgotten_when_the_file_is_seen_again(house: House, needle: str) -> None:
    events = [said("a", needle), said("b", "pear")]
    house.hear(session("s1"), events)
    house.forget(session="s1")
    assert house.ledger.sources() == []
    house.hear(session("s1"), events)
    assert house.event_ids() == []
    assert not house.holds(needle)
    assert house.ledger.buried_until("codex", "s1") == 1_000
    house.hear(session("s1"), [*events, said("new", "what came later")])
    assert house.event_ids() == ["new"]


def test_of_a_text_no_byte_is_left_and_what_remains_of_its_threads_is_to_be_cut_anew(house: House, needle: str) -> None:
    house.hear(session("s1", title=f"{needle} and more"), [said("a", f"so {needle.upper()}"), said("b", "pear")])
    house.hear(session("s2"), [said("c", needle)])
    house.hear(session("s3"), [said("d", "plum")])
    (house.home / "logs" / "x.log").write_text(f"one\nwarn {needle}\n", encoding="utf-8")
    forgotten = house.forget(match=needle)
    assert forgotten == Forgotten(num_events=2, num_threads=1, num_chunks=3, to_cut=(("codex", "s1"),))
    assert not house.holds(needle)
    assert not house.holds(needle.upper())
    assert house.store.get([chunk_id("codex", "b", 0, 1)]) == []
    assert [(row.thread.session_id, row.thread.title, row.chunker_version) for row in house.ledger.threads()] == [
        ("s1", "", 0),
        ("s3", "", 1),
    ]
    assert house.ledger.is_text_buried(f"{needle} and more")
    house.cut("codex", "s1", "shop")
    assert [each.lines[0].text for each in house.store.thread("codex", "s1")] == ["pear"]
    assert house.ledger.owners("codex", ["a", "b"]) == {"b": "s1"}


def test_an_event_that_once_held_the_text_goes_in_all_its_versions(house: House, needle: str) -> None:
    house.hear(session("s1"), [said("a", needle), said("b", "pear")])
    house.hear(session("s1"), [said("a", "revised")])
    house.forget(match=needle)
    assert house.event_ids() == ["b"]
    assert not house.holds(needle)


def test_a_title_alone_is_forgotten_without_its_events(house: House, needle: str) -> None:
    house.hear(session("s1", title=needle), [said("a", "apple")])
    assert house.forget(match=needle).to_cut == (("codex", "s1"),)
    assert not house.holds(needle)
    assert house.event_ids() == ["a"]


def test_of_a_forgotten_project_not_even_the_name_is_left(house: House, needle: str) -> None:
    project = f"/work/{needle}"
    house.hear(session("s1"), [said("a", "apple")], project=project)
    house.hear(session("s2"), [said("b", "pear")])
    house.ledger.add_root(project, project)
    house.ledger.add_alias("/old", project)
    house.forget(project=project)
    assert not house.holds(needle)
    assert house.ledger.aliases() == house.ledger.known_roots() == {}
    assert house.store.projects() == {"shop": 1}


def test_forgetting_a_time_range_takes_the_events_of_that_time(house: House) -> None:
    house.hear(session("s1"), [said("a", "one", 1_000), said("b", "two", 2_000), said("c", "three", 3_000)])
    house.forget(since_ms=1_500, until_ms=2_500)
    assert house.event_ids() == ["a", "c"]


def test_a_passage_that_shows_more_than_its_archive_is_cut_anew(house: House, needle: str) -> None:
    house.hear(session("s1"), [said("a", f"asked {needle}"), said("b", "pear")])
    house.archive.rewrite("codex", "s1", lambda event: event.id == "b")  # the first message was another thread's
    (planned,) = house.plan(match=needle).threads
    assert (planned.event_ids, planned.num_left) == ((), 1)
    assert house.forget(match=needle).to_cut == (("codex", "s1"),)
    assert not house.holds(needle)
    assert house.event_ids() == ["b"]


def test_notes_are_forgotten_by_id_and_by_text_also_before_they_were_read(house: House, needle: str) -> None:
    inbox = house.home / "notes" / "2026-11.jsonl"
    lines = [{"id": "n1", "text": "apple"}, {"id": "n2", "text": "pear"}, {"id": "n3", "text": f"so {needle}"}]
    inbox.write_text("".join(json.dumps(line) + "\n" for line in lines) + f"broken {needle}", encoding="utf-8")
    house.hear(session("notes-1", agent="notes"), [said("note:n1", "apple"), said("note:n2", "pear")])
    house.forget(match=needle)
    assert [json.loads(line)["id"] for line in inbox.read_text(encoding="utf-8").splitlines()] == ["n1", "n2"]
    house.forget(match="apple")
    assert [json.loads(line)["id"] for line in inbox.read_text(encoding="utf-8").splitlines()] == ["n2"]
    assert not house.holds("apple")
    assert not house.holds(needle)


# When it dies in between


STAGES: list[tuple[str, Callable[[House], tuple[object, str]]]] = [
    ("notes", lambda house: (lines, "drop_notes")),
    ("logs", lambda house: (lines, "drop_log_lines")),
    ("chunks", lambda house: (ChunkStore, "delete")),
    ("archive", lambda house: (Archive, "rewrite")),
    ("ledger", lambda house: (Ledger, "forget_threads")),
    ("sweeping", lambda house: (Archive, "sweep")),
    ("purging the store", lambda house: (ChunkStore, "purge")),
    ("purging the ledger", lambda house: (Ledger, "purge")),
]


@pytest.mark.parametrize("again", ["the same command", "the next writer"])
@pytest.mark.parametrize(("name", "stage"), STAGES, ids=[name for name, _ in STAGES])
def test_a_forgetting_that_dies_is_completed_later(
    house: House,
    needle: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    stage: Callable[[House], tuple[object, str]],
    again: str,
) -> None:
    house.hear(session("s1", title=needle), [said("a", needle)])
    house.hear(session("s2", title=needle), [said("b", f"x {needle}"), said("c", "pear")])
    house.hear(session("n", agent="notes"), [said("note:n1", needle)])
    (house.home / "notes" / "x.jsonl").write_text(json.dumps({"id": "n1", "text": needle}) + "\n", encoding="utf-8")
    (house.home / "logs" / "x.log").write_text(f"warn {needle}\nfine\n", encoding="utf-8")

    def dies(*_: object, **__: object) -> None:
        raise StoreError("died")

    with monkeypatch.context() as patch:
        patch.setattr(*stage(house), dies)
        with pytest.raises(StoreError, match="died"):
            house.forget(match=needle)
    assert forgetting.is_unfinished(house.ledger)
    house.hear(session("s1", title=""), [said("a", needle)])
    forgotten = house.forget(match=needle) if again == "the same command" else house.finish()
    assert forgotten is not None
    assert forgotten.to_cut == (("codex", "s2"),)
    assert not house.holds(needle)
    assert not forgetting.is_unfinished(house.ledger)
    assert house.event_ids(thread_id="s2") == ["c"]
    assert house.finish() is None


def test_another_command_completes_it_too_and_leaves_no_log_line_of_it(
    house: House, needle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.hear(session("s1"), [said("a", needle), said("b", "pear")])
    (house.home / "logs" / "x.log").write_text(f"warn {needle}\n", encoding="utf-8")

    def dies(*_: object) -> None:
        raise StoreError("died")

    with monkeypatch.context() as patch:
        patch.setattr(lines, "drop_log_lines", dies)
        with pytest.raises(StoreError, match="died"):
            house.forget(match=needle)
    assert house.forget(match="nothing holds this") == Forgotten(1, 0, 2, (("codex", "s1"),))
    assert not house.holds(needle)
    assert not forgetting.is_unfinished(house.ledger)


# Damage


def damage(house: House, thread_id: str) -> Path:
    path = house.archive.path("codex", thread_id)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return path


def test_one_damaged_file_is_named_and_the_rest_is_forgotten(house: House, needle: str) -> None:
    for name in ("s1", "s2"):
        house.hear(session(name), [said(f"{name}a", needle), said(f"{name}b", "pear")])
    path = damage(house, "s1")
    forgotten = house.forget(match=needle)
    assert forgotten.to_cut == (("codex", "s2"),)
    assert house.event_ids(thread_id="s2") == ["s2b"]
    assert all(str(path) in told and "lmm import" in told for told in forgotten.damaged)
    assert forgotten.damaged
    assert house.store.thread("codex", "s1") == []  # what was made of it is not recalled any more
    assert forgetting.is_unfinished(house.ledger)
    path.unlink()
    assert house.forget(match="anything") == Forgotten(0, 1, 0, (("codex", "s2"),))
    assert not house.holds(needle)
    assert house.ledger.buried("codex", ["s1a", "s1b"]) == {"s1a"}


def test_a_damaged_file_that_holds_nothing_of_it_is_named_and_left_alone(house: House) -> None:
    house.hear(session("s1"), [said("a", "apple")])
    path = damage(house, "s1")
    forgotten = house.forget(match="plum")
    assert (forgotten.num_threads, len(forgotten.damaged)) == (0, 1)
    assert path.exists()
    assert len(house.store.thread("codex", "s1")) == 1
    assert not forgetting.is_unfinished(house.ledger)


def test_a_damaged_session_can_be_forgotten_whole(house: House, needle: str) -> None:
    house.hear(session("s1", title=needle), [said("a", needle, 1), said("b", "pear", 2)])
    house.hear(session("s2"), [said("c", "plum")])
    path = damage(house, "s1")
    forgotten = house.forget(session="s1")
    assert (forgotten.num_threads, forgotten.damaged) == (1, ())
    assert not path.exists()
    assert not house.holds(needle)
    assert house.ledger.buried("codex", ["a", "b", "c"]) == {"a", "b"}


def test_what_was_made_of_a_session_whose_archive_is_gone_is_forgotten_too(house: House, needle: str) -> None:
    house.hear(session("s1"), [said("a", needle), said("b", "pear")])
    house.archive.path("codex", "s1").unlink()
    assert house.plan(match="plum").threads == ()
    house.forget(match=needle)
    assert not house.holds(needle)
    assert house.ledger.sources() == []  # what the agent still has is read anew
    assert house.ledger.buried("codex", ["a", "b"]) == {"a"}


def test_nothing_to_forget_is_no_error(house: House) -> None:
    house.hear(session("s1"), [said("a", "apple")])
    assert house.forget(match="plum") == Forgotten(0, 0, 0, ())
    assert house.event_ids() == ["a"]
