"""Sessions in which no person worked: another memory tool had an agent watch a session, or sum one up.

They retell what was said elsewhere. Who takes them for experience finds everything twice, in the words of a summary.
Judged by where such a session was held, and by how its first prompt begins, word for word: a person who speaks about these
tools, or quotes them, begins otherwise.
"""

import re
from collections.abc import Iterable

from lmm_mcp.domain.event import Event, Thread

_OPENINGS = (
    "You are a Claude-Mem, a specialized observer tool",
    "Hello memory agent, you are continuing to observe the primary Claude session",
    "<observed_from_primary_session>",
    "Context: This summary will be shown in a list to help users and Claude choose which conversations are relevant",
    "You are a third-person note-taker. ",
    "Analyze this conversation and determine: Does the assistant have more autonomous work to do RIGHT NOW?",
)
"""Of claude-mem, episodic-memory and its kin (also of Claude Code's own titles), memsearch, and a judge of unfinished work."""
_DO_NOT_INDEX = re.compile(r"<(INSTRUCTIONS-TO-[A-Z-]{1,40})>DO NOT INDEX THIS CHAT</\1>")
"""By which several of them ask all others to leave a session alone."""
_WITHIN_chars = 2_000
_HELD_IN = re.compile(r"[\\/]\.[\w.-]{1,60}[\\/]observer-sessions(?:[\\/]|$)")
"""Folders of a tool's own: a hidden one, and in it one of this name."""


def is_observer(thread: Thread, events: Iterable[Event]) -> bool:
    """Whether a session, of which `events` are the first, was held by a tool that watches sessions.

    >>> prompt = Event("1", "prompt", "You are a third-person note-taker. Sum up the turn.", 0)
    >>> is_observer(Thread("codex", "s", "s"), [prompt])
    True
    """
    if _HELD_IN.search(thread.cwd):
        return True
    first = next((event.text for event in events if event.kind == "prompt"), "")
    return first.lstrip().startswith(_OPENINGS) or _DO_NOT_INDEX.search(first[:_WITHIN_chars]) is not None
