"""What this memory itself produced, as it comes back in a transcript. Readers mark it, so that nothing is learned from it.

A memory that reads its own briefs as experience would cite itself, louder every day. The mark is set where the traces are
still exact: on the call's tool name or command line, and on the fence that every brief of ours begins with.
"""

import re
from itertools import pairwise

from ingest.readers.shell import name_of, programs_in
from lmm_mcp.domain.fence import FENCE_CLOSE, FENCE_OPEN

FENCE = FENCE_OPEN.split(" ", 1)[0]
"""How every brief begins, whatever note its opening mark carries."""

_FENCE_WITHIN_chars = 200
"""A client may put a line or a JSON key before a result; a fence further behind is a quotation within other text."""

_TOOL = re.compile(r"(?:^|[^a-z0-9])lmm(?:_{1,3}|[-./:])(?:recall|expand|remember|status|show|forget)$", re.IGNORECASE)
_RESOURCES = "lmm://"
_PROGRAMS = frozenset({"lmm", "lmm-mcp"})
_LOOKED_AT_chars = 100_000
"""Of a command line: a longer one carries data, and the longest made to annoy must not take seconds."""
_MODULE = "lmm_mcp"
_SPEAKING = frozenset(
    "recall show status remember forget demo doctor start projects bench hook"
    " facts timeline agents prove export train model experiment".split()
)
"""Commands of ours that say what is remembered, or are told it."""


def is_our_tool(name: str) -> bool:
    """Whether a tool's name, as an agent writes it, is one of this memory's.

    >>> [is_our_tool(name) for name in ("mcp__lmm__recall", "lmm-recall", "lmm___expand", "mcp__film__recall")]
    [True, True, True, False]
    """
    return _TOOL.search(name) is not None


def is_our_resource(tool: str, arguments: str) -> bool:
    """Whether a call reads one of this memory's MCP resources, by a tool that every agent calls otherwise.

    >>> is_our_resource("ReadMcpResourceTool", "uri: lmm://timeline"), is_our_resource("Edit", "lmm://opening")
    (True, False)
    """
    return "resource" in tool.lower() and _RESOURCES in arguments


def is_our_command(command: str) -> bool:
    """Whether a shell command line asks this memory.

    >>> is_our_command("cd shop && .venv/bin/lmm recall 'which port'"), is_our_command("git log --grep 'lmm recall'")
    (True, False)
    """
    return "lmm" in command.lower() and any(map(_asks_us, programs_in(command[:_LOOKED_AT_chars])))


def _asks_us(words: list[str]) -> bool:
    name = name_of(words[0])
    if name.startswith(("python", "py")) and "-m" in words[:-1]:
        at = words.index("-m") + 1
        if words[at] != _MODULE:
            return False
        words = words[at:]
    elif name not in _PROGRAMS:
        return False
    # An option's value cannot be told from the command: one word behind an option is passed over.
    for before, word in pairwise(words):
        if word.startswith("-"):
            continue
        if word in _SPEAKING:
            return True
        if not before.startswith("-"):
            return False
    return False


def begins_with_brief(text: str) -> bool:
    """Whether a tool's output is a brief of ours.

    >>> begins_with_brief("<lmm-brief>port 5433 [c1]</lmm-brief>")
    True
    """
    return FENCE in text[:_FENCE_WITHIN_chars]


def is_only_a_brief(text: str) -> bool:
    """Whether `text`, such as an injected prompt, holds nothing but a brief of ours."""
    text = text.strip()
    return text.startswith(FENCE) and text.endswith(FENCE_CLOSE)
