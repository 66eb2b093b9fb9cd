"""pi and what is built on it: `--<cwd>--/<time>_<id>.jsonl`, or `<agent>/sessions/<id>.jsonl` of OpenClaw.

A file is a tree of entries: a branch taken is appended behind the one that was left, so file order is the order in which
things were said. Entries have ids, but pi makes new ones when it brings an old file to a new version, and copies entries
into forks: so a message is named by its time and its words, which stay.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, parse_time_ms
from ingest.readers.calls import first_text
from ingest.readers.factory_droid import first_record, text_of
from ingest.readers.places import named_folder
from ingest.readers.transcript import Transcript, read_lines
from ingest.readers.values import exit_code_in, id_in
from ingest.readers.walking import Inside, files_below, inside_of, is_like_an_id
from ingest.session import Cursor, Item
from lmm_mcp.domain.event import Event
from lmm_mcp.paths import user_home

_NAMED = re.compile(r"(?:[\dTZ:.-]+_)?(?P<id>[^_]+)")
_OPENCLAW = "agents"
_MAX_DEPTH = 4
"""How deep sub-agents of sub-agents are looked for."""
_NO_SESSION = re.compile(r"\.(?:checkpoint|deleted|reset|bak|trajectory)\b")
"""OpenClaw's copies and what it has thrown away."""
_SILENT = frozenset(
    """model_change thinking_level_change custom custom_message label context_transform ephemeral mode_change
    service_tier_change session_init ttsr_injection mcp_tool_selection title_change leaf active_tools_change""".split()
)
_SILENT_ROLES = frozenset({"custom", "hookMessage", "system", "developer", "fileMention"})
_SUMMARY_ROLES = frozenset({"compactionSummary", "branchSummary"})
_RUN_BY_USER = {"bashExecution": "bash", "pythonExecution": "python"}
_SILENT_BLOCKS = frozenset({"image", "redactedThinking"})
_EXIT_CODE = re.compile(r"Command exited with code (-?\d+)\s*\Z")


class Pi(FileReader):
    """Reader of pi sessions, and those of omp and OpenClaw, which write the same."""

    agent = "pi"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """By `PI_CODING_AGENT_SESSION_DIR` or `PI_CODING_AGENT_DIR`; omp's; OpenClaw's by `OPENCLAW_STATE_DIR`; then `extra`."""
        home = user_home(env)
        agent = named_folder(env, "PI_CODING_AGENT_DIR") or home / ".pi" / "agent"
        claw = named_folder(env, "OPENCLAW_STATE_DIR")
        claws = (claw,) if claw else (home / ".openclaw", home / ".clawdbot")  # its name before
        own = (
            named_folder(env, "PI_CODING_AGENT_SESSION_DIR") or agent / "sessions",
            home / ".omp" / "agent" / "sessions",
            *(folder / _OPENCLAW for folder in claws),
        )
        return tuple(dict.fromkeys((*own, *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """Sessions, and those of sub-agents in a folder with their session's name; no copies, indexes or credentials."""
        is_claw = root.name == _OPENCLAW
        yield from files_below(root, _is_claws_session if is_claw else _is_session, _is_entered)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A session speaks for itself."""
        inside = inside_of(root, path)
        is_session = _is_claws_session(inside) if root.name == _OPENCLAW else _is_session(inside)
        return path if path == root or is_session else None

    def claims(self, path: Path) -> bool:
        """Whether the first record is a session's header."""
        if path.suffix != ".jsonl" or _NO_SESSION.search(path.name) or not path.is_file():
            return False
        first = first_record(path)
        # Others begin with a `session` too, and write its time otherwise.
        return (
            first.get("type") == "session" and isinstance(first.get("id"), str) and {"cwd", "timestamp"} <= first.keys()
        )

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`. Raises OSError."""
        transcript = _Tree(_id_in_name(path.stem), cursor.context)
        if not cursor.context and (above := list(_sessions_above(path))):
            transcript.is_started_by(above[0], root=above[-1])
        yield from read_lines(path, cursor, transcript)


class _Tree(Transcript):
    agent = "pi"

    def is_started_by(self, parent: str, *, root: str) -> None:
        """Learn that this is a sub-agent's session."""
        self.know(session_id=root, parent=parent)

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one entry."""
        kind = record.get("type")
        self.at_ms = parse_time_ms(record.get("timestamp"))
        if kind == "session":
            self._header(record)
        elif kind == "message":
            message = record.get("message")
            if not isinstance(message, Mapping):
                raise TypeError("a message entry without a message")
            self.at_ms = self.at_ms or parse_time_ms(message.get("timestamp"))
            yield from self._message(message)
        elif kind in ("compaction", "branch_summary"):
            text = first_text(record, ("summary",))
            yield from self.prose("summary", self.named(kind, text), text)
        elif kind == "session_info":
            self.know(title=first_text(record, ("name", "title")).strip())
        elif kind not in _SILENT:
            self.count_unknown("record", kind)

    def _header(self, header: Mapping[str, Any]) -> None:
        own, parent = id_in(header.get("id")), self.thread.parent
        self.know(thread_id=own, session_id="" if parent else own)
        source = first_text(header, ("parentSession", "branchedFrom"))
        if source and not parent:
            self.know(forked_from=_id_in_name(re.split(r"[/\\]", source)[-1].removesuffix(".jsonl")))
        self.know(title=first_text(header, ("title",)).strip())
        self.stand_at(first_text(header, ("cwd",)))

    def _message(self, message: Mapping[str, Any]) -> Iterator[Event]:
        role, content = str(message.get("role")), message.get("content")
        if role == "user":
            yield from self.prose("prompt", self.named(role, text_of(content)), text_of(content))
        elif role == "assistant":
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            if not isinstance(blocks, list):
                raise TypeError("content is neither text nor blocks")
            self.group = self.named(role, *(first_text(block, ("text", "thinking", "id")) for block in blocks))
            for number, block in enumerate(blocks):
                yield from self._block(f"{self.group}#{number}" if number else self.group, block)
        elif role == "toolResult":
            yield self._result(message)
        elif role in _RUN_BY_USER:
            yield from self._run_by_user(role, message)
        elif role in _SUMMARY_ROLES:
            text = first_text(message, ("summary",))
            yield from self.prose("summary", self.named(role, text), text)
        elif role not in _SILENT_ROLES:
            self.count_unknown("message", role)

    def _block(self, own: str, block: Mapping[str, Any]) -> Iterator[Event]:
        kind = block.get("type")
        if kind == "text":
            yield from self.prose("reply", own, first_text(block, ("text",)))
        elif kind == "thinking":
            yield from self.prose("thought", own, first_text(block, ("thinking",)))
        elif kind == "toolCall":
            call_id = id_in(block.get("id")) or own
            yield self.call(own, call_id, first_text(block, ("name",)), block.get("arguments"))
        elif kind not in _SILENT_BLOCKS:
            self.count_unknown("block", kind)

    def _result(self, message: Mapping[str, Any]) -> Event:
        call_id, text, failed = (
            id_in(message.get("toolCallId")),
            text_of(message.get("content")),
            message.get("isError"),
        )
        code = None
        if message.get("toolName") == "bash" and (frame := _EXIT_CODE.search(text)):
            code, text = exit_code_in(frame[1]), text[: frame.start()].rstrip("\n")
        own = self.named("result", call_id, text)
        return self.result(own, call_id, text, failed=failed if isinstance(failed, bool) else None, exit_code=code)

    def _run_by_user(self, role: str, message: Mapping[str, Any]) -> Iterator[Event]:
        """What the user ran from the prompt (`!ls`): a call without a model."""
        tool, line, output = (
            _RUN_BY_USER[role],
            first_text(message, ("command", "code")),
            first_text(message, ("output",)),
        )
        own, code = self.named(role, line, output), exit_code_in(message.get("exitCode"))
        yield self.call(own, own, tool, {"command": line} if tool == "bash" else {"code": line})
        yield self.result(f"{own}#1", own, output, failed=None if code is None else code != 0, exit_code=code)


def _id_in_name(name: str) -> str:
    """The session's id in a name like `2026-03-02T09-00-00-000Z_<id>`."""
    found = _NAMED.fullmatch(name)
    return id_in(found["id"] if found else name)


def _sessions_above(path: Path) -> Iterator[str]:
    """The sessions in whose folders a file lies, the nearest first: a folder beside a session's file is that session's."""
    for folder in islice(path.parents, _MAX_DEPTH):
        session = folder.with_name(f"{folder.name}.jsonl")
        if not session.is_file():
            return
        yield id_in(first_record(session).get("id")) or _id_in_name(folder.name)


def _is_session(inside: Inside) -> bool:
    # Flat, in the folder of its project, or a sub-agent's in the folder of the session that started it.
    if not 1 <= len(inside) <= 2 + _MAX_DEPTH or not inside[-1].endswith(".jsonl") or _NO_SESSION.search(inside[-1]):
        return False
    return len(inside) > 1 or is_like_an_id(inside[0].removesuffix(".jsonl"))


def _is_claws_session(inside: Inside) -> bool:
    return len(inside) == 3 and inside[1] == "sessions" and _is_session(inside)


def _is_entered(inside: Inside) -> bool:
    return len(inside) < 2 + _MAX_DEPTH
