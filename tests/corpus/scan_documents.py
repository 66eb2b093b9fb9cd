"""Independent scanners of agents that write documents: JSON rewritten whole, Markdown, exports. Nothing of the readers is used."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.corpus.said import Said
from tests.corpus.scan_lines import blocks_of, text_in, without_tags

Record = dict[str, Any]


def documents(paths: Iterable[Path]) -> Iterator[Any]:
    return (json.loads(path.read_bytes()) for path in paths)


# Cline and its forks --------------------------------------------------------------------------------------------------

_AROUND = re.compile(r"<environment_details>.*?</environment_details>", re.DOTALL)
_TASK = re.compile(r"<(task|feedback|user_message)>(.*?)</\1>", re.DOTALL)


def cline(paths: Iterable[Path]) -> Iterator[Said]:
    for document in documents(paths):
        for message in document if isinstance(document, list) else document["messages"]:
            for block in blocks_of(message["content"]):
                if block["type"] == "tool_use":
                    yield Said("call", block["id"])
                elif block["type"] == "tool_result":
                    yield Said("result", block["tool_use_id"])
                elif block["type"] == "text" and message["role"] == "assistant":
                    yield Said("reply", "", block["text"], noise="" if block["text"].strip() else "an empty block")
                elif block["type"] == "text":
                    text = _AROUND.sub("", block["text"])
                    typed = "\n".join(match[2] for match in _TASK.finditer(text)) or text
                    yield Said("prompt", "", typed, noise="" if typed.strip() else "the state of the editor")


# Continue, OpenHands, SWE-agent ---------------------------------------------------------------------------------------


def continue_dev(paths: Iterable[Path]) -> Iterator[Said]:
    for document in documents(paths):
        for item in document["history"]:
            message = item["message"]
            words = message["content"] if isinstance(message["content"], str) else text_in(message["content"])
            if message["role"] == "tool":
                yield Said("result", message["toolCallId"])
            elif message["role"] in ("user", "assistant"):
                noise = "" if words.strip() else "a message that only calls tools"
                yield Said("prompt" if message["role"] == "user" else "reply", "", words, noise=noise)
            yield from (Said("call", call["id"]) for call in message.get("toolCalls") or ())


def openhands(paths: Iterable[Path]) -> Iterator[Said]:
    for event in documents(paths):
        if event["kind"] == "MessageEvent":
            words = text_in(event["llm_message"]["content"])
            noise = "" if words.strip() else "an empty text"
            yield Said("reply" if event["source"] == "agent" else "prompt", event["id"], words, noise=noise)
        elif event["kind"] == "ActionEvent":
            yield Said("call", event["tool_call_id"])
        elif event["kind"] == "ObservationEvent":
            yield Said("result", event["tool_call_id"])


def swe_agent(paths: Iterable[Path]) -> Iterator[Said]:
    """Runs on the same task repeat the ids of its calls, so a call is told by what it asks."""
    for document in documents(paths):
        has_begun = False
        for step in document["history"]:
            words = step["content"]
            if step["role"] == "assistant":
                has_begun = True
                yield Said("reply", "", step["thought"], noise="" if step["thought"].strip() else "an empty thought")
                calls = step.get("tool_calls") or ()
                yield from (Said("call", "", call["function"]["name"]) for call in calls)
                if not calls and step["action"].strip():
                    yield Said("call", "", "bash")
            elif step["role"] in ("user", "tool") and step.get("is_demo"):
                yield Said("prompt", "", words, noise="an example of another run")
            elif step["role"] in ("user", "tool"):
                yield Said("result" if has_begun else "prompt", "", _without_shell_prompt(words))
        if document["history"][-1]["role"] == "assistant" and (handed_in := document.get("info", {}).get("submission")):
            yield Said("result", "", handed_in)


def _without_shell_prompt(words: str) -> str:
    return re.sub(r"\n?\(Open file: [^\n]*\)\n\(Current directory: [^\n]*\)\nbash-\$\s*\Z", "", words)


def amp(paths: Iterable[Path]) -> Iterator[Said]:
    for document in documents(paths):
        for message in document["messages"]:
            blocks = blocks_of(message["content"])
            if message["role"] == "user" and (words := text_in(blocks)).strip():
                yield Said("prompt", "", words)
            for block in blocks:
                if block["type"] == "text" and message["role"] == "assistant":
                    yield Said("reply", "", block["text"], noise="" if block["text"].strip() else "an empty block")
                elif block["type"] in ("tool_use", "tool_result"):
                    is_call = block["type"] == "tool_use"
                    yield Said("call" if is_call else "result", block["id" if is_call else "toolUseID"])


# Aider ----------------------------------------------------------------------------------------------------------------


_EDIT = re.compile(r"^\S+\n```\w*\n<{5,9} SEARCH\n.*?^>{5,9} REPLACE\n```$", re.MULTILINE | re.DOTALL)
_BANNER = re.compile(
    r"\s*(\^C|Added .+ to the chat|.+ is already in the chat|Warning: it's best|https://aider|Initial repo|Copied|$)"
)


def aider(paths: Iterable[Path]) -> Iterator[Said]:
    """Lines of one kind that stand together; the model's go on over blank ones. Before the first prompt is the banner."""
    for path in paths:
        for session in re.split(r"^# aider chat started at .*$", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            has_begun = False
            for kind, text in _aiders_runs(session):
                has_begun = has_begun or kind == "typed"
                if kind == "typed":
                    yield _aider_typed(re.sub(r"^####( |$)", "", text, flags=re.MULTILINE))
                elif kind == "model":
                    words = _EDIT.sub("", text)
                    yield Said("reply", "", words, noise="" if words.strip() else "nothing but edits")
                elif has_begun:
                    yield from _aider_printed(re.sub(r"^> ?", "", text, flags=re.MULTILINE).split("\n"))


def _aiders_runs(session: str) -> Iterator[tuple[str, str]]:
    kind, run = "", list[str]()
    for line in [*session.split("\n"), ""]:
        now = _aiders_kind(line) if line.strip() else kind if kind == "model" else ""
        if now != kind:
            if kind:
                yield kind, "\n".join(run)
            kind, run = now, []
        run.append(line.rstrip())
    if kind:
        yield kind, "\n".join(run)


def _aider_typed(text: str) -> Said:
    if text.startswith(("/ask ", "/code ", "/architect ", "/copy-context ")):
        text = text.partition(" ")[2]
    return Said("prompt", "", text, noise="a command of the program" if text.startswith("/") else "")


def _aider_printed(lines: list[str]) -> Iterator[Said]:
    rest = []
    for line in lines:
        if line.startswith("Applied edit to "):
            yield Said("call", "", "edit")
            yield Said("result", "", line)
        elif not _BANNER.match(line):
            rest.append(line)
    if rest:
        yield Said("result", "", "\n".join(rest))


def _aiders_kind(line: str) -> str:
    return "typed" if re.match(r"####( |$)", line) else "program" if line.startswith(">") else "model"


# SpecStory ------------------------------------------------------------------------------------------------------------

_TOOL = re.compile(
    r'^<tool-use data-tool-type="[^"]*" data-tool-name="([^"]*)">.*?^(?:</details>)?</tool-use>$',
    re.MULTILINE | re.DOTALL,
)
_THOUGHT = re.compile(r"^<think>.*?</think>$", re.MULTILINE | re.DOTALL)
_PARTY = re.compile(r"^_\*\*(User|Agent)\b[^\n]*\*\*_$", re.MULTILINE)


def specstory(paths: Iterable[Path]) -> Iterator[Said]:
    """Prompts, replies and calls. Where a tool's output ends, Markdown does not say: those are not counted."""
    for path in paths:
        tools: list[str] = []

        def note(found: re.Match[str], tools: list[str] = tools) -> str:
            tools.append(found[1])
            return ""

        text = _TOOL.sub(note, path.read_text(encoding="utf-8"))
        yield from (Said("call", "", tool) for tool in tools)
        _, *pieces = _PARTY.split(text)
        for party, words in zip(pieces[::2], pieces[1::2], strict=True):
            said = re.sub(r"\n---\s*\Z", "", _THOUGHT.sub("", words).rstrip()).strip()
            if party == "User":
                typed = without_tags(said)
                noise = "an interruption" if typed.startswith("[Request interrupted by user") else ""
                noise = noise or ("" if typed else "nothing but tagged notices")
                yield Said("prompt", "", typed, noise=noise)
            else:
                yield Said("reply", "", said, noise="" if said else "a message that only calls tools or thinks")


# VS Code --------------------------------------------------------------------------------------------------------------


def vscode_copilot(paths: Iterable[Path]) -> Iterator[Said]:
    for document in documents(paths):
        for request in document["requests"]:
            yield Said("prompt", request["requestId"], request["message"]["text"])
            answer = request.get("responseId") or request["requestId"]
            words: list[str] = []
            number = 0
            for part in [*request["response"], {"kind": "end"}]:
                kind = part.get("kind")
                if kind in ("toolInvocationSerialized", "thinking", "end") and words:
                    text = re.sub(r"^(`{3,})\w*\n\s*\1[ \t]*\n?", "", "".join(words), flags=re.MULTILINE)
                    number, words = number + 1, []
                    yield Said(
                        "reply", answer, text, str(number), "" if text.strip() else "an empty fence around an edit"
                    )
                if kind is None and isinstance(part.get("value"), str):
                    words.append(part["value"])
                elif kind == "inlineReference":
                    shown = part["inlineReference"]
                    words.append(f"`{part.get('name') or shown.get('name') or Path(shown.get('path', '')).name}`")
                elif kind == "toolInvocationSerialized":
                    yield Said("call", part["toolCallId"])
                    if part.get("pastTenseMessage") or part.get("resultDetails"):
                        yield Said("result", part["toolCallId"])


# Exports --------------------------------------------------------------------------------------------------------------


def chatgpt(paths: Iterable[Path]) -> Iterator[Said]:
    for document in documents(paths):
        for talk in document if isinstance(document, list) else [document]:
            talk = talk.get("raw_provider_payload", talk)
            shown, name = set(), talk.get("current_node")
            while name:
                shown.add(name)
                name = talk["mapping"][name].get("parent")
            for node_id, node in talk["mapping"].items():
                if message := node.get("message"):
                    above = talk["mapping"].get(node.get("parent"), {}).get("message") or {}
                    yield from _chatgpt_message(message, above.get("id", ""), is_shown=node_id in shown)


def _chatgpt_message(message: Record, parent: str, *, is_shown: bool) -> Iterator[Said]:
    role, content = message["author"]["role"], message["content"]
    kind = content["content_type"]
    words = "\n".join(part for part in content.get("parts") or () if isinstance(part, str))
    noise = "" if is_shown else "a branch that is not shown"
    if role == "system" or kind in ("user_editable_context", "reasoning_recap"):
        yield Said("prompt", message["id"], noise="context, or how long was thought")
    elif role == "tool":
        yield Said("result", parent, noise=noise)
    elif role == "assistant" and message["recipient"] != "all":
        yield Said("call", message["id"], noise=noise)
    elif kind != "thoughts":
        yield Said("prompt" if role == "user" else "reply", message["id"], words, noise=noise)


def claude_ai(paths: Iterable[Path]) -> Iterator[Said]:
    for document in documents(paths):
        for talk in document:
            for message in talk["chat_messages"]:
                for number, block in enumerate(message["content"]):
                    is_typed = message["sender"] == "human"
                    yield Said(
                        "prompt" if is_typed else "reply",
                        message["uuid"],
                        block["text"],
                        "" if is_typed else str(number),
                    )


SCANNERS: dict[str, Callable[[Iterable[Path]], Iterator[Said]]] = {
    "cline": cline,
    "roo": cline,
    "kilo-legacy": cline,
    "continue": continue_dev,
    "openhands": openhands,
    "swe-agent": swe_agent,
    "amp": amp,
    "aider": aider,
    "specstory": specstory,
    "vscode-copilot": vscode_copilot,
    "chatgpt": chatgpt,
    "claude-ai": claude_ai,
}
