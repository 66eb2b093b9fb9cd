"""Invented sessions about a small web shop for boat parts, for machines that have none of their own.

Laid out as the agents lay out theirs: `claude/projects/...` and `codex/sessions/...`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from lmm_mcp.domain.agents import KNOWN_AGENTS

FOLDER = Path(__file__).resolve().parent

QUESTIONS = (
    "Which port does the development database of harbour use, and why?",
    "AssertionError: assert 68.01999999999998 == 68.02 in test_cart_total_with_three_cleats",
    "Where do the carts of anonymous visitors live?",
)
"""What they can answer: a port and its reason, an error and its fix, a decision and its later change."""


def environment(env: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment in which the samples are the only sessions there are, and `home` the memory."""
    # A user's own sessions, of whatever agent, are none of the demo's business.
    others = {name: value for name, value in env.items() if not name.startswith("LMM_SESSIONS_")}
    return {
        **others,
        "LMM_SESSIONS_EXCLUDE_AGENTS": os.pathsep.join({*KNOWN_AGENTS} - {"claude-code", "codex", "notes"}),
        "HOME": str(home),
        "USERPROFILE": str(home),
        "APPDATA": str(home),
        "XDG_CONFIG_HOME": str(home),
        "LMM_HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(FOLDER / "claude"),
        "CODEX_HOME": str(FOLDER / "codex"),
    }
