"""A question and what was found for it in, the agents and projects that it names out. Pure.

Only what was found can be named, so that no list of agents is needed here. Most names are words of their own as well, and
many questions are about the product of that name: an agent is named where something was done by it, or with it.
"""

import re
from collections.abc import Iterable

from lmm_mcp.domain.chunk import Chunk

_MIN_NAME_chars = 3
_MIN_SHORT_chars = 4
_DONE_BY = r"did|has|had|by|with|asked|told|let"
_DOES = (
    r"did|said|made|wrote|changed|fixed|decided|suggested|proposed|told|found|added|removed|ran|tried|sessions?|chats?"
)
_INSIDE = r"in|of|for|on|from|project|repo|repository"
_IS_ONE = r"project|repo|repository|codebase"


def agents(text: str, chunks: Iterable[Chunk]) -> frozenset[str]:
    """Those agents of `chunks` that a question names as who did something.

    >>> _says_who("what did codex do last week?", "codex"), _says_who("where is codex installed?", "codex")
    (True, False)
    >>> _says_who("which port had Claude decided on?", "claude-code")
    True
    """
    return frozenset(each for each in {chunk.agent for chunk in chunks} if _says_who(text, each))


def projects(text: str, chunks: Iterable[Chunk]) -> frozenset[str]:
    """Keys of those projects of `chunks` that a question names as where something was.

    >>> _says_where("the totals in billing", "github.com/acme/billing"), _says_where("the billing totals", "/w/billing")
    (True, False)
    """
    return frozenset(each for each in {chunk.project for chunk in chunks} if _says_where(text, each))


def _says_who(text: str, agent: str) -> bool:
    words = agent.lower().split("-")
    if words[0] not in text.lower():
        return False
    full = "[- ]?".join(map(re.escape, words))
    name = f"{full}|{re.escape(words[0])}" if len(words[0]) >= _MIN_SHORT_chars else full
    return (
        re.search(rf"\b(?:(?:{_DONE_BY})\s+(?:{name})|(?:{name})(?:'s)?\s+(?:{_DOES}))\b", text, re.IGNORECASE)
        is not None
    )


def _says_where(text: str, project: str) -> bool:
    name = project.rsplit("/", 1)[-1].lower()
    if len(name) < _MIN_NAME_chars or name not in text.lower():
        return False
    there = rf"\b(?:{_INSIDE})\s+(?:the\s+)?{re.escape(name)}(?![\w-])|(?<![\w-]){re.escape(name)}\s+(?:{_IS_ONE})\b"
    return re.search(there, text, re.IGNORECASE) is not None
