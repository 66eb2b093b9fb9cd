"""Antigravity: `brain/<conversation>/.system_generated/logs/transcript.jsonl`, the only readable trace of a conversation.

A line is a step: what was asked, what was answered with which calls, and what each call gave back. Calls have no ids and
results do not name theirs: they come in the same order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, parse_time_ms
from ingest.readers.calls import first_text
from ingest.readers.claude_prompts import between, without_blocks
from ingest.readers.documents import json_value
from ingest.readers.factory_droid import first_record
from ingest.readers.transcript import Transcript, read_lines
from ingest.readers.values import exit_code_in, id_in
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.session import Cursor, Item
from lmm_mcp.domain.event import Event
from lmm_mcp.paths import user_home

_LOG = (".system_generated", "logs", "transcript.jsonl")
_PLACES = ("antigravity", "antigravity-cli", "antigravity-ide")
_NUM_WAITING_KEPT = 64
_ANSWERS: Mapping[str, frozenset[str]] = {
    "RUN_COMMAND": frozenset({"run_command"}),
    "COMMAND_STATUS": frozenset({"command_status"}),
    "VIEW_FILE": frozenset({"view_file", "view_file_outline", "view_code_item"}),
    "CODE_ACTION": frozenset({"replace_file_content", "multi_replace_file_content", "write_to_file"}),
    "LIST_DIRECTORY": frozenset({"list_dir"}),
    "GREP_SEARCH": frozenset({"grep_search"}),
    "FIND": frozenset({"find_by_name"}),
    "SEARCH_WEB": frozenset({"search_web"}),
    "READ_URL_CONTENT": frozenset({"read_url_content"}),
}
"""Kind of a step -> the tools whose result it can be. A step of any other kind answers the call that waits longest."""
_SPOKEN = frozenset({"PLANNER_RESPONSE", ""})
_SUMMARY = "CHECKPOINT"
_SOURCES = frozenset({"USER_EXPLICIT", "USER", "MODEL", "SYSTEM", "USER_IMPLICIT"})
_RENAMED = {
    "CommandLine": "command",
    "Cwd": "cwd",
    "AbsolutePath": "path",
    "TargetFile": "path",
    "DirectoryPath": "path",
    "CodeContent": "content",
    "TargetContent": "old_string",
    "ReplacementContent": "new_string",
    "ReplacementChunks": "edits",
}
_FOR_THE_SCREEN = frozenset({"toolAction", "toolSummary", "waitForPreviousTools"})
_TIMES = re.compile(r"\A(?:(?:Created|Completed) At: [^\n]*\n)+")
_EXIT_CODE = re.compile(r"[Tt]he command (?:exited|failed) with (?:exit )?code:? (-?\d+)")
_FAILED = frozenset({"ERROR", "FAILED"})


class Antigravity(FileReader):
    """Reader of Antigravity conversations."""

    agent = "antigravity"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`brain` in every `~/.gemini/antigravity*`, then `extra`."""
        gemini = user_home(env) / ".gemini"
        there = sorted(gemini.glob("antigravity*/"))
        own = (*(gemini / name for name in _PLACES), *there)
        return tuple(dict.fromkeys((*(folder / "brain" for folder in own), *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The log of each conversation; plans, pictures and encrypted streams beside it are left alone."""
        yield from files_below(root, _is_log, _is_entered)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A log speaks for itself."""
        return path if path == root or _is_log(inside_of(root, path)) else None

    def claims(self, path: Path) -> bool:
        """By its name, and a step in its first line."""
        if path.name != _LOG[-1] or not path.is_file():
            return False
        first = first_record(path)
        return first.get("source") in _SOURCES and "created_at" in first

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`. Raises OSError."""
        folder = path.parents[2] if path.parts[-3:] == _LOG else path.parent
        yield from read_lines(path, cursor, _Steps(id_in(folder.name), cursor.context))


class _Steps(Transcript):
    agent = "antigravity"

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one step."""
        self.at_ms = parse_time_ms(record.get("created_at"))
        source, kind, text = record.get("source"), record.get("type", ""), first_text(record, ("content",))
        number = id_in(record.get("step_index"))
        # With its time, for numbers are given anew when a conversation is taken back to an earlier step.
        place = f"{self.thread.thread_id}:{number}@{self.at_ms:x}"
        own = place if number else self.named(str(source), str(kind), text)
        if kind == _SUMMARY:
            yield from self.prose("summary", own, text)
        elif source in ("USER_EXPLICIT", "USER"):
            self._learn_place(text)
            yield from self.prose("prompt", own, _typed(text))
        elif source == "MODEL" and kind in _SPOKEN:
            yield from self._answer(own, record, text)
        elif source == "MODEL":
            yield self._result(own, str(kind), first_text(record, ("status",)), text)
        elif source not in _SOURCES:
            self.count_unknown("source", source)

    def _learn_place(self, text: str) -> None:
        found = json_value(between(text, "ADDITIONAL_METADATA") or "null", Path())
        if isinstance(found, Mapping):
            self.stand_at(first_text(found, ("cwd",)))

    def _answer(self, own: str, record: Mapping[str, Any], text: str) -> Iterator[Event]:
        self.group = own
        yield from self.prose("thought", f"{own}#thought", first_text(record, ("thinking",)))
        yield from self.prose("reply", own, text)
        calls = record.get("tool_calls")
        waiting: list[list[str]] = []
        for number, call in enumerate(calls if isinstance(calls, list) else (), start=1):
            tool, given = first_text(call, ("name",)), _arguments(call.get("args"))
            cwd = first_text(given, ("cwd",)) if tool == "run_command" else ""
            if not self.cwd:
                self.stand_at(cwd)
            call_id = f"{own}#{number}"
            waiting.append([call_id, tool])
            yield self.call(call_id, call_id, tool, given, cwd=cwd or self.cwd)
        self.notes["waiting"] = [*self.notes.get("waiting", ()), *waiting][-_NUM_WAITING_KEPT:]

    def _result(self, own: str, kind: str, status: str, text: str) -> Event:
        waiting = self.notes.get("waiting", [])
        fitting = _ANSWERS.get(kind)
        answered = next((call for call in waiting if fitting is None or call[1] in fitting), None)
        self.notes["waiting"] = [call for call in waiting if call is not answered]
        found = _EXIT_CODE.search(text)
        code = exit_code_in(found[1]) if found else None
        shown = _TIMES.sub("", text).strip()
        call_id = answered[0] if answered else ""
        return self.result(own, call_id, shown, failed=bool(code) or status in _FAILED, exit_code=code)


def _typed(text: str) -> str:
    """What a person typed, without what the editor put around and beside it."""
    for tag in ("ADDITIONAL_METADATA", "USER_SETTINGS_CHANGE", "EPHEMERAL_MESSAGE"):
        text = without_blocks(text, tag)
    text = between(text, "USER_REQUEST") or text
    return "\n".join(line for line in text.splitlines() if not line.startswith("Comments on artifact URI:"))


def _arguments(given: object) -> dict[str, Any]:
    """Arguments under the names that other agents use; each is JSON once more."""
    told: dict[str, Any] = {}
    for name, value in given.items() if isinstance(given, Mapping) else ():
        if isinstance(name, str) and name not in _FOR_THE_SCREEN:
            told[_RENAMED.get(name, name)] = _decoded(value)
    if isinstance(told.get("edits"), list):
        told["edits"] = [_arguments(chunk) for chunk in told["edits"]]
    return told


def _decoded(value: object) -> Any:
    if not isinstance(value, str) or value[:1] not in ('"', "[", "{", "t", "f"):
        return value
    found = json_value(value, Path())
    return found if isinstance(found, str | list | dict | bool) else value


def _is_log(inside: Inside) -> bool:
    return len(inside) == 4 and inside[1:] == _LOG


def _is_entered(inside: Inside) -> bool:
    return len(inside) == 1 or (len(inside) < 4 and inside[1:] == _LOG[: len(inside) - 1])
