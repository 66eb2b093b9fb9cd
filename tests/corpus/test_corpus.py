"""Promises kept on real sessions: everything is read, nothing twice, nothing lost while files grow, and it is found again.

Nothing of the corpus stands here. What the archive holds is compared with what a scanner finds that shares no code with
the readers: it knows records and ids, and nothing of turns, threads or tools.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ingest.readers.registry import by_agent
from ingest.session import Cursor
from lmm_mcp.domain.event import Event
from lmm_mcp.domain.recall import Brief
from lmm_mcp.redaction import count
from lmm_mcp.server.desk import Desk

pytestmark = [pytest.mark.corpus, pytest.mark.slow]

QUICK_s = 5.0
"""For looking through a home folder in which nothing changed; it takes a tenth of that on a quiet machine."""
MIN_COVER, MIN_HIT_5 = 0.50, 0.80
"""Floors by words alone, well below what is measured (docs/benchmarks.md): they catch a break, not a draught."""


# Reading --------------------------------------------------------------------------------------------------------------


def test_every_real_session_file_is_read_to_its_last_byte(memory):
    files = {path: path.stat().st_size for path in memory.user.rglob("*.jsonl*")}
    assert len(files) > 100
    found = memory.bytes_read(files)
    assert found == {path: files[path] for path in found}
    assert len(files) - len(found) <= 1  # a fork that says nothing of its own


def test_nothing_in_real_sessions_is_unreadable_but_outputs_whose_side_files_were_never_published(memory):
    assert {problem.partition(" (")[0] for problem in memory.problems()} <= {"the tool output kept beside the session"}


def test_the_archive_holds_every_claude_message_once_and_no_other(memory, record_testsuite_property):
    speaking: dict[str, str] = {}  # uuid -> why it is noise, '' where it says something
    for record in records(memory.user / ".claude"):
        if claude_speaks(record):
            # Forks and resumes repeat a message: one that says something anywhere must be there.
            noise = claude_noise(record)
            speaking[record["uuid"]] = noise if speaking.get(record["uuid"], noise) else ""
    noise = Counter(filter(None, speaking.values()))
    for name, num_records in noise.items():
        record_testsuite_property(f"noise: {name}", num_records)
    archived = Counter(event.id.partition("#")[0] for event in events(memory, "claude-code") if is_message(event))
    assert set(archived) == {uuid for uuid, why in speaking.items() if not why}
    assert noise.total() < 0.03 * len(speaking), noise
    assert_each_once(memory, "claude-code")


def test_the_archive_holds_every_claude_call_and_its_result(memory):
    calls, results = set(), set()
    for record in records(memory.user / ".claude"):
        for block in claude_blocks(record):
            if block.get("type") == "tool_use":
                calls.add(block["id"])
            elif block.get("type") == "tool_result":
                results.add(block["tool_use_id"])
    assert call_ids(memory, "claude-code", "call") == calls
    assert call_ids(memory, "claude-code", "result") == results


def test_the_archive_holds_every_codex_call_result_reply_and_prompt(memory):
    calls, results, replies, prompts, doubtful = set(), set(), 0, 0, 0
    for record in records(memory.user / ".codex"):
        item = record.get("payload", record) if record.get("type") in ("response_item", "message") else {}
        match item.get("type"), item.get("role"):
            case ("function_call" | "custom_tool_call", _):
                calls.add(item["call_id"])
            case ("function_call_output" | "custom_tool_call_output", _):
                results.add(item["call_id"])
            case "message", "assistant":
                replies += any(part.get("text", "").strip() for part in item["content"])
            case "message", "user":
                typed = any(part.get("text", "<").lstrip()[:1] not in ("<", "#") for part in item["content"])
                prompts, doubtful = prompts + typed, doubtful + (not typed)
    kinds = Counter(event.kind for event in events(memory, "codex"))
    searches = {event.call_id for event in events(memory, "codex") if event.tool == "web_search"}
    assert bare(call_ids(memory, "codex", "call") - searches) == calls
    assert bare(call_ids(memory, "codex", "result")) == results
    assert kinds["reply"] == replies
    # What begins with `<` or `#` is an injection nearly always, but people paste HTML and headings too.
    assert prompts <= kinds["prompt"] <= prompts + doubtful
    assert_each_once(memory, "codex")


def test_reading_again_changes_nothing_and_is_quick(memory):
    before, stats = contents(memory), memory.store.stats()
    started = time.monotonic()
    memory.read()
    assert time.monotonic() - started < QUICK_s
    assert memory.store.stats() == stats
    assert contents(memory) == before


# Chunks ---------------------------------------------------------------------------------------------------------------


def test_every_chunk_has_its_own_id_and_points_into_archived_text(memory):
    texts = {
        (agent, thread_id): {event.id: event.text for event in kept}
        for (agent, thread_id), kept in memory.archived().items()
    }
    chunks = memory.chunks()
    assert len({chunk.id for chunk in chunks}) == len(chunks) > 1000
    for chunk in chunks:
        assert chunk.lines, chunk.id
        archived = texts[chunk.agent, chunk.thread_id]
        for line in chunk.lines:
            span = line.span
            assert 0 <= span.start <= span.end <= len(archived[span.event_id]), (chunk.id, span)


# Growth ---------------------------------------------------------------------------------------------------------------


def test_a_session_read_while_it_grew_is_remembered_as_if_read_once(manifest, fresh_memory):
    series: dict[tuple[str, str], list[Path]] = {}
    for row in manifest:
        if "_growth" in row["stored_path"]:
            stored = Path(row["stored"])
            series.setdefault((row["agent"], str(stored.parent)), []).append(stored)
    assert series
    for number, ((agent, folder), snapshots) in enumerate(sorted(series.items())):
        snapshots.sort()
        session = (
            f"rollout-2026-01-01T00-00-00-{Path(folder).name}.jsonl"
            if agent == "codex"
            else f"{Path(folder).name}.jsonl"
        )
        grown, whole = fresh_memory(f"grown{number}"), fresh_memory(f"whole{number}")
        seen: set[str] = set()
        for snapshot in snapshots:
            feed(grown, session, snapshot)
            seen |= {item.id for item in by_agent(agent).read(snapshot, Cursor()) if isinstance(item, Event)}
        assert {event.id for event in events(grown, agent)} >= seen, folder
        assert_each_once(grown, agent)
        texts = [snapshot.read_bytes() for snapshot in snapshots]
        if all(later.startswith(earlier) for earlier, later in pairwise(texts)):
            feed(whole, session, snapshots[-1])
            assert contents(grown) == contents(whole), folder


def feed(memory, session: str, snapshot: Path) -> None:
    path = memory.user / session
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(snapshot.read_bytes())
    memory.read(path)


# Secrets --------------------------------------------------------------------------------------------------------------


def test_redaction_cuts_at_most_one_spot_in_a_megabyte_of_what_real_sessions_say(memory):
    hits: Counter[str] = Counter()
    num_chars = 0
    for path, reader in session_files(memory):
        for item in reader.read(path, Cursor()):
            if isinstance(item, Event):
                hits += count(item.text)
                num_chars += len(item.text)
    assert num_chars > 1_000_000
    assert hits.total() <= num_chars / 1e6, hits


# Recall ---------------------------------------------------------------------------------------------------------------


def test_questions_about_real_sessions_are_answered_by_words_alone(memory, question_files, record_testsuite_property):
    asked = [json.loads(line) for file in question_files for line in file.read_text(encoding="utf-8").splitlines()]
    asked = [q for q in asked if q["gold"] and all(g["file"].startswith(("claude-code/", "codex/")) for g in q["gold"])]
    if not asked:
        pytest.skip("none of the questions is about Claude Code or Codex sessions")
    desk = Desk(memory.home, memory.env)
    covers, hits = [], []
    for question in asked:
        desk.cwd = question["project"] or ""
        found = desk.recall(question["question"], until=question["asked_at"], budget_tokens=1000)
        text = folded(found.text[:4000]) if isinstance(found, Brief) else ""
        needed = question["answers"]
        covers.append(sum(any(folded(one) in text for one in alternatives) for alternatives in needed) / len(needed))
        sessions = found.sessions[:5] if isinstance(found, Brief) else ()
        hits.append(any(gold["session"] in sessions for gold in question["gold"]))
    cover, hit = sum(covers) / len(covers), sum(hits) / len(hits)
    record_testsuite_property("cover@1000", round(cover, 3))
    record_testsuite_property("hit@5", round(hit, 3))
    assert (cover >= MIN_COVER, hit >= MIN_HIT_5) == (True, True), f"cover@1000 {cover:.3f}, hit@5 {hit:.3f}"


def folded(text: str) -> str:
    return " ".join(text.split()).lower()


# The dumb scanner -----------------------------------------------------------------------------------------------------

INJECTED = re.compile(
    r"<(system-reminder|task-notification|local-command-\w+|bash-std\w+|ide_\w+|[\w-]+-hook)>.*?</\1>", re.DOTALL
)


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """Every JSON object of every session file, with the standard library's decoder, glued ones taken apart."""
    decoder = json.JSONDecoder()
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            rest = line.strip()
            while rest:
                record, end = decoder.raw_decode(rest)
                rest = rest[end:].lstrip()
                yield record


def claude_speaks(record: dict[str, Any]) -> bool:
    """Whether a record is of a kind that holds what somebody said or did."""
    if record.get("type") == "attachment":
        return record["attachment"].get("type") == "queued_command"
    return record.get("type") in ("user", "assistant") or record.get("subtype") == "away_summary"


def claude_blocks(record: dict[str, Any]) -> list[dict[str, Any]]:
    content = record.get("message", {}).get("content", [])
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def claude_noise(record: dict[str, Any]) -> str:
    """Why a speaking record says nothing all the same; '' where it does say something."""
    blocks = claude_blocks(record)
    if {block["type"] for block in blocks} & {"tool_use", "tool_result"} or not record.get("message"):
        return ""
    text = "\n".join(block.get("text") or block.get("thinking") or "" for block in blocks).strip()
    match record["type"]:
        case "user" if record.get("isMeta"):
            return "written by the harness under the user's name"
        case "user" if text.startswith("[Request interrupted by user"):
            return "an interruption"
        case "user" if text.startswith("<command-") and not re.search(r"<command-args>\s*[^\s<]", text):
            return "a slash command without arguments"
        case "user" if text and not INJECTED.sub("", text).strip():
            return "nothing but tagged notices"
        case "assistant" if record.get("isApiErrorMessage") or record["message"].get("model") == "<synthetic>":
            return "an error of the harness under the model's name"
        case "assistant" if not text:
            return "an empty block"
    return ""


# What is archived -----------------------------------------------------------------------------------------------------


def events(memory, agent: str) -> list[Event]:
    return [event for (its_agent, _), kept in memory.archived().items() if its_agent == agent for event in kept]


def is_message(event: Event) -> bool:
    """Titles have no message of their own."""
    return not event.id.startswith("summary:")


def call_ids(memory, agent: str, kind: str) -> set[str]:
    return {event.call_id for event in events(memory, agent) if event.kind == kind}


def bare(ids: set[str]) -> set[str]:
    """Ids as the agent gave them: where other sessions might give the same, ours have the session before them."""
    return {one.rpartition(":")[2] for one in ids}


def assert_each_once(memory, agent: str) -> None:
    twice = [event_id for event_id, num in Counter(event.id for event in events(memory, agent)).items() if num > 1]
    assert not twice


def contents(memory) -> dict[str, str]:
    chunks = memory.chunks()
    found = {chunk.id: chunk.content_hash for chunk in chunks}
    assert len(found) == len(chunks)
    return found


def session_files(memory):
    for agent, folder in (("claude-code", ".claude"), ("codex", ".codex")):
        for path in sorted((memory.user / folder).rglob("*.jsonl*")):
            yield path, by_agent(agent)
