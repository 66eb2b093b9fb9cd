"""Secrets that are known by what stands before them: headers, options of `curl`, `docker` logins, Discord's bots.

In: a text and its lower-cased twin. Out: spans. Gates are sought in the twin, so `AUTHORIZATION` and `bearer` are found too.
"""

import binascii
import re

from lmm_mcp.redaction.tokens import Gated, Span, gated, gates
from lmm_mcp.redaction.values import is_bearer, is_credential


def find(text: str, folded: str) -> list[Span]:
    """Find them in `text`; `folded` is the same text in lower case, position by position."""
    spans: list[Span] = []
    for gate, rules in _GATES:
        if gate.search(folded):
            for rule in rules:
                spans += gated(rule, text, folded)
    if "discord" in folded:
        spans += ((*match.span(), "discord-token") for match in _DISCORD.finditer(text) if _is_discord(match[0]))
    return spans


def _is_basic(value: str) -> bool:
    """Whether `value` is base64 of `user:password`."""
    try:
        return b":" in binascii.a2b_base64(value + "=" * (-len(value) % 4), strict_mode=True)
    except ValueError:
        return False


def _is_discord(token: str) -> bool:
    """Whether the first part of `token` is a base64 number, as a Discord account id is."""
    try:
        head = token.partition(".")[0]
        return binascii.a2b_base64(head + "=" * (-len(head) % 4), strict_mode=True).isdigit()
    except ValueError:
        return False


_SCHEME = "b(?:earer|asic) "
_GATED = (
    Gated(
        "z(?<=authoriz)ation",
        "authorization",
        re.compile(
            r"""authorization\\*["'`]?\]?\s{0,4}[:=,]\s{0,4}[fbr]?\\*["'`]?(?:bearer|token|apikey|digest|negotiate)?"""
            r"""\s{1,4}(?P<secret>[\w.~+/=:-]{8,})(?![\w({\[])""",
            re.ASCII,
        ),
        is_bearer,
    ),
    Gated(_SCHEME, "bearer", re.compile(r"bearer\s(?P<secret>[\w.~+/=-]{16,})", re.ASCII), is_bearer),
    Gated(_SCHEME, "basic", re.compile(r"basic\s(?P<secret>[a-z0-9+/]{8,}={0,2})"), _is_basic),
    Gated('"auth"', "basic", re.compile(r'"auth":\s?"(?P<secret>[a-z0-9+/]{8,}={0,2})"'), _is_basic),
    Gated(
        "curl",
        "curl-user",
        re.compile(r"""curl\b[^\n]{0,300}?\s(?:-u|--user)[\s=]?["']?[^\s:"'$]{1,100}:(?P<secret>[^\s"'$<{]{3,200})"""),
        is_credential,
    ),
)
_DISCORD = re.compile(r"(?<![\w.-])[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,40}(?![\w-])", re.ASCII)
_GATES = gates(_GATED)
RULE_IDS = frozenset(rule.id for rule in _GATED) | {"discord-token"}
