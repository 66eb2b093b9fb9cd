"""What one record of a Claude Code transcript means: a decoded line goes in, events come out.

Most bytes of these files are noise (tool output stored a second time as `toolUseResult`, progress, snapshots of prompts and
requests, signatures): only the kinds of record named here speak. What cannot be understood comes out as a `Problem`.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ingest.readers import claude_calls, ours
from ingest.readers.base import parse_time_ms, without_base64
from ingest.readers.claude_prompts import between, feedback_in, is_continuation, prompt_of, without_blocks
from ingest.readers.claude_results import outcome_of, persisted_name, persisted_output
from ingest.readers.values import id_in, type_name
from lmm_mcp.domain.event import Event, EventKind

_NUM_CALLS_KEPT = 128
_NUM_MESSAGES_KEPT = 4
_NUM_BLOCKS_KEPT = 64
"""Of each of these messages: real ones have a handful, and every new block is compared with all that are kept."""
_NUM_UNKNOWN_KEPT = 32
_SYNTHETIC_NOISE = ("API Error", "No response requested.")
_CALL_BLOCKS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_SILENT_BLOCKS = frozenset({"redacted_thinking", "image", "document", "container_upload", "fallback"})


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a record that could not be understood. Never holds the record's text."""

    text: str


@dataclass(slots=True)
class Earlier:
    """What the meaning of a record depends on, from earlier in its file. Small and JSON-able: it travels in the cursor."""

    calls: dict[str, list[Any]] = field(default_factory=dict)
    """Call id -> [tool name, whether the call was ours] of the last calls, oldest first."""
    messages: dict[str, list[list[Any]]] = field(default_factory=dict)
    """Message id -> blocks already yielded as [event id, kind, call id, length, hash], of the last few messages."""
    unknown: dict[str, int] = field(default_factory=dict)
    """What was met that this reader does not know -> how often. Keys are fit to keep, here as above: see `values`."""

    def count_unknown(self, what: str, name: object) -> None:
        """Remember a record or block type that is not known, under at most 32 names however broken the file is."""
        label = f"unknown {what} type {type_name(name)!r}"
        if label not in self.unknown and len(self.unknown) >= _NUM_UNKNOWN_KEPT:
            label = f"other unknown {what} types"
        self.unknown[label] = self.unknown.get(label, 0) + 1


class _Writer:
    """Makes the events of one record: they share its id, time, folder, branch and message."""

    def __init__(self, record: dict[str, Any], group: str = "") -> None:
        self.id = id_in(record.get("uuid")) or _content_id(record)
        self.at_ms = parse_time_ms(record.get("timestamp"))
        self.cwd = text_in(record, "cwd")
        self.branch = branch_in(record)
        self.group = group
        self._num_written = 0

    def __call__(self, kind: EventKind, text: str, *, id: str = "", **more: Any) -> Event:
        if not id:
            id = f"{self.id}#{self._num_written}" if self._num_written else self.id
            self._num_written += 1
        return Event(
            id=id, kind=kind, text=text, at_ms=self.at_ms, group=self.group, cwd=self.cwd, branch=self.branch, **more
        )


def events_of(record: dict[str, Any], earlier: Earlier, file: Path) -> Iterator[Event | Problem]:
    """Yield what `record` says, in order; `earlier` is brought up to date. `file` is where it stands, for side files."""
    match record.get("type"):
        case "user":
            yield from _user(record, earlier, file)
        case "assistant":
            yield from _assistant(record, earlier)
        case "attachment":
            yield from _attachment(record, earlier)
        case "system":
            if record.get("subtype") == "away_summary" and (text := text_in(record, "content").strip()):
                yield _Writer(record)("summary", without_base64(text))


def text_in(record: dict[str, Any], key: str) -> str:
    """Return a field that should be text; '' where it is missing or something else."""
    value = record.get(key)
    return value if isinstance(value, str) else ""


def branch_in(record: dict[str, Any]) -> str:
    """Return the git branch; `HEAD` is what is written for no branch at all."""
    branch = text_in(record, "gitBranch")
    return "" if branch == "HEAD" else branch


def _user(record: dict[str, Any], earlier: Earlier, file: Path) -> Iterator[Event | Problem]:
    content = _content(record)
    if content is None:
        yield Problem("user record without a message")
        return
    write = _Writer(record)
    for block in content:
        if block.get("type") == "tool_result":
            yield from _result(record, block, write, earlier, file)
    if record.get("isMeta") is True:
        return
    texts = _texts(content, earlier)
    whole = "\n".join(texts).strip()
    if record.get("isCompactSummary") is True or is_continuation(whole):
        if whole:
            yield write("summary", without_base64(whole))
    elif command := _bash_input(whole):
        # Typed by the person behind a `!`: a command of the session like any other, its output follows as a record.
        yield write("call", command, call_id=write.id, tool="Bash", command=command, ours=ours.is_our_command(command))
    elif whole.startswith(("<bash-stdout>", "<bash-stderr>")):
        yield write("result", _bash_output(whole), call_id=id_in(record.get("parentUuid")))
    elif record.get("isVisibleInTranscriptOnly") is not True:
        # Cut block by block: an injected block must not swallow the prompt that stands beside it.
        prompt = "\n".join(kept for text in texts if (kept := prompt_of(text)))
        if prompt:
            yield write("prompt", without_base64(prompt), ours=ours.is_only_a_brief(prompt))


def _result(
    record: dict[str, Any], block: dict[str, Any], write: _Writer, earlier: Earlier, file: Path
) -> Iterator[Event | Problem]:
    call_id = id_in(block.get("tool_use_id"))
    tool, call_was_ours = earlier.calls.get(call_id, ("", False))
    text = "\n".join(_texts(_blocks(block.get("content")), earlier))
    if name := persisted_name(text):
        whole = persisted_output(file, name)
        if whole is None:
            yield Problem(
                "the tool output kept beside the session (tool-results) is missing; only its preview was read"
            )
        text = between(text, "persisted-output") or text if whole is None else whole
    found = outcome_of(text, record.get("toolUseResult"), is_error=block.get("is_error"), tool=tool)
    yield write(
        "result",
        without_base64(found.text),
        call_id=call_id,
        exit_code=found.exit_code,
        failed=found.failed,
        ours=call_was_ours or ours.begins_with_brief(found.text),
    )
    if said := feedback_in(found.text):
        yield write("prompt", said)


def _assistant(record: dict[str, Any], earlier: Earlier) -> Iterator[Event | Problem]:
    content = _content(record)
    if content is None:
        yield Problem("assistant record without a message")
        return
    message = record["message"]
    synthetic = message.get("model") == "<synthetic>"
    if record.get("isApiErrorMessage") is True:
        return
    write = _Writer(record, id_in(message.get("id")))
    said = _blocks_said(earlier, write.group)
    for block in content:
        kind = text_in(block, "type")
        if kind == "text":
            text = text_in(block, "text").strip()
            if not (synthetic and text.startswith(_SYNTHETIC_NOISE)):
                yield from _prose("reply", text, write, said)
        elif kind == "thinking":
            yield from _prose("thought", text_in(block, "thinking").strip(), write, said)
        elif kind in _CALL_BLOCKS:
            yield from _call(block, write, said, earlier)
        elif kind.endswith("_tool_result"):
            text = "\n".join(_texts(_blocks(block.get("content")), earlier))
            yield write("result", without_base64(text), call_id=id_in(block.get("tool_use_id")))
        elif kind not in _SILENT_BLOCKS:
            earlier.count_unknown("block", kind)


def _prose(kind: EventKind, text: str, write: _Writer, said: list[list[Any]]) -> Iterator[Event]:
    if not text:
        return
    # Lines of one message may be cumulative: a repeat is left out, a longer version takes the place of the shorter one.
    beginnings: dict[int, str] = {}
    for block in said:
        if block[1] != kind or len(text) < (length := block[3]):
            continue
        if length not in beginnings:
            beginnings[length] = _hash(text[:length])
        if beginnings[length] == block[4]:
            if len(text) > block[3]:
                block[3:] = [len(text), _hash(text)]
                yield write(kind, without_base64(text), id=block[0])
            return
    event = write(kind, without_base64(text))
    _remember(said, [event.id, kind, "", len(text), _hash(text)])
    yield event


def _remember(said: list[list[Any]], block: list[Any]) -> None:
    said.append(block)
    del said[:-_NUM_BLOCKS_KEPT]


def _call(block: dict[str, Any], write: _Writer, said: list[list[Any]], earlier: Earlier) -> Iterator[Event]:
    call_id, tool = id_in(block.get("id")), text_in(block, "name")
    call = claude_calls.describe(tool, block.get("input"))
    was_ours = ours.is_our_tool(tool) or ours.is_our_command(call.command) or ours.is_our_resource(tool, call.text)
    before = next((b for b in said if b[1] == "call" and b[2] == call_id), None)
    if before is not None and before[4] == _hash(call.text):
        return
    event = write(
        "call",
        call.text,
        id=before[0] if before else "",
        call_id=call_id,
        tool=tool,
        command=call.command,
        paths=call.paths,
        ours=was_ours,
    )
    if before is not None:
        before[4] = _hash(call.text)
    else:
        _remember(said, [event.id, "call", call_id, 0, _hash(call.text)])
    earlier.calls[call_id] = [tool, was_ours]
    while len(earlier.calls) > _NUM_CALLS_KEPT:
        del earlier.calls[next(iter(earlier.calls))]
    yield event


def _attachment(record: dict[str, Any], earlier: Earlier) -> Iterator[Event | Problem]:
    attachment = record.get("attachment")
    if not isinstance(attachment, dict) or attachment.get("type") != "queued_command":
        return
    if attachment.get("isMeta") is True or attachment.get("commandMode", "prompt") != "prompt":
        return
    blocks = _blocks(attachment.get("prompt"))
    prompt = "\n".join(kept for text in _texts(blocks, earlier) if (kept := prompt_of(text)))
    if prompt:
        yield _Writer(record)("prompt", without_base64(prompt), ours=ours.is_only_a_brief(prompt))


def _content(record: dict[str, Any]) -> list[dict[str, Any]] | None:
    message = record.get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | list):
        return None
    return _blocks(message["content"])


def _blocks(content: object) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list):
        return [{"type": "text", "text": b} if isinstance(b, str) else b for b in content if isinstance(b, str | dict)]
    return [content] if isinstance(content, dict) else []


def _texts(blocks: list[dict[str, Any]], earlier: Earlier) -> list[str]:
    texts: list[str] = []
    for block in blocks:
        match block.get("type"):
            case "text":
                texts.append(text_in(block, "text"))
            case "image" | "document" as kind:
                texts.append(f"[{kind}]")
            case "tool_reference":
                texts.append(text_in(block, "tool_name"))
            case "web_search_result" | "web_fetch_result":
                texts.append(f"{text_in(block, 'title')} {text_in(block, 'url')}".strip())
            case "tool_result":
                pass  # an event of its own
            case kind:
                earlier.count_unknown("block", kind)
    return texts


def _blocks_said(earlier: Earlier, message_id: str) -> list[list[Any]]:
    if not message_id:
        return []
    said = earlier.messages.setdefault(message_id, [])
    while len(earlier.messages) > _NUM_MESSAGES_KEPT:
        del earlier.messages[next(iter(earlier.messages))]
    return said


def _bash_input(text: str) -> str:
    found = re.fullmatch(r"<bash-input>(.*)</bash-input>", text, re.DOTALL)
    return found[1].strip() if found else ""


def _bash_output(text: str) -> str:
    for tag in ("bash-stdout", "bash-stderr"):
        text = text.replace(f"<{tag}>", "").replace(f"</{tag}>", "\n")
    return without_base64(without_blocks(text, "system-reminder").strip())


def _content_id(record: dict[str, Any]) -> str:
    """Name a record without a uuid by what it says, never by where it stands."""
    try:
        written = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        written = repr(record).encode("utf-8", "replace")
    return "content:" + hashlib.blake2b(written, digest_size=12).hexdigest()


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
