"""What the Kiro editor writes down: session files with the prompts, and logs of executions with what the agent said and did.

`workspace-sessions/<folder in base64>/<id>.json` names for each answer an execution; the log of that lies in a file without
an ending below a folder named by a hash of the workspace. Before, each execution was one `.chat` file with all that had been
said until then; those of one workflow tell one session.
"""

import hashlib
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.documents import json_document
from ingest.readers.kiro_cli import Session
from ingest.readers.opening import first_bytes
from ingest.readers.outputs import output_text
from ingest.session import Unreadable
from lmm_mcp.domain.event import Event

SESSIONS = "workspace-sessions"
INDEX = "sessions.json"
HASH = re.compile(r"[0-9a-f]{32}")
_EXECUTION = re.compile(rb'"executionId"\s*:\s*"([^"]{1,100})"')
_FIRST_bytes = 512
_INJECTED = (
    "# System Prompt",
    "# Identity",
    "<identity>",
    "## Included Rules",
    "You are operating in a workspace",
    "<environment_details>",
)
_WRAPPED = re.compile(r"\A\s*<kiro-ide-message>\s*(.*?)\s*(?:</kiro-ide-message>\s*)?\Z", re.DOTALL)
_ACKNOWLEDGED = frozenset({"I will follow these instructions.", "On it.", "Understood."})
"""What the editor puts into the agent's mouth."""
_SILENT_ACTIONS = frozenset({"model", "intentClassification", "context", "title", "checkpoint", "hook"})


class IdeSession(Session):
    """A session of the editor while its messages are read."""

    def __init__(self, thread: Any, started_ms: int, executions: Mapping[str, Path] | None = None) -> None:
        super().__init__(thread, started_ms)
        self._executions = executions or {}

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of an entry of a session's history, or of a message of a `.chat` file."""
        self.now(record.get("timestamp"))
        message = record["message"] if isinstance(record.get("message"), Mapping) else record
        role, text = message.get("role"), _text(message.get("content"))
        if role in ("user", "human"):
            said = _typed(text)
            if said:
                yield from self.prose("prompt", self.name("prompt", said), said)
        elif role in ("assistant", "bot"):
            done = list(self._done(record.get("executionId")))
            yield from done
            if (
                text.strip()
                and text.strip() not in _ACKNOWLEDGED
                and text.strip() not in [event.text for event in done]
            ):
                yield from self._reply(text)
        elif role == "tool":
            if text.strip():
                name = self.name("result", text)
                yield self.result(name, "", text)
        elif role != "system":
            self.count_unknown("role", role)

    def _done(self, execution: object) -> Iterator[Event]:
        """What the log of an execution tells."""
        path = self._executions.get(execution) if isinstance(execution, str) else None
        if path is None:
            return
        with suppress(OSError):  # gone meanwhile: then only what the session itself holds is told
            log = json_document(path)
            if isinstance(log, Unreadable):
                self.count_unknown("execution", "damaged")
            actions = log.get("actions") if isinstance(log, dict) else None
            for action in actions if isinstance(actions, list) else []:
                if isinstance(action, Mapping):
                    yield from self._action(action)

    def _action(self, action: Mapping[str, Any]) -> Iterator[Event]:
        kind, given, output = action.get("actionType"), action.get("input"), action.get("output")
        self.now(action.get("emittedAt") or action.get("startTime"))
        self.group = ""
        if kind == "say":
            yield from self._reply(output_text(output))
        elif kind in _SILENT_ACTIONS:
            return
        elif not isinstance(kind, str) or not (given or output):
            self.count_unknown("action", kind)
        else:
            yield self.ask(action.get("actionId"), kind, _arguments(given))
            state = str(action.get("actionState") or "").lower()
            failed = (
                True
                if state in ("error", "failed", "rejected")
                else False
                if state in ("success", "accepted")
                else None
            )
            if output or failed is not None:
                yield self.answer(action.get("actionId"), [output] if output else [], failed=failed)

    def _reply(self, text: str) -> Iterator[Event]:
        if text.strip():
            self.group = self.name("reply", text.strip())
            yield from self.prose("reply", self.group, text)


def workspace_of(folder: Path) -> str:
    """The path that the name of a folder in `workspace-sessions` stands for; '' where it stands for none."""
    name = folder.name.rstrip("=_")
    try:
        found = urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode("utf-8")
    except ValueError:
        return ""
    return found if found.startswith(("/", "\\")) or found[1:2] == ":" else ""


def hash_of(workspace: str) -> str:
    """The name of the folder in which the executions of a workspace lie."""
    return hashlib.sha256(workspace.encode()).hexdigest()[:32]


def workspace_by_hash(storage: Path, name: str) -> Path | None:
    """The folder in `workspace-sessions` of the workspace whose executions lie in `name`."""
    with suppress(OSError):
        for folder in sorted((storage / SESSIONS).iterdir()):
            if hash_of(workspace_of(folder)) == name:
                return folder
    return None


def execution_files(storage: Path, workspace: str) -> list[Path]:
    """The logs of executions in a workspace: files without an ending, two folders below the editor's storage."""
    found = []
    for folder in storage.glob(f"{hash_of(workspace)}/*"):
        if HASH.fullmatch(folder.name):
            found += [path for path in folder.glob("*") if HASH.fullmatch(path.name)]
    return sorted(found)


def executions(storage: Path, workspace: str) -> dict[str, Path]:
    """The logs of a workspace by the ids of their executions, which stand at their beginning."""
    found = {}
    for path in execution_files(storage, workspace):
        if name := _EXECUTION.search(first_bytes(path, _FIRST_bytes)):
            found[name[1].decode("utf-8", "replace")] = path
    return found


def started_ms(session: Path, name: object) -> int:
    """When a session began, which only the list beside it tells; 0 where it does not."""
    with suppress(OSError):
        listed = json_document(session.with_name(INDEX))
        for entry in listed if isinstance(listed, list) else []:
            if isinstance(entry, Mapping) and entry.get("sessionId") == name:
                created = entry.get("dateCreated")
                if isinstance(created, str) and created.isascii() and created.isdigit() and len(created) < 16:
                    created = int(created)
                return parse_time_ms(created)
    return 0


def _text(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(_text(part) for part in content if not isinstance(part, Mapping) or part.get("type") == "text")
    if isinstance(content, Mapping):
        return _text(content.get("text"))
    return content if isinstance(content, str) else ""


def _typed(text: str) -> str:
    """What a person typed, '' where the editor speaks."""
    text = text.strip()
    if wrapped := _WRAPPED.match(text):
        return wrapped[1]
    return "" if text.startswith(_INJECTED) else text


def _arguments(given: object) -> object:
    """What an action was asked; a change of a file holds it twice, whole."""
    if not isinstance(given, Mapping):
        return given
    before, after = given.get("originalContent"), given.get("modifiedContent")
    if isinstance(before, str) or isinstance(after, str):
        rest = {key: value for key, value in given.items() if key not in ("originalContent", "modifiedContent")}
        changed = {"old_text": before, "new_text": after} if isinstance(before, str) and before else {"content": after}
        return {**rest, **changed}
    return given
