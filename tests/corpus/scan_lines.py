"""Independent scanners of agents that append JSON lines: files in, what was said out. Nothing of the readers is used."""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from tests.corpus.said import Said

Record = dict[str, Any]
INJECTED = re.compile(
    r"<(system-reminder|task-notification|local-command-\w+|bash-std\w+|ide_\w+|[\w-]+-hook)>.*?</\1>", re.DOTALL
)


def records(path: Path) -> Iterator[Record]:
    """Every JSON object of a file, by the standard library's decoder; glued ones taken apart, a torn last one left out."""
    content = path.read_bytes()
    if path.suffix == ".zst":
        content = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()
    decoder = json.JSONDecoder()
    for line in content.decode("utf-8", "replace").split("\n"):
        rest = line.strip()
        while rest:
            try:
                record, end = decoder.raw_decode(rest)
            except json.JSONDecodeError:
                break
            rest = rest[end:].lstrip()
            if isinstance(record, dict):
                yield record


def each_record(paths: Iterable[Path]) -> Iterator[Record]:
    return (record for path in paths for record in records(path))


def blocks_of(content: object) -> list[Record]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def text_in(blocks: Iterable[Record], kind: str = "text") -> str:
    return "\n".join(block.get("text") or "" for block in blocks if block.get("type") == kind)


def unique(name: str) -> str:
    """A call's id; '' for one like `call_1`, which begins anew with every session."""
    return name if len(name) >= 16 else ""


# Claude Code ----------------------------------------------------------------------------------------------------------


def claude_code(paths: Iterable[Path]) -> Iterator[Said]:
    for record in each_record(paths):
        if record.get("type") == "attachment" and record["attachment"].get("type") == "queued_command":
            attached = record["attachment"]
            texts = [block.get("text", "") for block in blocks_of(attached.get("prompt"))]
            noise = "" if attached.get("commandMode", "prompt") == "prompt" else "a notice that waited in the queue"
            yield from _typed(record, texts, noise or ("by the harness" if attached.get("isMeta") else ""))
        elif record.get("type") in ("user", "assistant"):
            yield from (_claude_user if record["type"] == "user" else _claude_assistant)(record)


def _claude_user(record: Record) -> Iterator[Said]:
    blocks = blocks_of(record["message"]["content"])
    for block in blocks:
        if block["type"] == "tool_result":
            yield Said("result", block["tool_use_id"])
            refused = text_in(blocks_of(block.get("content")))
            _, told, words = refused.partition("the user said:\n")
            if refused.startswith("The user doesn't want to") and told:
                yield Said("prompt", record["uuid"], words.partition("\n\nNote: The user's next message")[0], "refusal")
    texts = [
        "[image]" if block["type"] == "image" else block.get("text", "")
        for block in blocks
        if block["type"] != "tool_result"
    ]
    whole = "\n".join(texts).strip()
    if not texts:
        return
    if record.get("isMeta"):
        noise = "written by the harness under the user's name"
    elif record.get("isCompactSummary") or whole.startswith("This session is being continued from a previous"):
        noise = "the summary that a session goes on from"
    elif re.fullmatch(r"<bash-input>(.*)</bash-input>", whole, re.DOTALL):
        yield Said("call", record["uuid"])
        return
    elif whole.startswith(("<bash-stdout>", "<bash-stderr>")):
        yield Said("result", record["parentUuid"])
        return
    elif record.get("isVisibleInTranscriptOnly"):
        noise = "shown and not said"
    elif whole.startswith("[Request interrupted by user"):
        noise = "an interruption"
    else:
        noise = ""
    yield from _typed(record, texts, noise)


def _typed(record: Record, texts: list[str], noise: str) -> Iterator[Said]:
    typed = "\n".join(map(without_tags, texts)).strip()
    if not typed and not noise:
        noise = "nothing but tagged notices, or a slash command without arguments"
    yield Said("prompt", record.get("uuid", ""), typed, noise=noise)


def without_tags(text: str) -> str:
    """What was typed, without notices that stand beside it; of a slash command its name and arguments."""
    if not text.strip().startswith("<command-"):
        return INJECTED.sub("", text).strip()
    name, words = (re.search(rf"<command-{part}>(.*?)</command-{part}>", text, re.DOTALL) for part in ("name", "args"))
    return f"{name[1]} {words[1]}" if name and words and words[1].strip() else ""


def _claude_assistant(record: Record) -> Iterator[Said]:
    message, key = record["message"], record.get("uuid", "")
    is_harness = record.get("isApiErrorMessage") or message.get("model") == "<synthetic>"
    for number, block in enumerate(blocks_of(message["content"])):
        if block["type"] == "text":
            noise = "an error of the harness under the model's name" if is_harness else ""
            noise = noise or ("" if block["text"].strip() else "an empty block")
            yield Said("reply", key, block["text"], str(number) if key else "", noise)
        elif block["type"] in ("tool_use", "server_tool_use"):
            yield Said("call", block["id"])


# Codex ----------------------------------------------------------------------------------------------------------------

CODEX_INJECTED = re.compile(
    r"\s*(<(environment_context|permissions instructions|user_instructions|app-context|recommended_plugins|turn_aborted"
    r"|codex_internal_context|collaboration_mode|skills?_instructions|INSTRUCTIONS|subagent_notification|skill)\b"
    r"|# AGENTS\.md instructions for )"
)


def codex(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        session = ""
        for number, record in enumerate(records(path)):
            if record.get("type") == "session_meta":
                session = session or record["payload"].get("id") or record["payload"].get("session_id") or ""
            item = record.get("payload", {}) if record.get("type") == "response_item" else record
            when = record.get("timestamp") or f"line {number}"
            match item.get("type") or ("message" if "role" in item else ""), item.get("role"):
                case ("function_call" | "custom_tool_call" | "local_shell_call", _):
                    yield Said("call", item["call_id"])
                case ("web_search_call", _):
                    yield Said("call", "", "web_search", f"{session} {when}")
                case ("function_call_output" | "custom_tool_call_output", _):
                    yield Said("result", item["call_id"])
                case "message", ("assistant" | "user") as role:
                    text = "\n".join(part.get("text", "") for part in item["content"])
                    noise = "" if text.strip() else "an empty text"
                    if role == "user" and CODEX_INJECTED.match(text):
                        noise = "context put in under the user's name"
                    yield Said(
                        "reply" if role == "assistant" else "prompt", "", text, f"{session} {when} {text}", noise
                    )


# Qwen Code, Copilot CLI, Factory Droid, pi, cursor-agent --------------------------------------------------------------


def qwen_code(paths: Iterable[Path]) -> Iterator[Said]:
    for record in each_record(paths):
        parts = (record.get("message") or {}).get("parts") or []
        key, kind = record.get("uuid", ""), record["type"]
        words = "\n".join(part["text"] for part in parts if part.get("text") and not part.get("thought"))
        if kind in ("user", "assistant") and words.strip():
            yield Said("prompt" if kind == "user" else "reply", key, words)
        for part in parts:
            if called := part.get("functionCall"):
                yield Said("call", unique(called["id"]), called["name"])
            elif answered := part.get("functionResponse"):
                yield Said(
                    "result",
                    unique(answered["id"]),
                    answered["response"].get("output") or answered["response"]["error"],
                )


def copilot_cli(paths: Iterable[Path]) -> Iterator[Said]:
    for record in each_record(paths):
        data, kind = record["data"], record["type"]
        if kind in ("user.message", "assistant.message"):
            noise = "" if (data.get("content") or "").strip() else "a message that only calls tools"
            if kind == "user.message" and data.get("source") not in (None, "", "user"):
                noise = "said by a skill under the user's name"
            yield Said(
                "prompt" if kind == "user.message" else "reply", record["id"], data.get("content") or "", noise=noise
            )
            yield from (Said("call", request["toolCallId"]) for request in data.get("toolRequests") or ())
        elif kind == "tool.execution_start":
            yield Said("call", data["toolCallId"])
        elif kind == "tool.execution_complete":
            yield Said("result", data["toolCallId"])


def factory_droid(paths: Iterable[Path]) -> Iterator[Said]:
    for record in each_record(paths):
        if record["type"] != "message":
            continue
        key, blocks = record["id"], blocks_of(record["message"]["content"])
        if record["message"]["role"] == "user" and (words := text_in(blocks)).strip():
            yield Said("prompt", key, words)
        for number, block in enumerate(blocks):
            if block["type"] == "text" and record["message"]["role"] == "assistant":
                yield Said("reply", key, block["text"], str(number), "" if block["text"].strip() else "an empty block")
            elif block["type"] in ("tool_use", "tool_result"):
                is_call = block["type"] == "tool_use"
                yield Said("call" if is_call else "result", block["id" if is_call else "tool_use_id"])


def pi(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        for record in records(path):
            message = record.get("message") or {}
            blocks, role = blocks_of(message.get("content")), message.get("role")
            if role == "user":
                yield Said("prompt", "", text_in(blocks), noise="" if text_in(blocks).strip() else "an empty text")
            elif role == "toolResult":
                yield Said("result", message["toolCallId"])
            elif role == "assistant":
                for block in blocks:
                    if block["type"] == "text":
                        yield Said("reply", "", block["text"], noise="" if block["text"].strip() else "an empty block")
                    elif block["type"] == "toolCall":
                        yield Said("call", block["id"])


def cursor_agent(paths: Iterable[Path]) -> Iterator[Said]:
    for record in each_record(paths):
        for block in blocks_of((record.get("message") or {}).get("content")):
            if block["type"] == "tool_use":
                yield Said("call", "", block["name"])
            elif block["type"] == "text" and record["role"] == "user":
                asked = re.findall(r"<user_query>(.*?)</user_query>", block["text"], re.DOTALL)
                yield Said("prompt", "", "\n".join(asked) if asked else block["text"])
            elif block["type"] == "text":
                yield Said("reply", "", block["text"], noise="" if block["text"].strip() else "an empty block")


# Gemini CLI: documents, and lines since -------------------------------------------------------------------------------


def gemini_cli(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        for message in _gemini_messages(path):
            kind, content = message["type"], message.get("content")
            parts = [{"text": content}] if isinstance(content, str) else content or []
            words = "\n".join(part["text"] for part in parts if part.get("text") and not part.get("thought"))
            if kind == "user" and words.strip():
                yield Said("prompt", message["id"], words)
            elif kind in ("gemini", "qwen"):
                yield Said(
                    "reply", message["id"], words, noise="" if words.strip() else "a message that only calls tools"
                )
                for call in message.get("toolCalls") or ():
                    yield Said("call", call["id"])
                    yield Said("result", call["id"])
            elif kind in ("info", "warning", "error"):
                yield Said("reply", message["id"], words, noise="a notice of the program")


def _gemini_messages(path: Path) -> Iterator[Record]:
    try:
        yield from json.loads(path.read_bytes())["messages"]
    except (json.JSONDecodeError, KeyError):
        for record in records(path):
            yield from record.get("$set", {}).get("messages", [])
            if "type" in record and "id" in record:
                yield record


# Amp's neighbours: agents of which the corpus has only a fixture ------------------------------------------------------


def antigravity(paths: Iterable[Path]) -> Iterator[Said]:
    for record in each_record(paths):
        words = record["content"]
        if record["source"] == "MODEL":
            yield Said("reply", "", words)
        else:
            words = re.sub(r"<ADDITIONAL_METADATA>.*?</ADDITIONAL_METADATA>", "", words, flags=re.DOTALL)
            yield Said("prompt", "", re.sub(r"</?USER_REQUEST>", "", words))


def deepseek(paths: Iterable[Path]) -> Iterator[Said]:
    for record in each_record(paths):
        data, kind = record.get("data") or {}, record["type"]
        if kind == "user/message":
            noise = "" if data["source"]["kind"] == "user" else "context put in by a plugin"
            yield Said("prompt", "", text_in(data["content"]), noise=noise)
        elif kind == "assistant/message":
            yield Said("reply", "", text_in(data["message"]["content"]))
        elif kind == "tool/call":
            yield Said("call", "", data["name"])
        elif kind == "tool/result":
            yield from (Said("result", "", text_in(block["content"])) for block in data["message"]["content"])


def grok(paths: Iterable[Path]) -> Iterator[Said]:
    """What one side says comes in pieces, until the other speaks."""
    for path in paths:
        kind, words = "", ""
        for record in [*records(path), {}]:
            update = record.get("params", {}).get("update", {})
            if update.get("sessionUpdate") != kind:
                if kind in ("user_message_chunk", "agent_message_chunk"):
                    yield Said("prompt" if kind == "user_message_chunk" else "reply", "", words)
                kind, words = update.get("sessionUpdate", ""), ""
            words += update.get("content", {}).get("text", "")


def kimi(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        words: dict[str, str] = {}
        for record in records(path):
            message, event = record.get("message") or {}, record.get("event") or {}
            if message.get("role") == "user":
                yield Said("prompt", "", text_in(message["content"]))
            part = event.get("part") or {}
            if part.get("type") == "text":
                words[event["stepUuid"]] = words.get(event["stepUuid"], "") + part["text"]
        yield from (Said("reply", "", text) for text in words.values())


SCANNERS: dict[str, Callable[[Iterable[Path]], Iterator[Said]]] = {
    "claude-code": claude_code,
    "codex": codex,
    "qwen-code": qwen_code,
    "copilot-cli": copilot_cli,
    "factory-droid": factory_droid,
    "pi": pi,
    "cursor-agent": cursor_agent,
    "gemini-cli": gemini_cli,
    "antigravity": antigravity,
    "deepseek": deepseek,
    "grok": grok,
    "kimi": kimi,
}
