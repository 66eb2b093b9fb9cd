"""Aider: `.aider.chat.history.md` in the folder that is worked in, Markdown that is only appended to; see `aider_blocks`.

There are no ids, and of times only when a session began, in local time. A session is named by that and by its first prompt, a
message by its session and its first line: so what was met half written gets the same name when it is whole.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ingest.readers.aider_blocks import Block, blocks_in, edits_in
from ingest.readers.base import FileReader, SLICE_bytes, parse_time_ms
from ingest.readers.opening import first_bytes, open_file
from ingest.readers.places import named_folder
from ingest.readers.transcript import Known
from ingest.readers.values import Naming
from ingest.session import Cursor, Item, ReadTo
from lmm_mcp.domain.event import Event, EventKind, Thread
from lmm_mcp.paths import user_home

AGENT = "aider"
_NAME = ".aider.chat.history.md"
_VARIABLE = "AIDER_CHAT_HISTORY_FILE"
_ENDINGS = (".md", ".markdown", ".txt")
_FIRST_bytes = 65_536
_HEADER = re.compile(rb"^# aider chat started at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.MULTILINE)
_MAX_BLOCK_bytes = 64 * 1024 * 1024

_COMMAND = re.compile(r"/([a-z-]+)(?:\s+(.*))?\Z", re.DOTALL)
_RUNS = frozenset({"run", "test", "git"})
_SAID_AGAIN = frozenset("architect ask code context editor edit help ok".split())
"""Aider writes down the question once more, by itself."""
_COMMANDS = (
    _RUNS
    | _SAID_AGAIN
    | frozenset(
        """add chat-mode clear commit copy diff drop editor-model exit lint load ls map map-refresh model models multiline-mode
        paste quit read-only reasoning-effort report reset save settings think-tokens tokens undo voice weak-model web""".split()
    )
)
_WITH_PROSE = frozenset({"copy-context"})
_APPLIED = re.compile(r"Applied edit to (.+)")
_RUNNING = re.compile(r"Running (.+)")
_NOT_APPLIED = re.compile(r"The LLM did not conform to the edit format|.*SEARCH/REPLACE blocks? failed to match")
_NOISE = re.compile(
    r"Tokens: |Cost: |Added .* to (?:the chat|read-only files)|.* is already in the chat|Aider v|Main model:|Weak model:|Model:"
    r"|Editor model:|Git repo:|Repo-map:|Use /help|https://aider\.chat|Warning: it's best to only add|Initial repo scan"
    r"|\^C\b|You can skip this check|Copied code context|Removed .* from the chat|Creating empty file|Restored previous"
    r"|Add .* to (?:the chat|\.gitignore)\?|.*\(Y\)es/\(N\)o|Update git (?:name|email)|Can't initialize prompt toolkit"
)


class Aider(FileReader):
    """Reader of Aider's chat histories."""

    agent = AGENT
    version = 1
    lies_in_projects = True

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """The file that `AIDER_CHAT_HISTORY_FILE` names (in each of `extra`, if it is relative), the home's, then `extra`."""
        named = env.get(_VARIABLE, "").strip()
        own = [user_home(env) / _NAME]
        if named and not (Path(named).is_absolute() or named.startswith("~")):
            own += [folder / named for folder in extra]
        elif file := named_folder(env, _VARIABLE):
            own.insert(0, file)
        return tuple(dict.fromkeys((*own, *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The history in a folder that is worked in, or the file that the root is."""
        path = root / _NAME if root.is_dir() else root
        if path.is_file():
            yield path

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The history itself."""
        return path if path == root / _NAME or (path == root and path.suffix in _ENDINGS) else None

    def claims(self, path: Path) -> bool:
        """A history by its name, or Markdown in which an Aider session begins."""
        if path.suffix != ".md" or not path.is_file():
            return False
        if path.name == _NAME:
            return True
        return _HEADER.search(first_bytes(path, _FIRST_bytes)) is not None

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what is behind `cursor`. The last block may still grow: it is told, and told again the next time."""
        history = _History(path, cursor.context)
        blocks, num_bytes, is_end = _slice(path, cursor, history.is_strict)
        stop, context = Cursor(cursor.offset + num_bytes, cursor.line, dict(cursor.context)), history.context()
        told: Thread | None = None
        for number, block in enumerate(blocks):
            if number == len(blocks) - 1:
                stop = Cursor(cursor.offset + block.start, cursor.line + block.line)
                context = copy.deepcopy(history.context())
                if not is_end and number:
                    break
                if not is_end:  # one block, and endless
                    stop = Cursor(cursor.offset + num_bytes, cursor.line)
            for event in history.take_block(block):
                if history.thread != told:
                    told = history.thread
                    yield told
                yield event
        yield ReadTo(Cursor(stop.offset, stop.line, context), has_more=not is_end)


def _slice(path: Path, cursor: Cursor, is_strict: bool | None) -> tuple[list[Block], int, bool]:
    """Blocks behind the cursor, how many bytes they are, and whether the file ends there. More than one, if there are."""
    with open_file(path) as stream:
        stream.seek(cursor.offset)
        content = b""
        while True:
            wanted = max(SLICE_bytes, len(content))
            while wanted and (more := stream.read(wanted)):
                content += more
                wanted -= len(more)
            is_end = wanted > 0
            whole = content[: content.rfind(b"\n") + 1]
            blocks = list(blocks_in(whole, is_strict=is_strict))
            if is_end:
                return _with_unfinished(blocks, content, is_strict), len(whole), True
            if len(blocks) > 1 or len(content) >= _MAX_BLOCK_bytes:
                return blocks, len(whole) or len(content), False


def _with_unfinished(blocks: list[Block], content: bytes, is_strict: bool | None) -> list[Block]:
    """The blocks with a last line that has no end yet, where that goes on with one. What it might become, nobody knows."""
    found = list(blocks_in(content, is_strict=is_strict))
    is_same = len(found) == len(blocks) and not content[content.rfind(b"\n") + 1 :].startswith((b"#", b">"))
    return found if is_same else blocks


_UNTOLD: Mapping[str, Any] = {"named": {}, "edits": [], "command": "", "has_begun": False}
"""What is noted of a session of which nothing was told yet: names given, edits not yet applied, the command that runs."""


class _History(Known):
    """The session that is being read."""

    agent = AGENT

    def __init__(self, path: Path, context: Mapping[str, Any]) -> None:
        super().__init__("", context)
        if not context:
            self.notes = {**_UNTOLD, "began": ""}
        self.at_ms = _local_ms(self.notes["began"])
        if not self.cwd and path.name == _NAME:
            self.cwd = str(path.parent)

    @property
    def is_strict(self) -> bool | None:
        """As `blocks_in` wants to know it."""
        strict: bool | None = self.notes.get("strict")
        return strict

    def take_block(self, block: Block) -> Iterator[Event]:
        """Events of the next block."""
        self.notes["strict"] = block.is_strict
        if block.kind == "header":
            self.notes |= {**_UNTOLD, "began": block.text}
            self.at_ms = _local_ms(block.text)
        elif block.kind == "user":
            yield from self._typed(block.text)
        elif self.notes["has_begun"]:  # before the first prompt there is only the banner
            yield from self._replied(block.text) if block.kind == "reply" else self._shown(block.text)

    # What the user typed ----------------------------------------------------------------------------------------------

    def _typed(self, text: str) -> Iterator[Event]:
        self._begin(text)
        self.notes |= {"edits": [], "command": ""}
        self.group = ""
        command = _COMMAND.match(text)
        line = text[1:].strip() if text.startswith("!") else ""
        if command and command[1] in _RUNS and command[2]:
            line = f"git {command[2]}" if command[1] == "git" else command[2]
        if line:
            yield self._ran(line)
        elif command and command[1] in _WITH_PROSE:
            yield from self._said("prompt", command[2] or "")
        elif not (command and command[1] in _COMMANDS) and text != "<blank>":
            yield from self._said("prompt", text)

    def _begin(self, text: str) -> None:
        """Name the session by when it began and its first words."""
        if self.notes["has_begun"]:
            return
        self.notes["has_begun"] = True
        began = re.sub(r"\D", "", self.notes["began"]) or "unknown"
        name = f"{began}-{Naming(began).name(text.partition(chr(10))[0])}"
        self.thread = Thread(AGENT, name, name, cwd=self.cwd)

    # What the model and Aider said -------------------------------------------------------------------------------------

    def _replied(self, text: str) -> Iterator[Event]:
        prose, edits = edits_in(text)
        self.group = self._name("reply", text)
        yield from self.prose("reply", self.group, prose)
        for edit in edits:
            call_id = self._name("edit", edit.path, edit.before or edit.after)
            self.notes["edits"] = [*self.notes["edits"], [edit.path, call_id]]
            arguments = {"path": edit.path, "old_text": edit.before, "new_text": edit.after}
            yield self.call(call_id, call_id, "edit", arguments)

    def _shown(self, text: str) -> Iterator[Event]:
        self.group = ""
        rest: list[str] = []
        for line in text.split("\n"):
            if applied := _APPLIED.match(line):
                yield from self._applied(applied[1].strip(), line)
            elif running := _RUNNING.match(line):
                yield from self._result(rest)
                rest = []
                yield self._ran(running[1].strip())
            elif _NOT_APPLIED.match(line):
                rest += [] if self.notes["edits"] else [line]
                yield from self._refused(line)
            elif line.strip() and not _NOISE.match(line):
                rest.append(line)
        yield from self._result(rest)

    def _applied(self, path: str, line: str) -> Iterator[Event]:
        calls = [call_id for named, call_id in self.notes["edits"] if named == path or path.endswith(f"/{named}")]
        self.notes["edits"] = [each for each in self.notes["edits"] if each[1] not in calls]
        if not calls:  # written in a form that is left in the reply
            calls = [self._name("edit", path)]
            yield self._event(calls[0], "call", path, call_id=calls[0], tool="edit", paths=(path,))
        for call_id in calls:
            yield self.result(f"{call_id}#result", call_id, line.strip(), failed=False)

    def _refused(self, line: str) -> Iterator[Event]:
        for _, call_id in self.notes["edits"]:
            yield self.result(f"{call_id}#result", call_id, line.strip(), failed=True)
        self.notes["edits"] = []

    def _ran(self, line: str) -> Event:
        call_id = self._name("command", line)
        self.notes["command"] = call_id
        return self.call(call_id, call_id, "run", {"command": line})

    def _result(self, lines: list[str]) -> Iterator[Event]:
        text = "\n".join(lines).strip()
        if not text:
            return
        call_id, self.notes["command"] = self.notes["command"], ""
        event_id = f"{call_id}#result" if call_id else self._name("result", text)
        yield self.result(event_id, call_id, text)

    def _said(self, kind: EventKind, text: str) -> Iterator[Event]:
        if text.strip():
            yield from self.prose(kind, self._name(kind, text), text)

    def _name(self, *said: str) -> str:
        """An id made of the first lines of what is said."""
        naming = Naming(self.thread.thread_id, self.notes["named"])
        name = naming.name(*(part.partition("\n")[0] for part in said))
        self.notes["named"] = naming.seen
        return name


def _local_ms(began: str) -> int:
    """When a session began, by this machine's clock; 0 where nothing says."""
    try:
        return parse_time_ms(datetime.strptime(began, "%Y-%m-%d %H:%M:%S").timestamp())
    except (ValueError, OverflowError, OSError):
        return 0
