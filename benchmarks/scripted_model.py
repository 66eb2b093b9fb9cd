"""A model that says what a script tells it, on loopback, in the two dialects that Claude Code and Codex speak.

    with ScriptedModel([Step(tool="recall", arguments={"query": "which port?"}), Step(text="It is 5477.")]) as model:
        ...  # a client that talks to http://127.0.0.1:{model.port}
    model.requests  # what it was sent

Which step is due is told from the request alone: one for each time the model has spoken in it. So a client may ask the same
again, and asks beside the conversation (for a title) get a word that means nothing.
"""

import gzip
import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_CALLS = ("function_call", "custom_tool_call", "local_shell_call")


@dataclass(frozen=True, slots=True)
class Step:
    """What the model does in one turn: says something, or calls a tool, or both."""

    text: str = ""
    tool: str = ""
    """One of several names, separated by `|`: the first that the client offers, whatever it puts in front."""
    arguments: dict[str, Any] = field(default_factory=dict)


class ScriptedModel:
    """The model, while it is entered. Requests are kept as they came, in order."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self.requests: list[dict[str, Any]] = []
        self.numbers = itertools.count(1)
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._say("application/json", json.dumps({"object": "list", "data": [], "models": []}).encode())

            do_HEAD = do_GET

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                request = json.loads(body or b"{}")
                path = self.path.partition("?")[0]
                if path.endswith("/messages"):
                    model.requests.append(request)
                    events = list(model.anthropic(request))
                elif path.endswith("/responses"):
                    model.requests.append(request)
                    events = list(model.responses(request))
                else:
                    self._say("application/json", b'{"input_tokens": 1}')
                    return
                if request.get("stream", True):
                    lines = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
                    self._say("text/event-stream", "".join(lines).encode())
                else:
                    self._say("application/json", json.dumps(whole(events)).encode())

            def _say(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "ScriptedModel":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def conversation(self) -> list[dict[str, Any]]:
        """The requests in which tools were offered: those of the session itself."""
        return [request for request in self.requests if request.get("tools")]

    def anthropic(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of Anthropic's Messages API."""
        offered = [tool.get("name", "") for tool in request.get("tools") or []]
        step = self._due(sum(said["role"] == "assistant" for said in request["messages"]), bool(offered))
        message = {"id": f"msg_{self._name()}", "type": "message", "role": "assistant", "model": request.get("model")}
        usage = {
            "input_tokens": 100,
            "output_tokens": 10,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0,
        }
        empty = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        yield {"type": "message_start", "message": empty}
        at = itertools.count()
        if step.text:
            index = next(at)
            yield {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
            yield {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": step.text}}
            yield {"type": "content_block_stop", "index": index}
        if step.tool:
            index = next(at)
            name = chosen(step.tool, offered)
            call = {"type": "tool_use", "id": f"toolu_{self._name()}", "name": name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(step.arguments)}
            yield {"type": "content_block_start", "index": index, "content_block": call}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        reason = {"stop_reason": "tool_use" if step.tool else "end_turn", "stop_sequence": None}
        yield {"type": "message_delta", "delta": reason, "usage": {"output_tokens": 10}}
        yield {"type": "message_stop"}

    def responses(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of OpenAI's Responses API."""
        offered = list(_offered(request.get("tools") or []))
        said = [item for item in request.get("input", []) if isinstance(item, dict)]
        step = self._due(sum(item.get("type") in _CALLS or item.get("role") == "assistant" for item in said), True)
        name = self._name()
        if step.tool:
            tool = chosen(step.tool, [each for _, each in offered])
            space = next((space for space, each in offered if each == tool), "")
            item: dict[str, Any] = {
                "type": "function_call",
                "id": f"fc_{name}",
                "call_id": f"call_{name}",
                "name": tool,
            }
            item |= {"arguments": json.dumps(step.arguments), "status": "completed"} | (
                {"namespace": space} if space else {}
            )
        else:
            content = [{"type": "output_text", "text": step.text, "annotations": []}]
            item = {
                "type": "message",
                "id": f"msg_{name}",
                "role": "assistant",
                "status": "completed",
                "content": content,
            }
        usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}  # type: ignore[dict-item]
        response = {"id": f"resp_{name}", "object": "response", "model": request.get("model"), "usage": usage}
        yield {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}}
        yield {"type": "response.output_item.added", "output_index": 0, "item": item}
        yield {"type": "response.output_item.done", "output_index": 0, "item": item}
        yield {"type": "response.completed", "response": {**response, "status": "completed", "output": [item]}}

    def _due(self, num_said: int, is_conversation: bool) -> Step:
        if not is_conversation or num_said >= len(self.steps):
            return Step(text="Done.")
        return self.steps[num_said]

    def _name(self) -> str:
        return f"{next(self.numbers):012d}"


def chosen(wanted: str, offered: Sequence[str]) -> str:
    """The first wanted name that is offered, by itself or at the end of a longer one."""
    for name in wanted.split("|"):
        for each in offered:
            if each == name or each.endswith(f"__{name}"):
                return each
    return wanted.partition("|")[0]


def whole(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the events of a stream amount to, for a client that wants no stream."""
    if events[-1]["type"] == "response.completed":
        return events[-1]["response"]  # type: ignore[no-any-return]
    message = dict(events[0]["message"])
    texts = [event["delta"]["text"] for event in events if event.get("delta", {}).get("type") == "text_delta"]
    return {**message, "content": [{"type": "text", "text": text} for text in texts], "stop_reason": "end_turn"}


def _offered(tools: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Namespace, '' for none, and name of each tool."""
    for tool in tools:
        if tool.get("type") == "namespace":
            yield from ((tool["name"], inner["name"]) for inner in tool.get("tools", []))
        else:
            yield "", tool.get("name") or tool.get("type") or ""
