"""DeepSeek Harness (dsh): `sessions/<folder>/<session>/session.jsonl`, by default in zstd frames (`session.jsonl.zstd`), one for each writing.

The first line says whose the session is; every other is an event with a number. A reply stands there as it was streamed and
once more when it is whole; the stream is read only where the whole never came. A session that was forked or delegated names
the one it came from, and may begin with events of that one.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ingest.readers.base import Decoded, FileReader, SLICE_bytes, json_lines, parse_time_ms
from ingest.readers.calls import first_text
from ingest.readers.compressed import compressed_json_lines
from ingest.readers.factory_droid import text_of
from ingest.readers.family import root_of
from ingest.readers.growing import Growing, read_pieces
from ingest.readers.places import named_folder
from ingest.readers.values import exit_code_in, id_in
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.session import Cursor, Item
from lmm_mcp.domain.event import Event
from lmm_mcp.paths import user_home

_PLAIN, _PACKED = "session.jsonl", "session.jsonl.zstd"
_NUM_TOLD_KEPT = 256
_SILENT_AREAS = frozenset(
    """permission session step turn request model plugin skill mcp sandbox agent usage tools hook approval todo
    reasoning-chunks tool-call-chunks""".split()
)
"""What stands before the slash in events of state, or all of the name."""
_SILENT_BLOCKS = frozenset({"image", "file", "redacted-reasoning"})


class DeepSeek(FileReader):
    """Reader of DeepSeek Harness sessions."""

    agent = "deepseek"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`sessions` in `DSH_HOME`, else in `~/.dsh`, then `extra`."""
        own = named_folder(env, "DSH_HOME") or user_home(env) / ".dsh"
        return tuple(dict.fromkeys((own / "sessions", *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The log of each session."""
        yield from files_below(root, _is_session, _is_entered)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A log speaks for itself."""
        return path if path == root or _is_session(inside_of(root, path)) else None

    def claims(self, path: Path) -> bool:
        """By its name and its header."""
        if path.name not in (_PLAIN, _PACKED) or not path.is_file():
            return False
        header = _header(path)
        return header.get("type") == "session" and "createdAt" in header and isinstance(header.get("id"), str)

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`. Raises OSError."""
        yield from read_pieces(path, _lines(path, cursor), _Log(id_in(path.parent.name), cursor.context, path.parent))


class _Log(Growing):
    agent = "deepseek"

    def __init__(self, name: str, context: Mapping[str, Any], folder: Path) -> None:
        super().__init__(name, context)
        self._folder = folder

    def take_record(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one line."""
        kind, data = record.get("type"), record.get("data")
        self.at_ms = parse_time_ms(record.get("time")) or parse_time_ms(record.get("time0"))
        if kind == "session":
            self._learn_header(record)
            return
        if not isinstance(kind, str) or not isinstance(data, Mapping):
            self.count_unknown("event", kind)
            return
        own = self._named(record.get("seq"), data)
        if kind in ("assistant/chunk", "text-chunks"):
            self._stream(kind, own, data)
            return
        self.group = (
            f"{self.thread.thread_id}:{id_in(data.get('turn'))}.{id_in(data.get('step'))}" if "step" in data else ""
        )
        if kind == "assistant/message":
            self.notes.pop("streamed", None)
            yield from self._message(own, data)
        elif kind == "tool/call":
            yield from self._tool_call(own, data)
        elif kind == "tool/result":
            yield from self._results(own, data)
        elif kind == "user/message":
            yield from self._interrupted()
            yield from self._typed(own, data, is_replacement=isinstance(record.get("surfaceOp"), Mapping))
        elif kind == "session/title":
            self.know(title=first_text(data, ("title",)).strip())
        elif kind == "turn/end":
            yield from self._interrupted()
        elif kind.partition("/")[0] not in _SILENT_AREAS:
            self.count_unknown("event", kind.replace("/", "."))

    def _learn_header(self, header: Mapping[str, Any]) -> None:
        own, parent = id_in(header.get("id")) or self.thread.thread_id, id_in(header.get("parentSession"))
        self.know(session_id=own, thread_id=own)
        seeds = header.get("seedLength")
        if parent and parent != own:
            depth = header.get("delegationDepth")
            if isinstance(depth, int) and depth > 0:
                self.know(session_id=root_of(own, parent, lambda above: _parent_of(self._folder, above)), parent=parent)
            else:
                self.know(forked_from=parent)
            self.notes["seeds"] = [parent, seeds if isinstance(seeds, int) else 0]
        self.stand_at(first_text(header, ("cwd",)))

    def _named(self, number: object, data: Mapping[str, Any]) -> str:
        """An event's name: the message's own id, else its number in the session in which it first stood."""
        message = data.get("message")
        if own := id_in(data.get("id")) or (id_in(message.get("id")) if isinstance(message, Mapping) else ""):
            return self.unique_id(own)
        parent, num_seeds = self.notes.get("seeds", ["", 0])
        if not isinstance(number, int) or isinstance(number, bool):
            return self.named(str(data)[:2000])
        return f"{parent if number < num_seeds else self.thread.thread_id}:{number}"

    # What is said ------------------------------------------------------------------------------------------------------

    def _typed(self, own: str, data: Mapping[str, Any], *, is_replacement: bool) -> Iterator[Event]:
        source = data.get("source")
        origin = first_text(source, ("kind",)) if isinstance(source, Mapping) else ""
        text = text_of(data.get("content"))
        if is_replacement:  # stands for what was said before it
            yield from self.prose("summary", own, text)
        elif origin in ("", "user") or (self.thread.is_subagent and origin == "agent"):
            yield from self.prose("prompt", own, text)

    def _message(self, own: str, data: Mapping[str, Any]) -> Iterator[Event]:
        message = data.get("message")
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, list):
            raise TypeError("a message without content")
        for number, block in enumerate(content):
            kind, name = block.get("type"), f"{own}#{number}" if number else own
            if kind == "text":
                yield from self.prose("reply", name, first_text(block, ("text",)))
            elif kind == "reasoning":
                yield from self.prose("thought", name, first_text(block, ("text",)))
            elif kind == "tool-call":
                yield from self._call(name, id_in(block.get("id")), block)
            elif kind not in _SILENT_BLOCKS:
                self.count_unknown("block", kind)

    def _stream(self, kind: str, own: str, data: Mapping[str, Any]) -> None:
        chunk = data.get("chunk")
        if kind == "text-chunks":
            pieces = data.get("texts")
            text = "".join(piece for piece in pieces if isinstance(piece, str)) if isinstance(pieces, list) else ""
        else:
            is_text = isinstance(chunk, Mapping) and chunk.get("type") == "text-delta"
            text = first_text(chunk, ("text", "delta")) if is_text and isinstance(chunk, Mapping) else ""
        if text:
            before = self.notes.get("streamed") or [own, "", self.at_ms]
            self.notes["streamed"] = [before[0], before[1] + text, before[2]]

    def _interrupted(self) -> Iterator[Event]:
        """A reply that was streamed and never came whole."""
        if streamed := self.notes.pop("streamed", None):
            now, self.at_ms = self.at_ms, streamed[2]
            yield from self.prose("reply", streamed[0], streamed[1])
            self.at_ms = now

    # Tools -------------------------------------------------------------------------------------------------------------

    def _tool_call(self, own: str, data: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._call(own, id_in(data.get("callId")), data)

    def _call(self, own: str, call_id: str, told: Mapping[str, Any]) -> Iterator[Event]:
        """A call stands in its message and as an event of its own; short ids come again in every session."""
        key = f"{self.group}:{call_id}"
        before: dict[str, str] = self.notes.get("told", {})
        if call_id and key in before:
            return
        self.notes["told"] = dict([*before.items(), (key, own)][-_NUM_TOLD_KEPT:])
        event_id = call_id if len(call_id) >= 16 else own
        yield self.call(event_id, call_id or own, first_text(told, ("name",)), told.get("arguments"))

    def _results(self, own: str, data: Mapping[str, Any]) -> Iterator[Event]:
        message = data.get("message")
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, list):
            raise TypeError("a result without content")
        for number, block in enumerate(content):
            if block.get("type") != "tool-result":
                self.count_unknown("block", block.get("type"))
                continue
            failed, code = block.get("isError"), exit_code_in(block.get("exitCode"))
            call_id, name = id_in(block.get("toolCallId")), f"{own}#{number}" if number else own
            text = text_of(block.get("content"))
            yield self.result(name, call_id, text, failed=failed is True or bool(code), exit_code=code)


def _lines(path: Path, cursor: Cursor) -> Iterator[Decoded]:
    if path.name.endswith(".zstd"):
        yield from compressed_json_lines(path, cursor, final=False, slice_bytes=SLICE_bytes)
    else:
        yield from json_lines(path, cursor, slice_bytes=SLICE_bytes)


def _header(path: Path) -> Mapping[str, Any]:
    try:
        return next((item[1] for item in islice(_lines(path, Cursor()), 2) if isinstance(item, tuple)), {})
    except (OSError, ValueError):  # ValueError: a NUL in the name of a parent
        return {}


def _parent_of(folder: Path, session: str) -> str:
    """The session that delegated another, by the header of that one; it may lie under another folder."""
    for place in (folder.parent, *sorted(folder.parent.parent.glob("*/"))):
        for name in (_PACKED, _PLAIN):
            if header := _header(place / session / name):
                depth = header.get("delegationDepth")
                return id_in(header.get("parentSession")) if isinstance(depth, int) and depth > 0 else ""
    return ""


def _is_session(inside: Inside) -> bool:
    return len(inside) == 3 and inside[2] in (_PLAIN, _PACKED)


def _is_entered(inside: Inside) -> bool:
    return len(inside) < 3
