"""What OpenHands' events mean: those of its CLI and SDK (`kind`), and those of the server before (`action`, `observation`)."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.calls import first_text
from ingest.readers.transcript import Transcript
from ingest.readers.values import exit_code_in, id_in
from lmm_mcp.domain.event import Event

_SILENT_KINDS = frozenset(
    """SystemPromptEvent ConversationStateUpdateEvent ConversationErrorEvent ConversationIterationLimitEvent PauseEvent
    InterruptEvent TokenEvent LLMCompletionLogEvent CondensationRequest HookExecutionEvent StreamingDeltaEvent
    ResumeTranscriptEvent SecurityAnalyzerEvent WarningEvent""".split()
)
_NUDGES = ("Your last response did not include a function call or a message", "The task appears incomplete (iteration ")
"""What the harness itself says in the user's name."""
_STILL_RUNNING = -1
_SAYING_TOOLS = frozenset({"finish", "think"})
"""Their arguments are the agent's words, and what they give back says them again."""
_OLD_SILENT = frozenset(
    {"system", "change_agent_state", "agent_state_changed", "recall", "null", "pause", "resume", "stop"}
)
_OLD_TOOLS = {"run": "execute_bash", "run_ipython": "execute_ipython_cell", "edit": "str_replace_editor"}
_OLD_CALLS = (
    frozenset("read write browse browse_interactive delegate reject call_tool_mcp task_tracking".split())
    | _OLD_TOOLS.keys()
)
_OLD_NOISE = frozenset({"thought", "hidden", "confirmation_state", "security_risk", "is_confirmed", "kernel_init_code"})


class OpenHandsTranscript(Transcript):
    """One conversation, a sub-agent's or a main line."""

    agent = "openhands"

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one record."""
        self.at_ms = _local_ms(record.get("timestamp"))
        if "kind" in record:
            yield from self._of_sdk(record)
        elif "action" in record:
            yield from self._old_action(record)
        elif "observation" in record:
            yield from self._old_observation(record)
        else:
            self.count_unknown("record", None)

    def _of_sdk(self, event: Mapping[str, Any]) -> Iterator[Event]:
        kind, call_id = event.get("kind"), id_in(event.get("tool_call_id"))
        own = self.unique_id(event.get("id")) or self.named(str(kind), call_id, str(event)[:2000])
        self.group = id_in(event.get("llm_response_id")) or own
        if kind == "MessageEvent":
            yield from self._message(own, event)
        elif kind == "ActionEvent":
            yield from self._action(own, call_id, event)
        elif kind == "ObservationEvent":
            yield from self._observation(own, call_id, event)
        elif kind == "AgentErrorEvent":
            yield self.result(own, call_id, first_text(event, ("error",)), failed=True)
        elif kind == "UserRejectObservation":
            yield self.result(own, call_id, f"Rejected: {first_text(event, ('rejection_reason',))}", failed=True)
        elif kind in ("Condensation", "CondensationSummaryEvent"):
            yield from self.prose("summary", own, first_text(event, ("summary",)))
        elif kind == "ACPToolCallEvent":
            yield from self._foreign_call(call_id or own, event)
        elif kind not in _SILENT_KINDS:
            self.count_unknown("event", kind)

    def _message(self, own: str, event: Mapping[str, Any]) -> Iterator[Event]:
        message = event.get("llm_message")
        if not isinstance(message, Mapping):
            raise TypeError("a message event without a message")
        text = text_of(message.get("content"))
        if event.get("source") == "agent":
            yield from self._reasoning(own, message)
            yield from self.prose("reply", own, text)
        elif event.get("source") == "user" and not text.startswith(_NUDGES):
            yield from self.prose("prompt", own, text)

    def _reasoning(self, own: str, holder: Mapping[str, Any]) -> Iterator[Event]:
        blocks = holder.get("thinking_blocks")
        said = [first_text(block, ("thinking",)) for block in blocks or () if isinstance(block, Mapping)]
        yield from self.prose(
            "thought", f"{own}#thought", "\n".join(said) or first_text(holder, ("reasoning_content",))
        )

    def _action(self, own: str, call_id: str, event: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._reasoning(own, event)
        # What the model says beside a call, in its answer and not in its reasoning.
        yield from self.prose("reply", f"{own}#reply", text_of(event.get("thought")))
        action, asked = event.get("action"), event.get("tool_call")
        tool = first_text(event, ("tool_name",)) or (first_text(asked, ("name",)) if isinstance(asked, Mapping) else "")
        arguments: object = asked.get("arguments") if isinstance(asked, Mapping) else None
        if isinstance(action, Mapping):
            arguments = {key: value for key, value in action.items() if key != "kind" and value not in (None, False)}
        if tool in _SAYING_TOOLS and isinstance(arguments, Mapping):
            text = first_text(arguments, ("message", "thought"))
            yield from self.prose("reply" if tool == "finish" else "thought", own, text)
        else:
            yield self.call(own, call_id or own, tool, arguments)

    def _observation(self, own: str, call_id: str, event: Mapping[str, Any]) -> Iterator[Event]:
        seen = event.get("observation")
        if not isinstance(seen, Mapping):
            raise TypeError("an observation event without an observation")
        if event.get("tool_name") in _SAYING_TOOLS:
            return
        metadata = _mapping(seen.get("metadata"))
        text = text_of(seen.get("content")) or first_text(seen, ("output", "error"))
        is_error = seen.get("is_error", seen.get("error"))
        yield self._seen(own, call_id, text, seen.get("exit_code", metadata.get("exit_code")), is_error=bool(is_error))
        self.stand_at(first_text(metadata, ("working_dir",)))

    def _seen(self, own: str, call_id: str, text: str, exit_code: object, *, is_error: bool) -> Event:
        code = exit_code_in(exit_code)
        if code == _STILL_RUNNING:
            return self.result(own, call_id, text)
        return self.result(own, call_id, text, failed=is_error or bool(code), exit_code=code)

    def _foreign_call(self, call_id: str, event: Mapping[str, Any]) -> Iterator[Event]:
        """A call of another agent that runs inside, said anew whenever it gets on."""
        tool = first_text(event, ("tool_kind",)) or "tool"
        arguments = event.get("raw_input")
        yield self.call(call_id, call_id, tool, arguments if isinstance(arguments, Mapping) else event.get("title"))
        output = event.get("raw_output")
        text = output if isinstance(output, str) else text_of(event.get("content"))
        if event.get("status") in ("completed", "failed"):
            failed = event.get("is_error") is True or event.get("status") == "failed"
            yield self.result(f"{call_id}#result", call_id, text, failed=failed)

    # Before the SDK ----------------------------------------------------------------------------------------------------

    def _old_action(self, event: Mapping[str, Any]) -> Iterator[Event]:
        action, arguments, own = event.get("action"), _mapping(event.get("args")), self._old_id(event.get("id"))
        self.group = own
        if action in _OLD_SILENT:
            return
        said = first_text(arguments, ("content", "thought", "final_thought", "message"))
        if action == "message":
            by_user = event.get("source") == "user"
            yield from self.prose("prompt" if by_user else "reply", own, first_text(arguments, ("content",)))
        elif action == "finish":
            yield from self.prose("reply", own, first_text(arguments, ("final_thought", "thought")) or said)
        elif action == "think":
            yield from self.prose("thought", own, said)
        elif action == "condensation":
            yield from self.prose("summary", own, first_text(arguments, ("summary",)))
        elif action not in _OLD_CALLS:
            self.count_unknown("action", action)
        else:
            yield from self.prose("reply", f"{own}#reply", first_text(arguments, ("thought",)))
            tool, asked = _OLD_TOOLS.get(str(action), str(action)), _without(arguments, _OLD_NOISE)
            if action == "call_tool_mcp":
                tool, asked = first_text(arguments, ("name",)), dict(_mapping(arguments.get("arguments")))
            yield self.call(own, own, tool, asked)

    def _old_observation(self, event: Mapping[str, Any]) -> Iterator[Event]:
        extras = _mapping(event.get("extras"))
        metadata = _mapping(extras.get("metadata"))
        self.stand_at(first_text(metadata, ("working_dir",)))
        kind = event.get("observation")
        if kind in _OLD_SILENT or kind in _SAYING_TOOLS or kind == "message":
            return
        own = self._old_id(event.get("id"))
        # The cause is the event that is answered; an error of the harness has none.
        cause = self._old_id(event["cause"]) if isinstance(event.get("cause"), int) else own
        text, code = first_text(event, ("content",)), metadata.get("exit_code", extras.get("exit_code"))
        yield self._seen(own, cause, text, code, is_error=kind in ("error", "user_rejected"))

    def _old_id(self, number: object) -> str:
        """An event's id: its number within the conversation."""
        name = id_in(number)
        return f"{self.thread.thread_id}/{name}" if name else self.named("event", str(self.at_ms))


def text_of(content: object) -> str:
    """The text of a content: plain, one part, or several; pictures are left out."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        content = [content]
    parts = content if isinstance(content, list) else []
    return "\n".join(text for part in parts if isinstance(part, Mapping) and (text := first_text(part, ("text",))))


def _local_ms(value: object) -> int:
    """Milliseconds of a time that is written without its zone: that of the machine it was written on, most likely this one."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is None:
            return parse_time_ms(moment.astimezone().isoformat())
    except (ValueError, OverflowError, OSError):
        return 0
    return parse_time_ms(value)


def _without(arguments: Mapping[str, Any], noise: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in noise and value not in (None, False, -1)}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
