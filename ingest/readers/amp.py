"""Amp before its threads went to a server: `threads/T-<id>.json`, one document, written anew with every message.

Messages are numbered, and the numbers are given anew behind a prompt that was edited: so a message is named by its number and
by the time of the prompt it follows.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, parse_time_ms
from ingest.readers.calls import first_text
from ingest.readers.documents import json_document
from ingest.readers.opening import first_bytes
from ingest.readers.outputs import output_text
from ingest.readers.places import data_folders, named_folder
from ingest.readers.transcript import Transcript, read_document
from ingest.readers.values import exit_code_in, id_in
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.readers.workspaces import path_of
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event

_NAME = re.compile(r"T-[0-9a-fA-F-]{8,}\.json")
_FIRST_bytes = 4096
_THREAD = re.compile(rb'"id"\s*:\s*"T-[0-9a-fA-F-]{8,}"')
_MESSAGES = re.compile(rb'"(?:messages|created|v)"\s*:')
_UNDER_WAY = frozenset({"in-progress", "queued", "blocked-on-user"})
_NOT_DONE = frozenset({"error", "cancelled", "rejected-by-user"})
_SILENT_BLOCKS = frozenset({"image", "redacted_thinking", "server_tool_use"})
_ROLES = frozenset({"user", "assistant", "info"})


class Amp(FileReader):
    """Reader of Amp's local threads."""

    agent = "amp"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`AMP_THREADS_DIR`, else `amp/threads` where each system keeps data, then `extra`."""
        named = named_folder(env, "AMP_THREADS_DIR")
        return tuple(dict.fromkeys((*((named,) if named else data_folders(env, "amp", "threads")), *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """Threads by their names."""
        yield from files_below(root, _is_thread, lambda inside: len(inside) == 1 and inside[0] == "threads")

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A thread speaks for itself."""
        return path if path == root or _is_thread(inside_of(root, path)) else None

    def claims(self, path: Path) -> bool:
        """By how a thread begins."""
        if path.suffix != ".json" or not path.is_file():
            return False
        first = first_bytes(path, _FIRST_bytes)
        return _THREAD.search(first) is not None and _MESSAGES.search(first) is not None

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:  # noqa: ARG002 - the protocol; always read whole
        """Yield all of the thread. Raises OSError."""
        found = json_document(path)
        messages = found.get("messages") if isinstance(found, Mapping) else None
        if isinstance(found, Unreadable):
            yield found
        elif not isinstance(found, Mapping) or not isinstance(messages, list):
            yield Unreadable(str(path), 0, "no thread of Amp: it has no messages")
        else:
            thread = _Messages(id_in(found.get("id")) or id_in(path.stem), {})
            thread.learn(found)
            yield from read_document(path, ({"message": message} for message in messages), thread)
            return
        yield ReadTo(Cursor())


class _Messages(Transcript):
    agent = "amp"

    def learn(self, found: Mapping[str, Any]) -> None:
        """Learn what the document says of itself."""
        self._last_ms = parse_time_ms(found.get("created"))
        self._turn = f"{self._last_ms:x}"
        self.know(title=first_text(found, ("title",)).strip())
        origin, main = id_in(found.get("originThreadID")), id_in(found.get("mainThreadID"))
        if main and main != self.thread.thread_id:
            self.know(session_id=main, parent=main)
        elif origin != self.thread.thread_id:
            self.know(forked_from=origin)
        env = found.get("env")
        initial = env.get("initial") if isinstance(env, Mapping) else None
        trees = initial.get("trees") if isinstance(initial, Mapping) else None
        tree = trees[0] if isinstance(trees, list) and trees and isinstance(trees[0], Mapping) else {}
        repository = tree.get("repository")
        repository = repository if isinstance(repository, Mapping) else {}
        self.stand_at(path_of(tree.get("uri")), first_text(repository, ("ref",)).removeprefix("refs/heads/"))
        self.know(remote=first_text(repository, ("url",)))

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one message."""
        message = record["message"]
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            self.count_unknown("message", role)
            return
        if not isinstance(content, list):
            raise TypeError("a message without content")
        meta, usage = message.get("meta"), message.get("usage")
        sent_ms = parse_time_ms(meta.get("sentAt")) if isinstance(meta, Mapping) else 0
        spoken_ms = parse_time_ms(usage.get("timestamp")) if isinstance(usage, Mapping) else 0
        self.at_ms = self._last_ms = sent_ms or spoken_ms or self._last_ms
        typed = "\n".join(
            first_text(block, ("text",)) for block in content if block.get("type") == "text" and not block.get("hidden")
        ).strip()
        if role == "user" and typed:
            self._turn = (
                f"{sent_ms:x}"
                if sent_ms
                else hashlib.blake2b(typed.encode("utf-8", "replace"), digest_size=6).hexdigest()
            )
        own = f"{self.thread.thread_id}:{self._turn}.{id_in(message.get('messageId'))}"
        self.group = own if role == "assistant" else ""
        for number, block in enumerate(content):
            yield from self._block(f"{own}#{number}" if number else own, role, block)
        if role == "user":
            yield from self.prose("prompt", f"{own}#prompt" if len(content) > 1 else own, typed)

    def _block(self, own: str, role: str, block: Mapping[str, Any]) -> Iterator[Event]:
        kind = block.get("type")
        if kind == "text":
            if role == "assistant":
                yield from self.prose("reply", own, first_text(block, ("text",)))
        elif kind == "thinking":
            yield from self.prose("thought", own, first_text(block, ("thinking",)))
        elif kind == "tool_use":
            call_id = id_in(block.get("id")) or own
            tool, given = first_text(block, ("name",)), block.get("input")
            yield self.call(call_id if len(call_id) >= 16 else own, call_id, tool, given)
        elif kind == "tool_result":
            yield from self._result(
                own, id_in(block.get("toolUseID")) or id_in(block.get("tool_use_id")), block.get("run")
            )
        elif kind == "manual_bash_invocation":  # what the user ran from the prompt
            yield self.call(own, own, "Bash", block.get("args"))
            yield from self._result(f"{own}#1", own, block.get("toolRun") or block.get("run"))
        elif kind == "summary":
            summary = block.get("summary")
            yield from self.prose(
                "summary", own, output_text(summary) if isinstance(summary, Mapping) else str(summary or "")
            )
        elif kind not in _SILENT_BLOCKS:
            self.count_unknown("block", kind)

    def _result(self, own: str, call_id: str, run: object) -> Iterator[Event]:
        if not isinstance(run, Mapping):
            raise TypeError("a result without a run")
        status, result = run.get("status"), run.get("result")
        if status in _UNDER_WAY:
            return
        code = exit_code_in(result.get("exitCode")) if isinstance(result, Mapping) else None
        code = None if code == -1 else code  # it ran and nobody knows how it ended
        text = output_text(result) or output_text(run.get("error"))
        name = f"{call_id}#result" if len(call_id) >= 16 else own
        failed = status in _NOT_DONE or bool(code) or (isinstance(result, Mapping) and result.get("success") is False)
        yield self.result(
            name, call_id, text or (str(status) if status in _NOT_DONE else ""), failed=failed, exit_code=code
        )


def _is_thread(inside: Inside) -> bool:
    return 1 <= len(inside) <= 2 and _NAME.fullmatch(inside[-1]) is not None and inside[:-1] in ((), ("threads",))
