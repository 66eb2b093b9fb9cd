"""Factory Droid: `sessions/<folder>/<session>.jsonl`, older ones flat in `sessions`; a sub-agent is a session that names its caller."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, json_lines, parse_time_ms
from ingest.readers.calls import first_text, is_shell
from ingest.readers.claude_prompts import without_blocks
from ingest.readers.places import named_folder
from ingest.readers.transcript import Transcript, read_lines
from ingest.readers.values import exit_code_in, id_in
from ingest.readers.walking import Inside, files_below, inside_of, is_like_an_id
from ingest.session import Cursor, Item
from lmm_mcp.domain.event import Event
from lmm_mcp.paths import user_home

_MAX_LOOK_bytes = 1024 * 1024
_MAX_DEPTH = 8
_NUM_SHELLS_KEPT = 64
_SILENT = frozenset({"todo_state", "session_end", "session_settings", "agent_turn_outcome", "session_title_update"})
_SILENT_BLOCKS = frozenset({"image", "document", "redacted_thinking"})
_INJECTED = ("system-reminder", "system-notification", "hook_output", "environment_context")
"""Tags of what the harness says in the user's name, before the prompt or in its place."""
_EXIT_CODE = re.compile(r"\[Process exited with code (-?\d+)\]\s*\Z")


class FactoryDroid(FileReader):
    """Reader of Factory Droid sessions."""

    agent = "factory-droid"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`sessions` in `FACTORY_DIR`, in `.factory` under `FACTORY_HOME_OVERRIDE`, else under the home folder; then `extra`."""
        home = named_folder(env, "FACTORY_HOME_OVERRIDE") or user_home(env)
        own = named_folder(env, "FACTORY_DIR") or home / ".factory"
        more = (folder / "sessions" if folder.name == ".factory" else folder for folder in extra)
        return tuple(dict.fromkeys((own / "sessions", *more)))

    def discover(self, root: Path) -> Iterator[Path]:
        """Transcripts; the settings beside each, which may hold keys, are never named."""
        yield from files_below(root, _is_session, _is_entered)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A transcript speaks for itself."""
        return path if path == root or _is_session(inside_of(root, path)) else None

    def claims(self, path: Path) -> bool:
        """Whether the first record is how a session of this agent starts."""
        return path.suffix == ".jsonl" and path.is_file() and first_record(path).get("type") == "session_start"

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`. Raises OSError."""
        yield from read_lines(path, cursor, _Session(id_in(path.stem), cursor.context, path.parent))


class _Session(Transcript):
    agent = "factory-droid"

    def __init__(self, name: str, context: Mapping[str, Any], folder: Path) -> None:
        super().__init__(name, context)
        self._folder = folder

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one record."""
        kind = record.get("type")
        self.at_ms = parse_time_ms(record.get("timestamp"))
        if kind == "session_start":
            self._start(record)
        elif kind == "message":
            yield from self._message(record)
        elif kind == "compaction_state":
            text = first_text(record, ("summaryText", "summary"))
            own = self.unique_id(record.get("id")) or self.named("summary", text)
            yield from self.prose("summary", own, text)
        elif kind not in _SILENT:
            self.count_unknown("record", kind)

    def _start(self, record: Mapping[str, Any]) -> None:
        own = id_in(record.get("id")) or self.thread.thread_id
        self.know(session_id=own, thread_id=own)
        if caller := id_in(record.get("callingSessionId")):
            self.know(session_id=_root_of(self._folder, caller), parent=caller)
        else:
            self.know(forked_from=id_in(record.get("forkedFromSessionId")) or id_in(record.get("parent")))
        title = first_text(record, ("sessionTitle", "title")).strip()
        self.know(title="" if title == "New Session" else title)
        self.stand_at(first_text(record, ("cwd",)))

    def _message(self, record: Mapping[str, Any]) -> Iterator[Event]:
        message = record.get("message")
        if not isinstance(message, Mapping):
            raise TypeError("a message record without a message")
        content, is_agent = message.get("content"), message.get("role") == "assistant"
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(blocks, list):
            raise TypeError("content is neither text nor blocks")
        own = self.unique_id(record.get("id")) or self.named(str(message.get("role")), str(content)[:2000])
        self.group = own
        for number, block in enumerate(blocks):
            yield from self._block(f"{own}#{number}" if number else own, block, is_agent=is_agent)
        # What is said to the model alone is the harness speaking.
        if not is_agent and record.get("visibility") != "llm_only":
            texts = (first_text(block, ("text",)) for block in blocks if block.get("type") == "text")
            typed = "\n".join(_typed(text) for text in texts)
            yield from self.prose("prompt", f"{own}#prompt" if len(blocks) > 1 else own, typed)

    def _block(self, own: str, block: Mapping[str, Any], *, is_agent: bool) -> Iterator[Event]:
        kind = block.get("type")
        if kind == "text":
            if is_agent:
                yield from self.prose("reply", own, first_text(block, ("text",)))
        elif kind == "thinking":
            yield from self.prose("thought", own, first_text(block, ("thinking",)))
        elif kind == "tool_use":
            tool, call_id = first_text(block, ("name",)), id_in(block.get("id")) or own
            if is_shell(tool):
                self.notes["shells"] = [*self.notes.get("shells", ()), call_id][-_NUM_SHELLS_KEPT:]
            yield self.call(own, call_id, tool, block.get("input"))
        elif kind == "tool_result":
            yield self._result(own, block)
        elif kind not in _SILENT_BLOCKS:
            self.count_unknown("block", kind)

    def _result(self, own: str, block: Mapping[str, Any]) -> Event:
        call_id, text = id_in(block.get("tool_use_id")), text_of(block.get("content"))
        failed, code = block.get("is_error"), None
        if call_id in self.notes.get("shells", ()) and (frame := _EXIT_CODE.search(text)):
            code, text = exit_code_in(frame[1]), text[: frame.start()].rstrip("\n")
        return self.result(own, call_id, text, failed=failed is True or bool(code), exit_code=code)


def text_of(content: object) -> str:
    r"""The text of a content, plain or in blocks; pictures are left out.

    >>> text_of([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]), text_of("a")
    ('a\nb', 'a')
    """
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    return "\n".join(text for block in content if isinstance(block, Mapping) and (text := first_text(block, ("text",))))


def _typed(text: str) -> str:
    for tag in _INJECTED:
        text = without_blocks(text, tag)
    return text


def first_record(path: Path) -> Mapping[str, Any]:
    """The first record of a JSON-lines file; {} where there is none."""
    lines = json_lines(path, Cursor(), final=True, max_line_bytes=_MAX_LOOK_bytes)
    return next((item[1] for item in islice(lines, 2) if isinstance(item, tuple)), {})


def _root_of(folder: Path, session: str) -> str:
    """The session at the root of a tree, by the callers that the transcripts beside name."""
    for _ in range(_MAX_DEPTH):
        try:
            caller = id_in(first_record(folder / f"{session}.jsonl").get("callingSessionId"))
        except (OSError, ValueError):  # ValueError: a NUL in the name
            break
        if not caller or caller == session:
            break
        session = caller
    return session


def _is_session(inside: Inside) -> bool:
    if not inside or not inside[-1].endswith(".jsonl"):
        return False
    return len(inside) == 2 or (len(inside) == 1 and is_like_an_id(inside[0].removesuffix(".jsonl")))


def _is_entered(inside: Inside) -> bool:
    return len(inside) == 1
