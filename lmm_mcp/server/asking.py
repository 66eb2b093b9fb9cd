"""From what a caller wrote to a checked `Question`: times, budget, agent and project. Every refusal says what to write instead.

The command line and the MCP tools share this, so that both understand the same words. What is said here names no more
of either's syntax than the arguments of the tools; the command line puts its own in their place. Nothing is opened here:
what is known about projects is handed in.
"""

import calendar
import difflib
import re
import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lmm_mcp.domain.agents import KNOWN_AGENTS
from lmm_mcp.domain.project import normalise_path, normalise_remote, same_folder_key
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.recall import MAX_BUDGET_tokens, MIN_BUDGET_tokens
from lmm_mcp.errors import BadInput

ALL_PROJECTS = ("*", "all")
MAX_QUERY_chars = 20_000
"""A question may hold a whole stack trace; more than this is a mistake."""
MAX_PATH_chars = 300
MAX_SUGGESTED = 8
"""Names that a refusal proposes."""
MAX_ECHO_chars = 80
"""Of an argument that is refused: what is repeated lands in the context of a model."""
_NUM_NEAR = 5

_DATE = re.compile(r"(\d{4})-(\d{1,2})(?:-(\d{1,2}))?")
_AGO = re.compile(r"(\d{1,5})\s*(h|d|w|hours?|days?|weeks?)(?:\s+ago)?")
_HOURS = {"h": 1, "d": 24, "w": 24 * 7}
_TIME_EXAMPLES = "Write a date (2026-03-01), a date with time (2026-03-01T14:30:00Z) or an age (12h, 7d, 2w)."


def echoed(value: Any) -> str:
    r"""What a caller wrote, as a refusal repeats it: cut, and with control characters escaped.

    >>> echoed("shop\x1b"), len(echoed("x" * 100_000)) <= MAX_ECHO_chars
    ("'shop\\x1b'", True)
    """
    try:
        shown = repr(value[:MAX_ECHO_chars]) if isinstance(value, str) else reprlib.repr(value)
    except ValueError:  # Python does not write out numbers of thousands of digits
        return "a number of thousands of digits"
    is_whole = len(shown) <= MAX_ECHO_chars and not (isinstance(value, str) and len(value) > MAX_ECHO_chars)
    return shown if is_whole else shown[: MAX_ECHO_chars - 2].rstrip("\\'\"") + "…'"


def as_text(value: Any) -> str:
    """A word that a caller passed, whatever its type, without blanks around it; '' for None."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else echoed(value)


def whole_number(value: Any) -> int | None:
    """The whole number that is meant; None where none is.

    >>> [whole_number(value) for value in (3, "3", 3.0, 1.5, True, float("inf"), float("nan"), "much", [3])]
    [3, 3, 3, None, None, None, None, None, None]
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return number if isinstance(value, str) or number == value else None


def checked_query(query: Any) -> str:
    """The question, without blanks around it. Raises BadInput for an empty or endless one."""
    if not isinstance(query, str) or not query.strip():
        raise BadInput(
            'the query is empty. Ask in words, such as "which port does the shop use?", or give an error message.'
        )
    if len(query) > MAX_QUERY_chars:
        raise BadInput(
            f"the query has {len(query):,} characters; at most {MAX_QUERY_chars:,} are allowed. Ask for the essence."
        )
    return query.strip()


def question_about(path: Any, cwd: str) -> str:
    """What is asked before a file is touched. `cwd`: where the asker stands, in which files are known. Raises BadInput.

    >>> question_about("/work/shop/src/cart.py", "/work/shop")
    'What should I know before I change src/cart.py?'
    """
    name = as_text(path).replace("\\", "/")
    if not name or len(name) > MAX_PATH_chars or any(ord(char) < ord(" ") for char in name):
        raise BadInput("the file is missing, or its name is none. Write its path in the project, such as src/cart.py.")
    here = cwd.replace("\\", "/").rstrip("/") + "/"
    return f"What should I know before I change {name.removeprefix(here) if len(here) > 1 else name}?"


def checked_budget(budget_tokens: Any, default: int) -> int:
    """The budget as a whole number within bounds; `default` where none is given. Raises BadInput.

    >>> checked_budget(None, 1000), checked_budget("250", 1000)
    (1000, 250)
    """
    if budget_tokens is None or budget_tokens == "":
        return default
    if (budget := whole_number(budget_tokens)) is None:
        raise BadInput(f"budget_tokens is {echoed(budget_tokens)}; it must be a whole number, such as {default}.")
    if not MIN_BUDGET_tokens <= budget <= MAX_BUDGET_tokens:
        raise BadInput(
            f"budget_tokens is {echoed(budget)}; it must lie between {MIN_BUDGET_tokens} and {MAX_BUDGET_tokens}, such as {default}."
        )
    return budget


def checked_agent(agent: Any, held: Collection[str] = ()) -> str | None:
    """An agent's name, or None for all. `held`: of whom something is kept; they are suggested. Raises BadInput.

    >>> checked_agent("Claude Code"), checked_agent(None)
    ('claude-code', None)
    """
    if agent is None or agent == "" or agent in ALL_PROJECTS:
        return None
    name = re.sub(r"[\s_]+", "-", as_text(agent).lower())
    if name not in (*KNOWN_AGENTS, *held):
        some = tuple(held)[:MAX_SUGGESTED] or KNOWN_AGENTS[:3]
        raise BadInput(
            f"there is no agent {echoed(agent)}; write one of {', '.join(some)}, or leave it out to ask about all."
        )
    return name


def checked_times(since: Any, until: Any, now_ms: int) -> tuple[int | None, int | None]:
    """Both ends of a time range, inclusive, milliseconds UTC; None where open. Raises BadInput."""
    since_ms, until_ms = _time_ms("since", since, now_ms, is_end=False), _time_ms("until", until, now_ms, is_end=True)
    if since_ms is not None and until_ms is not None and since_ms > until_ms:
        raise BadInput(
            f"since ({as_text(since)[:MAX_ECHO_chars]}) lies after until ({as_text(until)[:MAX_ECHO_chars]}). Swap them, or leave one out."
        )
    return since_ms, until_ms


def _time_ms(name: str, value: Any, now_ms: int, *, is_end: bool) -> int | None:
    text = as_text(value)
    if not text:
        return None
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    try:
        if text.lower() in ("today", "yesterday"):
            day = now - timedelta(days=text.lower() == "yesterday")
            return _ms(_edge_of_day(day, is_end))
        if ago := _AGO.fullmatch(text.lower()):
            return _ms(now - timedelta(hours=int(ago[1]) * _HOURS[ago[2][0]]))
        if date := _DATE.fullmatch(text):
            year, month, day_number = int(date[1]), int(date[2]), date[3]
            if day_number is not None:
                return _ms(_edge_of_day(datetime(year, month, int(day_number), tzinfo=UTC), is_end))
            day_number = calendar.monthrange(year, month)[1] if is_end else 1
            return _ms(_edge_of_day(datetime(year, month, day_number, tzinfo=UTC), is_end))
        moment = datetime.fromisoformat(text)
        return _ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise BadInput(f"{name} is {echoed(text)}, which is no time. {_TIME_EXAMPLES}") from None


def _edge_of_day(day: datetime, is_end: bool) -> datetime:
    start = day.replace(hour=0, minute=0, second=0, microsecond=0)
    return start + timedelta(days=1, milliseconds=-1) if is_end else start


def _ms(moment: datetime) -> int:
    # Not through a float: 2026-03-01T00:00:00.001 must not lose its millisecond.
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class NoSuchProject:
    """A name that fits no known project, and what it may have meant."""

    name: str
    near: tuple[str, ...]

    @property
    def advice(self) -> str:
        """One sentence for whoever asked."""
        if not self.near:
            return f'no project {echoed(self.name)} is known. Leave it out for the current one, or pass project="*" for all; `lmm projects` lists them.'
        return f'no single project is meant by {echoed(self.name)}. Did you mean {", ".join(map(plain_name, self.near))}? Or pass project="*" for all.'


def named_project(name: str, known: Collection[str]) -> str | NoSuchProject:
    """Find the key among `known` that `name` means: the key itself, a remote however written, a folder, or a last step.

    >>> named_project("shop", ["github.com/ann/shop", "/home/ann/notes"])
    'github.com/ann/shop'
    >>> named_project("shap", ["github.com/ann/shop"]).near
    ('github.com/ann/shop',)
    """
    if name in known:
        return name
    for written in (normalise_remote(name), normalise_path(name)):
        same = [
            key for key in known if written and same_folder_key(key).casefold() == same_folder_key(written).casefold()
        ]
        if len(same) == 1:
            return same[0]
    wanted = name.strip().strip("/\\").replace("\\", "/").casefold()
    ends = [key for key in known if wanted and ("/" + key.casefold()).endswith("/" + wanted)]
    if len(ends) == 1:
        return ends[0]
    if ends:
        return NoSuchProject(name, tuple(sorted(ends)[:_NUM_NEAR]))
    by_end: dict[str, list[str]] = {}
    for key in known:
        for spelling in (key.casefold(), key.rpartition("/")[2].casefold()):
            by_end.setdefault(spelling, []).append(key)
    near = difflib.get_close_matches(wanted, by_end, n=_NUM_NEAR, cutoff=0.6)
    near += [spelling for spelling in by_end if wanted and wanted in spelling and spelling not in near]
    return NoSuchProject(name, tuple(dict.fromkeys(key for spelling in near for key in by_end[spelling]))[:_NUM_NEAR])
