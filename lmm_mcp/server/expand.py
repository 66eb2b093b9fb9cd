"""The passage around a citation: chunk ids in, what was said and done there out, as the archive holds it.

Ids given long ago stay good: the ledger knows which events each id ever meant, whatever the chunker does today.
What comes back is quoted data. The caller fences it, where a model reads it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.domain.quoting import plain, plain_name
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput

DEFAULT_AROUND_events = 2
MAX_AROUND_events = 50
MAX_IDS = 20
MAX_PASSAGE_chars = 40_000
"""Of one answer to a model, ten thousand tokens; `lmm show` has no such limit."""
_PROSE_chars = 6_000
_OUTPUT_chars = 1_600
_HEAD_SHARE = 0.6
_LIKE_OURS = re.compile(
    r"^(?=[^\S\n]{0,9}(?:\[(?:\d{4}-\d\d-\d\d \d\d:\d\d|time unknown)\] |# session |# [0-9a-f, ]{16,} ?: \d|# all of it: \d))",
    re.MULTILINE,
)
"""Quoted lines that read like our headers; `_QUOTED` before them tells them apart."""
_QUOTED = "| "

_WHO = {"prompt": "user", "reply": "agent", "thought": "agent, thinking", "summary": "summary"}


@dataclass(frozen=True, slots=True)
class Place:
    """What a chunk id stands for."""

    agent: str
    thread_id: str
    first_event_id: str
    last_event_id: str


class Places(Protocol):
    """The ledger, as far as it matters here."""

    def resolve_chunk(self, chunk_id: str) -> tuple[str, str, str, str] | None:
        """Agent, thread id, first and last event id; None for an id never given."""
        ...


class Threads(Protocol):
    """The archive, as far as it matters here."""

    def read(self, agent: str, thread_id: str) -> tuple[Thread, list[Event]] | None:
        """The thread and its events in order."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """Consecutive events of one thread."""

    thread: Thread
    events: tuple[Event, ...]
    chunk_ids: tuple[str, ...]
    """The ids asked for that lie in it."""
    num_earlier: int
    """Events of the thread that lie before it, and after it."""
    num_later: int


def passages(
    places: Places,
    threads: Threads,
    ids: Sequence[str],
    *,
    before: int = DEFAULT_AROUND_events,
    after: int = DEFAULT_AROUND_events,
) -> list[Passage]:
    """Find what the ids mean, with some events before and after; neighbours and overlaps come out as one passage.

    Raises BadInput for an id that was never given or whose events were forgotten.
    """
    found: dict[tuple[str, str], list[tuple[str, Place]]] = {}
    for chunk_id in dict.fromkeys(ids):
        resolved = places.resolve_chunk(chunk_id)
        if resolved is None:
            raise BadInput(f"unknown id {chunk_id[:60]!r}. {_what_ids_are(chunk_id)}")
        place = Place(*resolved)
        found.setdefault((place.agent, place.thread_id), []).append((chunk_id, place))
    return [
        passage
        for (agent, thread_id), wanted in found.items()
        for passage in _of_thread(threads.read(agent, thread_id), wanted, before, after)
    ]


def whole_threads(threads: Threads, wanted: Iterable[Thread]) -> list[Passage]:
    """Everything that was kept of some threads, as one passage each, in the order given."""
    kept = (threads.read(thread.agent, thread.thread_id) for thread in wanted)
    return [Passage(thread, tuple(events), (), 0, 0) for thread, events in filter(None, kept)]


def _what_ids_are(given: str) -> str:
    looks_like_mark = given.strip("[]").startswith("c") and len(given) <= 5
    mistake = "Marks such as [c1] count anew in every brief. " if looks_like_mark else ""
    return f"{mistake}Pass the `id` of a citation as recall gave it (16 hexadecimal digits); ask recall again if you have none."


def _of_thread(
    kept: tuple[Thread, list[Event]] | None, wanted: list[tuple[str, Place]], before: int, after: int
) -> Iterable[Passage]:
    thread, events = kept if kept is not None else (None, [])
    at = {event.id: index for index, event in enumerate(events)}
    ranges: list[tuple[int, int, list[str]]] = []
    for chunk_id, place in wanted:
        ends = [at[event_id] for event_id in (place.first_event_id, place.last_event_id) if event_id in at]
        if thread is None or not ends:
            raise BadInput(f"what {chunk_id} stood for is no longer kept: it was forgotten. Ask recall again.")
        ranges.append((max(0, min(ends) - before), min(len(events), max(ends) + after + 1), [chunk_id]))
    assert thread is not None
    merged: list[tuple[int, int, list[str]]] = []
    for start, end, ids in sorted(ranges, key=lambda one: one[:2]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]), merged[-1][2] + ids)
        else:
            merged.append((start, end, ids))
    for start, end, ids in merged:
        yield Passage(thread, tuple(events[start:end]), tuple(ids), start, len(events) - end)


def rendered(found: Sequence[Passage], *, whole: bool = False) -> str:
    """Passages as text. Long outputs are cut to head and tail unless it must be `whole`, and so is an endless answer."""
    text = "\n\n".join(_rendered(passage, whole, _started_by(passage.thread, found)) for passage in found)
    if whole or len(text) <= MAX_PASSAGE_chars:
        return text
    return (
        text[:MAX_PASSAGE_chars].rstrip()
        + f"\n\n[cut here: {len(text) - MAX_PASSAGE_chars:,} more characters. Ask for fewer ids, or for less before and after.]"
    )


def _started_by(thread: Thread, found: Sequence[Passage]) -> list[str]:
    """Those of the sub-agents shown that a thread started itself."""
    others = dict.fromkeys(passage.thread for passage in found if passage.thread.agent == thread.agent)
    return [each.thread_id for each in others if each.is_subagent and each.parent == thread.thread_id]


def _rendered(passage: Passage, whole: bool, started: Sequence[str]) -> str:
    thread = passage.thread
    about = [
        f"session {plain_name(thread.session_id)}",
        plain_name(thread.agent),
        *([f"sub-agent {plain_name(thread.thread_id)}"] if thread.is_subagent else []),
        *(
            [f"started by sub-agent {plain_name(thread.parent)}"]
            if thread.parent not in ("", thread.session_id)
            else []
        ),
    ]
    about += [plain_name(part) for part in (thread.cwd, thread.branch, thread.title) if part]
    lines = ["# " + " · ".join(about), f"# {_range(passage)}"]
    if started:
        lines.append(f"# started sub-agents: {', '.join(map(plain_name, started))}")
    for event in passage.events:
        lines.append("")
        lines.append(f"[{moment(event.at_ms)}] {_speaker(event)}:")
        lines.append(_body(event, passage.chunk_ids, whole))
    return "\n".join(lines)


def _range(passage: Passage) -> str:
    ids = ", ".join(passage.chunk_ids) or "all of it"
    return f"{ids}: {counted(len(passage.events), 'event')}, {passage.num_earlier} earlier, {passage.num_later} later"


def _speaker(event: Event) -> str:
    match event.kind:
        case "call" if event.command:
            return "agent runs"
        case "call":
            paths = ", ".join(plain_name(path) for path in event.paths[:3])
            return f"agent calls {plain_name(event.tool) or 'a tool'}" + (f" ({paths})" if paths else "")
        case "result" if event.exit_code is not None:
            return f"output, exit {event.exit_code}"
        case "result":
            return "output, failed" if event.failed else "output"
        case _:
            return _WHO[event.kind]


def _body(event: Event, chunk_ids: Sequence[str], whole: bool) -> str:
    text = plain((event.command or event.text) if event.kind == "call" else event.text)
    text = _LIKE_OURS.sub(_QUOTED, text)
    limit = _OUTPUT_chars if event.kind == "result" else _PROSE_chars
    if event.ours and event.kind == "result" and not whole:
        return "[an answer of this memory itself, left out]"
    if whole or len(text) <= limit:
        return text
    head = int(limit * _HEAD_SHARE)
    num_cut = len(text) - limit
    return f"{text[:head]}\n[... {num_cut:,} characters cut; `lmm show {chunk_ids[0]}` shows all ...]\n{text[head + num_cut :]}"


def moment(at_ms: int) -> str:
    """A time as people and models read it, UTC, to the minute.

    >>> moment(0), moment(1_772_000_000_000)
    ('time unknown', '2026-02-25 06:13')
    """
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if at_ms > 0 else "time unknown"
    except (ValueError, OverflowError, OSError):  # an agent's broken clock
        return "time unknown"
