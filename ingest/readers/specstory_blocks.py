"""SpecStory's Markdown taken apart: lines in; who spoke when, and what stands in it as prose, thought or tool use out.

What a tool gave back may hold any Markdown, SpecStory's own included: so heads are looked for outside of tool uses only.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ingest.readers.base import parse_time_ms

_HEAD = re.compile(r"_\*\*(?P<role>User|Agent)(?P<side> - sidechain)?(?: \((?P<told>[^()]*)\))?\*\*_")
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:Z|[+-]\d{4})\Z")
_OPEN = re.compile(r'<tool-use data-tool-type="(?P<type>[^"]*)" data-tool-name="(?P<tool>[^"]*)">')
_CLOSED = ("</details></tool-use>", "</tool-use>")
_THINK_OPEN = re.compile(r"<think>(?:<details>)?(?:<summary>[^<]*</summary>)?")
_THINK_CLOSED = "</think>"
_THOUGHT = ("</details></think>", _THINK_CLOSED)
"""Closing tags stand alone on a line: within an output they may stand anywhere."""
_SUMMARY = re.compile(r"\s*(?:<details>)?\s*<summary>(?P<said>.*?)</summary>\s*", re.DOTALL)
_TOOL_USE = re.compile(r"Tool use: \*\*[^*]*\*\*[\s•]*")
_RESULT_HEAD = re.compile(r"\*\*(?P<what>Result|Error):\*\*\s*\Z")
_QUOTED = re.compile(r"`([^`\n]+)`")
_INPUT_FENCE = re.compile(r"```(?:bash|sh|shell)\n(?P<command>.*?)\n```", re.DOTALL)
_FENCE = re.compile(r"^```\w*(?:\n|\Z)", re.MULTILINE)
_MESSAGE_ID = re.compile(r"<!-- message-id: (\S+) -->")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of what was said under one head."""

    kind: Literal["text", "thought", "tool"]
    text: str
    """What was said; of a tool use all that stands between its tags."""
    tool: str = ""
    tool_type: str = ""
    """`shell`, `read`, `write`, `search`, `task`, `generic`."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one party said at one time."""

    is_user: bool
    is_sidechain: bool
    at_ms: int
    """0 where the head has no time."""
    message_id: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool use, as far as its Markdown tells."""

    asked: str
    """What was asked, without the fences around code."""
    command: str
    why: str
    """What a shell's command is for, where that is told."""
    paths: tuple[str, ...]
    result: str | None
    failed: bool


def said_in(lines: Iterable[str]) -> Iterator[Said]:
    """Everything that is said in a session's Markdown."""
    head: re.Match[str] | None = None
    body: list[str] = []
    closes: tuple[str, ...] = ()
    for line in lines:
        bare = line.strip()
        if closes:
            closes = () if bare in closes else closes
        elif found := _HEAD.fullmatch(bare):
            if head is not None:
                yield _said(head, body)
            head, body = found, []
            continue
        elif _OPEN.match(bare):
            closes = _CLOSED
        elif _THINK_OPEN.match(bare) and _THINK_CLOSED not in bare:
            closes = _THOUGHT
        body.append(line)
    if head is not None:
        yield _said(head, body)


def tool_use(part: Part) -> ToolUse:
    r"""What was asked of a tool, and what it gave back.

    >>> use = tool_use(Part("tool", "<summary>Tool use: **Bash**</summary>\nList\n\n`ls`\n\n```text\na\n```", "Bash", "shell"))
    >>> use.command, use.result
    ('ls', 'a')
    """
    found = _SUMMARY.match(part.text)
    summary = _TOOL_USE.sub("", found["said"]).strip() if found else ""
    body = part.text[found.end() if found else 0 :]
    before, fence, after = _result_fence(body, is_shell=part.tool_type == "shell")
    result = after.rpartition("\n```")[0] if "\n```" in after else after.removesuffix("```") if fence else None
    asked = before.strip()
    head = _RESULT_HEAD.search(asked)
    asked = "\n".join(filter(None, (summary, asked[: head.start()].strip() if head else asked)))
    why, command = _command(asked) if part.tool_type == "shell" else ("", "")
    outside = asked.partition("```")[0]
    paths = tuple(dict.fromkeys(_QUOTED.findall(outside))) if part.tool_type in ("read", "write") else ()
    failed = head is not None and head["what"] == "Error"
    return ToolUse(
        _FENCE.sub("", asked).strip(), command, why, paths, None if result is None else result.strip("\n"), failed
    )


def _said(head: re.Match[str], body: list[str]) -> Said:
    time = _TIME.search(head["told"] or "")
    text = "\n".join(body).strip()
    message_id = ""
    if found := _MESSAGE_ID.match(text):
        message_id, text = found[1], text[found.end() :].strip()
    # A rule stands between the parties.
    text = text.removesuffix("\n---").rstrip() if text.endswith("\n---") else "" if text == "---" else text
    is_user = head["role"] == "User"
    parts = (Part("text", text),) if is_user else tuple(_parts(text))
    at_ms = parse_time_ms(time[0]) if time else 0
    return Said(is_user, head["side"] is not None, at_ms, message_id, parts)


def _parts(text: str) -> Iterator[Part]:
    prose: list[str] = []
    held: list[str] = []
    inside: re.Match[str] | None = None
    for line in text.split("\n"):
        bare = line.strip()
        if inside is not None:
            closes = _CLOSED if inside.re is _OPEN else _THOUGHT
            held.append(line)
            if bare in closes:
                yield _part(inside, held)
                inside = None
        elif found := _OPEN.match(bare) or _THINK_OPEN.match(bare):
            yield from _prose(prose)
            prose, held, inside = [], [bare[found.end() :]], found
            if found.re is _THINK_OPEN and _THINK_CLOSED in bare:
                yield _part(inside, held)
                inside = None
        else:
            prose.append(line)
    if inside is not None:  # cut off
        yield _part(inside, held)
    yield from _prose(prose)


def _part(opening: re.Match[str], lines: list[str]) -> Part:
    text = "\n".join(lines)
    if opening.re is _OPEN:
        for closing in _CLOSED:
            text = text.rstrip().removesuffix(closing)
        text = text.strip().removeprefix("<details>").removesuffix("</details>").strip("\n")
        return Part("tool", text, opening["tool"], opening["type"])
    return Part("thought", text.rstrip().removesuffix(_THINK_CLOSED).removesuffix("</details>").strip())


def _prose(lines: list[str]) -> Iterator[Part]:
    if text := "\n".join(lines).strip():
        yield Part("text", text)


def _result_fence(body: str, *, is_shell: bool) -> tuple[str, str, str]:
    """What stands before the fence of the result, the fence and what stands behind it; all of the body where there is none."""
    marked = "\n" + body
    for fence in ("\n```text\n", *(("\n```\n",) if is_shell or _has_result_head(body) else ())):
        before, found, after = marked.partition(fence)
        if found and not (fence == "\n```\n" and before.count("\n```") % 2):
            return before, found, after
    return marked, "", ""


def _has_result_head(body: str) -> bool:
    return "**Result:**" in body or "**Error:**" in body


def _command(asked: str) -> tuple[str, str]:
    """What stands before the command, and the command itself: in a fence, else in backticks."""
    if found := _INPUT_FENCE.search(asked):
        return asked[: found.start()].strip(), found["command"]
    start, end = asked.find("`"), asked.rfind("`")
    return (asked[:start].strip(), asked[start + 1 : end]) if 0 <= start < end else ("", "")
