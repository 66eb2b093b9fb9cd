"""One Codex rollout file while it is read: whose it is, where its agent stands, and which of its lines are copies.

A fork and a sub-agent begin with a replay: the parent's lines copied under new timestamps, behind a second `session_meta`.
The replay is cut where the parent's own file lies beside it; where it does not, the copies are all there is, and they are
yielded under the ids that the originals would have had.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.call_ids import scoped
from ingest.readers.codex_calls import text_of
from ingest.readers.codex_records import (
    CALLS,
    KNOWN_ITEMS,
    RESULTS,
    SILENT_ITEMS,
    Moment,
    display_events,
    is_known_event,
    item_events,
    stated_cwd,
    summary_event,
)
from ingest.readers.values import id_in, type_name
from lmm_mcp.domain.event import Event, EventId, Thread

AGENT = "codex"
_SILENT_RECORDS = frozenset({"world_state", "inter_agent_communication_metadata", "state"})
_MAX_UNKNOWN = 50

Originals = Callable[[str], Iterator[Mapping[str, Any]] | None]
"""Given a thread id, the records of its own file (read only when asked for), or None where there is none."""


class Transcript:
    """What must be known from earlier lines to understand the next one. Lives as long as one reading."""

    def __init__(self, context: Mapping[str, Any], fallback_id: str, originals: Originals) -> None:
        """Go on from the `context()` of an earlier reading, {} at the start of a file."""
        self.thread = Thread(AGENT, fallback_id, fallback_id)
        self._originals = originals
        self._has_meta = self._has_items = False
        self._cwd = self._turn = self._origin = ""
        self._header_ms = 0
        self._in_replay = False
        self._by_words = False  # no turn id has told yet where the replay ends
        self._is_copy = False  # a turn id has told that these lines are copies
        self._has_original = False
        self._copied: Counter[str] | None = None
        self._seen: dict[str, int] = {}
        self._ours: set[str] = set()
        self._unknown: list[str] = []
        self.newly_unknown: dict[str, int] = {}
        if context:
            self._resume(context)

    def context(self) -> dict[str, Any]:
        """Everything the next reading of this file needs, as JSON types."""
        thread = self.thread
        return {
            "thread": [
                thread.session_id,
                thread.thread_id,
                thread.title,
                thread.cwd,
                thread.branch,
                thread.remote,
                thread.forked_from,
                thread.parent,
            ],
            "flags": [self._has_meta, self._has_items],
            "replay": [self._in_replay, self._by_words, self._is_copy, self._has_original],
            "cwd": self._cwd,
            "turn": self._turn,
            "origin": self._origin,
            "header_ms": self._header_ms,
            "seen": dict(self._seen),
            "ours": sorted(self._ours),
            "unknown": list(self._unknown),
        }

    def _resume(self, context: Mapping[str, Any]) -> None:
        self.thread = Thread(AGENT, *context["thread"])
        self._has_meta, self._has_items = context["flags"]
        self._in_replay, self._by_words, self._is_copy, self._has_original = context["replay"]
        self._cwd, self._turn, self._origin = context["cwd"], context["turn"], context["origin"]
        self._header_ms, self._seen = context["header_ms"], dict(context["seen"])
        self._ours, self._unknown = set(context["ours"]), list(context["unknown"])

    def take(self, record: Mapping[str, Any], line: int) -> list[Event]:
        """Take the next record in and return the events it holds, none where it is a mirror, a copy or an injection."""
        kind, payload = record.get("type"), record.get("payload")
        if not isinstance(payload, dict):
            return self._take_bare(record, line)
        if kind == "response_item":
            self._note_turn(payload)
            return self._take_item(payload, self._moment(record), line)
        if kind == "event_msg":
            if payload.get("type") in ("task_started", "turn_started"):
                self._note_turn(payload)
            return self._take_display(payload, self._moment(record), line)
        if kind == "turn_context":
            self._note_turn(payload)
            if not self._is_copy:
                self._cwd = text_of(payload.get("cwd")) or self._cwd
        elif kind == "session_meta":
            self._take_meta(payload, record)
        elif kind == "compacted":
            return self._take_compacted(payload, self._moment(record))
        elif kind == "inter_agent_communication":
            return self._take_item({**payload, "type": "agent_message"}, self._moment(record), line)
        elif kind not in _SILENT_RECORDS:
            self._note_unknown("record", kind, line)
        return []

    # Identity --------------------------------------------------------------------------------------------------------

    def _take_meta(self, meta: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        own = id_in(meta.get("id")) or id_in(meta.get("session_id")) or self.thread.thread_id
        if self._has_meta and own != self.thread.thread_id:
            self._begin_replay(own)
            return
        git = meta.get("git") if isinstance(meta.get("git"), dict) else {}
        assert isinstance(git, dict)
        before = self.thread
        cwd = text_of(meta.get("cwd"))
        self._cwd = cwd or self._cwd
        self._header_ms = self._header_ms or parse_time_ms(meta.get("timestamp") or record.get("timestamp"))
        self._has_meta = True
        self.thread = replace(
            before,
            session_id=_session_id(meta, own),
            parent=_parent(meta),
            thread_id=own,
            cwd=before.cwd or cwd,
            branch=text_of(git.get("branch")) or before.branch,
            remote=text_of(git.get("repository_url")) or before.remote,
            forked_from=id_in(meta.get("forked_from_id")) or before.forked_from,
        )

    def _take_bare(self, record: Mapping[str, Any], line: int) -> list[Event]:
        """A line of the oldest format: response items without an envelope, behind a header that alone has a time."""
        if "type" in record:
            if not self._cwd and (cwd := stated_cwd(record)):
                self._cwd = cwd
                self.thread = replace(self.thread, cwd=self.thread.cwd or cwd)
            return self._take_item(record, self._moment(record), line)
        if "id" in record:
            self._take_meta(record, record)
        elif record.get("record_type") not in _SILENT_RECORDS:
            self._note_unknown("record", None, line)
        return []

    def _moment(self, record: Mapping[str, Any]) -> Moment:
        thread = self.thread
        at_ms = parse_time_ms(record.get("timestamp"))
        if not at_ms and isinstance(
            payload := record.get("payload"), dict
        ):  # of what was streamed, items alone have times
            at_ms = parse_time_ms(payload.get("timestamp"))
        at_ms = at_ms or self._header_ms
        return Moment(at_ms, self._cwd, thread.branch, thread.is_subagent)

    # Meaning ---------------------------------------------------------------------------------------------------------

    def _take_item(self, item: Mapping[str, Any], moment: Moment, line: int) -> list[Event]:
        kind = item.get("type")
        if (
            kind is None and "role" in item
        ):  # the one kind of item that has a role; some tools that rewrite files name no other
            item, kind = {**item, "type": "message"}, "message"
        if kind not in KNOWN_ITEMS:
            if kind not in SILENT_ITEMS:
                self._note_unknown("response item", kind, line)
            return []
        self._has_items = True
        if self._in_replay and self._is_dropped(item):
            return []
        return list(item_events(item, moment, self))

    def _take_display(self, event: Mapping[str, Any], moment: Moment, line: int) -> list[Event]:
        kind = str(event.get("type"))
        if kind == "thread_name_updated":
            self.thread = replace(self.thread, title=text_of(event.get("thread_name")) or self.thread.title)
        elif not is_known_event(kind):
            self._note_unknown("event", kind, line)
        elif not self._has_items and not (self._is_copy and self._has_original):
            return list(display_events(event, moment, self))
        return []

    def _take_compacted(self, payload: Mapping[str, Any], moment: Moment) -> list[Event]:
        text = text_of(payload.get("message"))
        if not text.strip() or (self._is_copy and self._has_original):
            return []
        return [summary_event(text, f"compact:{_hash('compact', text)}", moment)]

    def _note_unknown(self, what: str, name: object, line: int) -> None:
        what = f"{what} type {type_name(name)!r}"
        if what not in self._unknown and len(self._unknown) < _MAX_UNKNOWN:
            self._unknown.append(what)
            self.newly_unknown[what] = line

    # Names -----------------------------------------------------------------------------------------------------------

    def name(self, role: str, text: str) -> EventId:
        """Name a message by its thread, its turn, its words and how often they came before in that turn."""
        key = _hash(role, text)[:8]
        num_before = self._seen.get(key, 0)
        self._seen[key] = num_before + 1
        return f"{self._owner}:{_hash(role, self._turn, text, str(num_before))}"

    def own(self, value: object) -> str:
        """An id as it was given if no other thread can have it, else with its thread before it; '' where there is none."""
        return scoped(self._owner, value)

    @property
    def _owner(self) -> str:
        return self._origin if self._is_copy else self.thread.thread_id

    def opened(self, call_id: str) -> None:
        """Note that a call is ours."""
        self._ours.add(call_id)

    def closed(self, call_id: str) -> bool:
        """Whether the call that this result belongs to was ours."""
        if call_id in self._ours:
            self._ours.discard(call_id)
            return True
        return False

    # Replay ----------------------------------------------------------------------------------------------------------

    def _begin_replay(self, origin: str) -> None:
        if self._origin:
            return  # a fork of a fork: the nearest parent's file holds the older copies too
        self._origin = origin
        self._in_replay = True
        self._has_original = self._by_words = self._originals(origin) is not None

    def _note_turn(self, payload: Mapping[str, Any]) -> None:
        """Notice the turn a record belongs to, and by its id whether it was copied from before this thread began."""
        turn = payload.get("turn_id")
        if turn is None:
            passed = payload.get("internal_chat_message_metadata_passthrough") or payload.get("metadata")
            turn = passed.get("turn_id") if isinstance(passed, dict) else None
        turn = id_in(turn)
        if turn == self._turn or not turn:
            return
        self._turn = turn
        self._seen.clear()
        if self._in_replay:
            began_ms, turn_ms = _time_ordered_ms(self.thread.thread_id), _time_ordered_ms(turn)
            if began_ms and turn_ms:
                self._is_copy = self._in_replay = turn_ms < began_ms
                self._by_words = False  # the turn tells, and tells better than the words

    def _is_dropped(self, item: Mapping[str, Any]) -> bool:
        if not self._by_words:
            return self._is_copy and self._has_original
        # No turn ids (older files): copied is what the parent holds too, up to the first message or call it lacks.
        if self._copied is None:
            originals = self._originals(self._origin) or iter(())
            self._copied = Counter(mark for record in originals if (mark := _fingerprint(_item_of(record))))
        mark = _fingerprint(item)
        if not mark:
            return True
        if self._copied[mark] > 0:
            self._copied[mark] -= 1
            return True
        self._in_replay = self._by_words = False
        self._copied = None
        return False


def _session_id(meta: Mapping[str, Any], own: str) -> str:
    """Find the session of a thread: itself, or for a sub-agent the one at the root of its tree, else its parent."""
    parent = _parent(meta)
    if not parent:
        return own
    root = id_in(meta.get("session_id"))
    return root if root and root != own else parent


def _parent(meta: Mapping[str, Any]) -> str:
    """Find the thread that started this one; '' for a main line."""
    source = meta.get("source")
    spawned = source.get("subagent") if isinstance(source, dict) else None
    spawn = spawned.get("thread_spawn") if isinstance(spawned, dict) else None
    parent = spawn.get("parent_thread_id") if isinstance(spawn, dict) else None
    return id_in(parent) or (id_in(meta.get("parent_thread_id")) if spawned else "")


def _item_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    payload = record.get("payload")
    if isinstance(payload, dict):
        return payload if record.get("type") == "response_item" else {}
    return record


def _fingerprint(item: Mapping[str, Any]) -> str:
    """Tell messages and calls apart by what a copy keeps; '' for what has nothing to be told by."""
    kind = item.get("type")
    if kind in CALLS or kind in RESULTS:
        return f"{kind}:{item.get('call_id') or item.get('id') or ''}"
    if kind == "message":
        return _hash("message", str(item.get("role")), text_of(item.get("content")))
    return ""


def _time_ordered_ms(name: str) -> int:
    """Milliseconds since 1970 at which a time-ordered UUID (version 7) was made; 0 where it is none."""
    digits = name.replace("-", "")
    if len(digits) == 32 and digits[12] == "7":
        try:
            return int(digits[:12], 16)
        except ValueError:
            return 0
    return 0


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
