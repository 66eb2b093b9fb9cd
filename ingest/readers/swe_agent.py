"""SWE-agent trajectories (`*.traj`) and those of mini-swe-agent (`*.traj.json`), wherever a user says that they lie.

A run has neither an id nor times: it is named by its settings, its first words and the first answer to them, and since runs
replay each other, its calls are named after it, too. Its folders are those of the
container it ran in. What came back from a command is told under the user's name, with the shell's prompt behind it.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, parse_time_ms
from ingest.readers.call_ids import CallIds
from ingest.readers.documents import json_document, json_value
from ingest.readers.transcript import Transcript, read_document
from ingest.readers.values import Naming, exit_code_in
from ingest.session import Cursor, Item, Unreadable
from lmm_mcp.domain.event import Event, Thread

AGENT = "swe-agent"
_ENDINGS = (".traj", ".traj.json")
_SHELL = "bash"
_PROMPT = re.compile(
    r"\s*(?:\(Open file: (?P<file>[^\n]*)\)\n)?(?:\(Current directory: (?P<cwd>[^\n]*)\)\n)?bash-\$\s*\Z"
)
_FAILED = re.compile(
    r"\s*(?:EXECUTION TIMED OUT|Your proposed edit has introduced|Your command failed|Action '.*' is not|Your output was not formatted)"
    r"|.*timed out after \d+ seconds",
    re.IGNORECASE,
)
_ACTION = re.compile(r"```(?:bash|sh|mswea_bash_command)?\n(.*?)\n?```", re.DOTALL)
_CODE = re.compile(r"<returncode>(-?\d+)</returncode>\s*")
_OUTPUT = ("<output>", "</output>")
_DEMO = "Here is a demonstration of how to correctly accomplish this task"


class SweAgent(FileReader):
    """Reader of trajectories; they have no place of their own."""

    agent = AGENT
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:  # noqa: ARG002 - the protocol
        """The files and folders named."""
        return tuple(dict.fromkeys(extra))

    def discover(self, root: Path) -> Iterator[Path]:
        """Trajectories anywhere below, or the file itself."""
        if root.is_file():
            yield root
        for here, folders, names in os.walk(root):
            folders.sort()
            yield from (Path(here, name) for name in sorted(names) if name.endswith(_ENDINGS))

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A trajectory speaks for itself."""
        return path if path.name.endswith(_ENDINGS) and (path == root or path.is_relative_to(root)) else None

    def claims(self, path: Path) -> bool:
        """A trajectory, by its name."""
        return path.name.endswith(_ENDINGS) and path.is_file()

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:  # noqa: ARG002 - the protocol; always read whole
        """Yield the whole run."""
        found = json_document(path)
        if isinstance(found, Unreadable):
            yield found
            found = []
        messages = _messages(found)
        if messages is None:
            yield Unreadable(str(path), 0, "holds no history, messages or trajectory")
            messages = []
        run = _Run(path, messages, found if isinstance(found, Mapping) else {})
        yield from read_document(path, run.in_order(messages), run)


def _messages(found: object) -> list[Any] | None:
    """The messages of a run, in whatever form it was written; None where there are none to be found."""
    if isinstance(found, list):
        return found
    if not isinstance(found, Mapping):
        return None
    for key in ("history", "messages"):
        if isinstance(messages := found.get(key), list):
            return messages
    steps = found.get("trajectory")
    if not isinstance(steps, list):
        return None
    told: list[Any] = []
    for step in steps:
        if isinstance(step, Mapping):
            told += [
                {
                    "role": "assistant",
                    **{key: step.get(key) for key in ("thought", "action")},
                    "content": step.get("response"),
                },
                {"role": "tool", "content": step.get("observation")},
            ]
    return told


class _Run(Transcript):
    """One run while it is read."""

    agent = AGENT

    def __init__(self, path: Path, messages: list[Any], document: Mapping[str, Any]) -> None:
        name = Naming(AGENT).name(str(document.get("replay_config")), *_first_words(messages))
        super().__init__(name, {})
        title = path.name.removesuffix(".json").removesuffix(".traj")
        self.thread = Thread(AGENT, name, name, title=title, remote=_remote(document))
        self._naming, self._ids = Naming(name), CallIds(name, are_copied=True)
        self._document = document
        self._waiting: list[str] = []  # calls of the last message that have no result yet
        self._open_file = ""
        self._has_prompt = False
        self._now_ms = 0

    def in_order(self, messages: list[Any]) -> Iterator[Mapping[str, Any]]:
        """The messages, and at last what was handed in, if a call still waits for its result."""
        # A run that was never answered has no name yet.
        is_answered = any(isinstance(each, Mapping) and each.get("role") == "assistant" for each in messages)
        for message in messages if is_answered else ():
            if isinstance(message, Mapping):
                yield message
            else:
                self.count_unknown("message", type(message).__name__)
        info = self._document.get("info")
        if self._waiting and isinstance(info, Mapping) and _text(info.get("submission")).strip():
            yield {"role": "tool", "content": info["submission"], "exit_status": info.get("exit_status")}

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one message."""
        role, extra = record.get("role"), record.get("extra")
        extra = extra if isinstance(extra, Mapping) else {}
        self._now_ms = parse_time_ms(record.get("timestamp") or extra.get("timestamp")) or self._now_ms
        self.at_ms = self._now_ms
        text = _content(record.get("content"))
        if role in ("system", "developer", "exit") or record.get("is_demo") or text.startswith(_DEMO):
            return
        if role == "assistant":
            yield from self._answered(record, text)
        elif role == "tool" or (role == "user" and self._waiting):
            yield from self._observed(record, text)
        elif role == "user":
            text = self._without_prompt(text)
            if text.strip():
                yield from self.prose("prompt", self._naming.name("prompt", text), text)
        else:
            self.count_unknown("role", role)

    def _answered(self, record: Mapping[str, Any], text: str) -> Iterator[Event]:
        self._waiting = []
        action = _text(record.get("action")).strip()
        calls = record.get("tool_calls")
        calls = [call for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
        if not action and not calls and (found := _ACTION.findall(text)):
            action = found[-1].strip()
            text = _ACTION.sub("", text)
        prose = (_text(record.get("thought")) or (text if calls or not action else text.replace(action, ""))).strip()
        self.group = self._naming.name("message", prose, action)
        if prose:
            yield from self.prose("reply", self._naming.name("reply", prose), prose)
        for call in calls:
            function = call.get("function")
            function = function if isinstance(function, Mapping) else {}
            tool, arguments = _text(function.get("name")), function.get("arguments")
            if not tool:
                self.count_unknown("call", tool)
                continue
            call_id = self._ids.opened(call.get("id")) or self._naming.name("call", tool, str(arguments))
            self._waiting.append(call_id)
            yield self.call(call_id, call_id, tool, arguments)
        if action and not calls:
            call_id = self._naming.name("call", action)
            self._waiting.append(call_id)
            yield self.call(call_id, call_id, _SHELL, {"command": action}, paths=self._paths(action))

    def _observed(self, record: Mapping[str, Any], text: str) -> Iterator[Event]:
        given = record.get("tool_call_ids") or record.get("tool_call_id")
        named = self._ids.answered(given[0] if isinstance(given, list) and given else given)
        call_id = named if named in self._waiting else self._waiting[0] if self._waiting else named
        if call_id in self._waiting:
            self._waiting.remove(call_id)
        failed = True if _FAILED.match(text) else None
        code = None
        if stated := _CODE.search(text):
            code = exit_code_in(stated[1])
            failed = code != 0
            text = _between(text, *_OUTPUT) or text[: stated.start()] + text[stated.end() :]
        if "exit_status" in record:
            failed = not _text(record["exit_status"]).lower().startswith("submitted")
        text = self._without_prompt(text)
        event_id = f"{call_id}#result" if call_id else self._naming.name("result", text)
        yield self.result(event_id, call_id, text, failed=failed, exit_code=code)

    def _without_prompt(self, text: str) -> str:
        """A text without the shell's prompt behind it, which says where the run stands and what it looks at."""
        prompt = _PROMPT.search(text[-1000:])
        if prompt is None or not prompt[0].strip():
            return text
        if prompt["cwd"]:
            self.stand_at(prompt["cwd"].strip())
        opened = (prompt["file"] or "").strip()
        self._open_file = "" if opened == "n/a" else opened or self._open_file
        return text[: len(text) - len(prompt[0])]

    def _paths(self, action: str) -> tuple[str, ...]:
        """Files of the agent's own commands, which look like those of a shell."""
        verb, _, rest = action.partition("\n")[0].partition(" ")
        if verb in ("open", "create") and rest.strip():
            return (rest.split()[0].strip("'\""),)
        return (self._open_file,) if verb == "edit" and self._open_file else ()


def _first_words(messages: list[Any]) -> Iterator[str]:
    """What tells one run from another: all up to the first answer, without what the agent is shown as an example."""
    for message in messages:
        if isinstance(message, Mapping) and not message.get("is_demo"):
            yield f"{message.get('role')}\0{_content(message.get('content'))}\0{message.get('action')}"
            if message.get("role") == "assistant":
                return


def _between(text: str, opening: str, closing: str) -> str:
    """What stands between two marks, '' where they are not there."""
    start, end = text.find(opening), text.rfind(closing)
    return text[start + len(opening) : end].removeprefix("\n") if 0 <= start < end else ""


def _remote(document: Mapping[str, Any]) -> str:
    """The repository that a run was started on, where its settings name it."""
    value: Any = document
    for key in ("replay_config", "env", "repo", "github_url"):
        value = _decoded(value)
        value = value.get(key) if isinstance(value, Mapping) else None
    return _text(value)


def _decoded(value: object) -> object:
    found = json_value(value, Path()) if isinstance(value, str) else value
    return found if isinstance(found, Mapping) else None


def _content(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(_text(part.get("text")) for part in content if isinstance(part, Mapping)).strip()
    return _text(content)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
