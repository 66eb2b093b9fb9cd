"""Independent scanners of agents that keep databases, and of OpenCode's older stores. Nothing of the readers is used."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import zstandard

from tests.corpus.said import Said

Record = dict[str, Any]
BLACKED_OUT = "REDACTED"
"""What the publishers of the corpus put in place of ids that looked like secrets: it names nothing."""


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def own(name: str | None) -> str:
    return "" if name == BLACKED_OUT else name or ""


# OpenCode -------------------------------------------------------------------------------------------------------------


def opencode(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        if path.suffix == ".db":
            parts: dict[str, list[Record]] = {}
            for name, message, data in rows(path, "SELECT id, message_id, data FROM part ORDER BY id"):
                parts.setdefault(message, []).append({**json.loads(data), "id": name})
            for name, session, data in rows(path, "SELECT id, session_id, data FROM message"):
                yield from _opencode_message(session, name, json.loads(data), parts.get(name, []))
        elif path.parts[-4:-2] == ("storage", "session"):
            storage, session = path.parents[2], path.stem
            for file in sorted((storage / "message" / session).glob("*.json")):
                pieces = sorted((storage / "part" / file.stem).glob("*.json"))
                listed = [{**json.loads(piece.read_bytes()), "id": piece.stem} for piece in pieces]
                yield from _opencode_message(session, file.stem, json.loads(file.read_bytes()), listed)
        else:
            document = json.loads(path.read_bytes())
            for message in document["messages"]:
                info = message["info"]
                yield from _opencode_message(document["info"]["id"], info["id"], info, message["parts"])


def _opencode_message(session: str, name: str, info: Record, parts: list[Record]) -> Iterator[Said]:
    at = info.get("time", {}).get("created")
    if info["role"] == "user":
        typed = [part["text"] for part in parts if part["type"] == "text" and not part.get("synthetic")]
        typed += [f"/{part['command']}: {part['description']}" for part in parts if part["type"] == "subtask"]
        words = "\n".join(typed)
        noise = "" if words.strip() else "nothing but what the program says under the user's name"
        yield Said("prompt", own(name), words, "" if own(name) else f"{session} {at} {words}", noise)
        return
    for part in parts:
        key = own(part["id"])
        if part["type"] == "text":
            unit = "" if key else f"{session} {at} {part['text']}"
            yield Said("reply", key, part["text"], unit, "" if part["text"].strip() else "an empty part")
        elif part["type"] == "tool":
            unit = "" if key else f"{session} {at} {json.dumps(part['state'].get('input'), sort_keys=True)}"
            yield Said("call", key, part["tool"], unit)
            if part["state"]["status"] in ("completed", "error"):
                words = part["state"].get("output") or part["state"].get("error") or ""
                yield Said("result", key, words, unit)


# Crush, Goose ---------------------------------------------------------------------------------------------------------


def crush(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        for name, role, content in rows(path, "SELECT id, role, parts FROM messages"):
            parts = json.loads(content)
            words = "\n".join(part["data"]["text"] for part in parts if part["type"] == "text")
            if role in ("user", "assistant"):
                noise = "" if words.strip() else "a message that only calls tools, or failed"
                yield Said("prompt" if role == "user" else "reply", name, words, noise=noise)
            for part in parts:
                if part["type"] == "tool_call":
                    yield Said("call", part["data"]["id"])
                elif part["type"] == "tool_result":
                    yield Said("result", part["data"]["tool_call_id"])


def goose(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        if path.suffix == ".db":
            listed = rows(path, "SELECT message_id, role, content_json FROM messages")
            messages = [(name, role, json.loads(content)) for name, role, content in listed]
        else:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            messages = [("", line["role"], line["content"]) for line in lines if "role" in line]
        for name, role, contents in messages:
            typed = [content["text"] for content in contents if content["type"] == "text"]
            if role == "user" and typed:
                yield Said("prompt", name or "", "\n".join(typed))
            for number, text in enumerate(typed if role == "assistant" else ()):
                yield Said(
                    "reply", name or "", text, str(number) if name else "", "" if text.strip() else "an empty text"
                )
            for content in contents:
                if content["type"] in ("toolRequest", "toolResponse"):
                    yield Said("call" if content["type"] == "toolRequest" else "result", content["id"])


# Cursor, Kiro, Zed ----------------------------------------------------------------------------------------------------


def cursor(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        for name, value in rows(path, "SELECT key, value FROM cursorDiskKV WHERE key LIKE 'bubbleId:%'"):
            if value is None:
                yield Said("reply", name, noise="a row without a value, put there on purpose")
                continue
            bubble = json.loads(value)
            if tool := bubble.get("toolFormerData"):
                yield Said("call", tool["toolCallId"])
                if tool.get("result"):
                    yield Said("result", tool["toolCallId"])
            elif "thinking" not in bubble:
                noise = "" if bubble["text"].strip() else "an empty bubble"
                yield Said(
                    "prompt" if bubble["type"] == 1 else "reply", bubble["bubbleId"], bubble["text"], noise=noise
                )


def kiro(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        for (value,) in rows(path, "SELECT value FROM conversations_v2"):
            for turn in json.loads(value)["history"]:
                for content in turn["user"]["content"].values():
                    if content.get("prompt"):
                        yield Said("prompt", "", content["prompt"])
                    for result in content.get("tool_use_results", ()):
                        yield Said("result", result["tool_use_id"])
                for answer in turn["assistant"].values():
                    noise = "" if answer["content"].strip() else "a message that only calls tools"
                    yield Said("reply", answer["message_id"], answer["content"], noise=noise)
                    yield from (Said("call", use["id"]) for use in answer.get("tool_uses", ()))


def zed(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        for kind, data in rows(path, "SELECT data_type, data FROM threads"):
            content = zstandard.ZstdDecompressor().decompressobj().decompress(data) if kind == "zstd" else data
            for message in json.loads(content)["messages"]:
                yield from _zed_message(message)


def _zed_message(message: Any) -> Iterator[Said]:
    if "role" in message:
        words = "\n".join(segment["text"] for segment in message["segments"] if segment["type"] == "text")
        yield Said("prompt" if message["role"] == "user" else "reply", "", words)
    elif "User" in message:
        yield Said("prompt", "", "".join(part.get("Text", "") for part in message["User"]["content"]))
    elif "Agent" in message:
        for part in message["Agent"]["content"]:
            if "Text" in part:
                yield Said("reply", "", part["Text"], noise="" if part["Text"].strip() else "an empty part")
            elif "ToolUse" in part:
                yield Said("call", part["ToolUse"]["id"])
        yield from (Said("result", name) for name in message["Agent"].get("tool_results", {}))


# Hermes ---------------------------------------------------------------------------------------------------------------


def hermes(paths: Iterable[Path]) -> Iterator[Said]:
    for path in paths:
        if path.suffix == ".db":
            messages = [{"role": role, "text": text} for role, text in rows(path, "SELECT role, content FROM messages")]
        else:
            messages = json.loads(path.read_bytes())["messages"]
        for message in messages:
            words = message["text"] or ""
            if message["role"] in ("user", "assistant"):
                noise = "taken back by the user" if message.get("state") == "rewound" else ""
                yield Said("prompt" if message["role"] == "user" else "reply", "", words, noise=noise)
            for call in message.get("tool_calls", ()):
                yield Said("call", "", call["tool_name"])
            for result in message.get("tool_results", ()):
                yield Said("result", "", result["output_preview"])


SCANNERS: dict[str, Callable[[Iterable[Path]], Iterator[Said]]] = {
    "opencode": opencode,
    "crush": crush,
    "goose": goose,
    "cursor": cursor,
    "kiro": kiro,
    "zed": zed,
    "hermes": hermes,
}
