"""What a message of a Zed thread means: a JSON value in, events out.

Zed 1 writes `{"User": ...}`, `{"Agent": ...}` and `"Resume"`; the documents of its older agent have a role, segments and, in
lists of their own, the tools used and their results. When such a thread goes on, it is written anew in the new form with new
ids. So messages are named by their words, which stay, and calls by the ids of the model's, which stay as well.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ingest.readers.call_ids import CallIds
from ingest.readers.ours import begins_with_brief
from ingest.readers.outputs import nested_json, output_text
from ingest.readers.transcript import Transcript
from ingest.readers.values import Naming, exit_code_in, id_in
from lmm_mcp.domain.event import Event, EventKind, Thread

AGENT = "zed"
_EXIT = re.compile(r"failed with exit code (-?\d{1,10})")
_NAMES = ("abs_path", "path", "name", "url", "id")
"""What a mention is of, the most telling first."""


class ZedThread(Transcript):
    """One thread while its messages are read. It has one time for all of them."""

    agent = AGENT

    def __init__(self, thread: Thread, started_ms: int) -> None:
        super().__init__(thread.thread_id, {})
        self.thread = thread
        self.cwd, self.branch, self._started_ms = thread.cwd, thread.branch, started_ms
        self._names = Naming(thread.thread_id)
        self._call_ids = CallIds(thread.thread_id)

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of `{"message": a message}`, or of `{"summary": a text}`."""
        self.at_ms = self._started_ms
        if isinstance(text := record.get("summary"), str):
            yield from self._said("summary", text)
            return
        message = record["message"]
        if message == "Resume":
            return
        if isinstance(message, Mapping) and "role" in message:
            yield from self._older(message)
        elif isinstance(message, Mapping) and len(message) == 1:
            ((kind, content),) = message.items()
            if kind == "User":
                yield from self._said("prompt", "".join(self._typed(content["content"])))
            elif kind == "Agent":
                results = content.get("tool_results")
                yield from self._answer(content["content"], results if isinstance(results, Mapping) else {})
            else:
                self.count_unknown("message", kind)
        else:
            self.count_unknown("message", message if isinstance(message, str) else None)

    def _older(self, message: Mapping[str, Any]) -> Iterator[Event]:
        """A message of the first agent."""
        role, segments = message["role"], message.get("segments")
        if not isinstance(segments, list):
            segments = [{"type": "text", "text": message.get("text")}]
        parts: list[Any] = [_as_now(segment) for segment in segments if isinstance(segment, Mapping)]
        if role == "user":
            if message.get("is_hidden") is not True:
                yield from self._said("prompt", "".join(self._typed(parts)))
        elif role == "assistant":
            parts += [{"ToolUse": use} for use in _mappings(message.get("tool_uses"))]
        elif role != "system":
            self.count_unknown("role", role)
        results = {str(result.get("tool_use_id")): result for result in _mappings(message.get("tool_results"))}
        if role == "assistant":
            yield from self._answer(parts, results)
        elif results:  # the oldest documents keep results in the message that follows
            yield from (self._result(self._call_ids.answered(name), result) for name, result in results.items())

    def _typed(self, content: object) -> Iterator[str]:
        """What a person typed. Of a file that is mentioned the name stands there; Zed put its text in for the model."""
        for part in content if isinstance(content, list) else []:
            kind, value = _variant(part)
            if kind == "Text":
                yield output_text(value)
            elif kind == "Mention":
                yield f"@{_mentioned(value)}"
            elif kind not in ("Image", "Thinking", "RedactedThinking"):
                self.count_unknown("content", kind)

    def _answer(self, content: object, results: Mapping[str, Any]) -> Iterator[Event]:
        for part in content if isinstance(content, list) else []:
            kind, value = _variant(part)
            if kind == "Text":
                yield from self._said("reply", output_text(value))
            elif kind == "Thinking":
                yield from self._said("thought", output_text(value))
            elif kind == "ToolUse" and isinstance(value, Mapping):
                yield from self._use(value, results)
            elif kind != "RedactedThinking":
                self.count_unknown("content", kind)

    def _use(self, use: Mapping[str, Any], results: Mapping[str, Any]) -> Iterator[Event]:
        tool = name if isinstance(name := use.get("name"), str) else ""
        given = use.get("id")
        call_id = self._call_ids.opened(given) or self._names.name("call", tool)
        self.group = self.group or call_id
        arguments = use.get("input") or nested_json(use.get("raw_input"))
        place = arguments.get("cd") if isinstance(arguments, Mapping) else None
        more: dict[str, Any] = {"cwd": place} if isinstance(place, str) and place.startswith("/") else {}
        answer = results.get(given) if isinstance(given, str) else None
        # Tools of a server bear their bare names here: only the answer tells whose they are.
        ours = isinstance(answer, Mapping) and begins_with_brief(_told(answer))
        yield self.call(call_id, call_id, tool or "tool", arguments, ours=ours, **more)
        if isinstance(answer, Mapping):
            yield self._result(call_id, answer)

    def _result(self, call_id: str, result: Mapping[str, Any]) -> Event:
        text = _told(result)
        found = _EXIT.search(text[:2000]) if result.get("tool_name") in ("terminal", None) else None
        code = exit_code_in(found[1]) if found else None
        said = result.get("is_error")
        failed = True if code else said if isinstance(said, bool) else None
        return self.result(f"{call_id}#result", call_id, text, failed=failed, exit_code=code)

    def _said(self, kind: EventKind, text: str) -> Iterator[Event]:
        if text.strip():
            name = self._names.name(kind, text.strip())
            if kind in ("reply", "thought"):
                self.group = self.group or name
            yield from self.prose(kind, name, text)


def _as_now(segment: Mapping[str, Any]) -> dict[str, Any]:
    """A segment of an older document in the form of the new ones."""
    kind = segment.get("type")
    known = {"text": "Text", "thinking": "Thinking", "redacted_thinking": "RedactedThinking"}
    return {known.get(str(kind), str(kind)): segment.get("text") or segment.get("data")}


def _variant(part: object) -> tuple[str, Any]:
    """A tagged value: its tag and what it holds."""
    if isinstance(part, Mapping) and len(part) == 1:
        ((kind, value),) = part.items()
        return str(kind), value
    return (part, None) if isinstance(part, str) else ("", None)


def _mentioned(mention: object) -> str:
    """What a mention is of: a path, a name or an address."""
    uri = mention.get("uri") if isinstance(mention, Mapping) else None
    kind, value = _variant(uri)
    if isinstance(value, Mapping):
        found = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), "")
        return found or kind
    return value if isinstance(value, str) else kind


def _told(result: Mapping[str, Any]) -> str:
    """What the model was told, else what the view shows: of an edit its diff, and not the whole file twice."""
    if text := output_text(result.get("content")):
        return text
    output = result.get("output")
    if isinstance(output, Mapping) and isinstance(diff := output.get("diff"), str):
        return diff
    return output if isinstance(output, str) else ""


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def snapshot_of(document: Mapping[str, Any]) -> tuple[str, str, str]:
    """Folder, branch and remote of the first project folder when the thread began; '' for what is not known."""
    snapshot = document.get("initial_project_snapshot")
    trees = _mappings(snapshot.get("worktree_snapshots")) if isinstance(snapshot, Mapping) else []
    if not trees:
        return "", "", ""
    git = trees[0].get("git_state")
    git = git if isinstance(git, Mapping) else {}
    path, branch, remote = trees[0].get("worktree_path"), git.get("current_branch"), git.get("remote_url")
    return _text(path), _text(branch), _text(remote)


def digest_of(document: Mapping[str, Any]) -> str:
    """The summary that Zed made of a thread for use in others; '' where it made none."""
    if told := _text(document.get("detailed_summary")):
        return told
    state = document.get("detailed_summary_state")
    made = state.get("Generated") if isinstance(state, Mapping) else None
    return _text(made.get("text")) if isinstance(made, Mapping) else ""


def parent_of(document: Mapping[str, Any]) -> str:
    """The thread that started this one, as its own document says."""
    context = document.get("subagent_context")
    return id_in(context.get("parent_thread_id")) if isinstance(context, Mapping) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
