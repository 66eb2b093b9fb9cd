"""The log in which VS Code keeps a chat: one operation a line, and the document that they make together.

`{kind: 0, v}` begins with a whole document (and begins anew when the log became long), `{kind: 1, k, v}` sets what stands at
the path `k`, `{kind: 2, k, v, i}` cuts a list at `i` and appends to it, `{kind: 3, k}` takes away.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ingest.readers.base import Decoded
from ingest.readers.values import ODDITIES
from ingest.session import ReadTo, Unreadable

_INITIAL, _SET, _PUSH, _DELETE = range(4)
_MAX_GAP = 1000
"""A list grows at its end; whoever sets something far behind it is broken."""


def replayed(decoded: Iterable[Decoded], path: Path) -> tuple[Any, list[Unreadable]]:
    """The document that a log describes (None where there is none), and what could not be followed."""
    state: Any = None
    problems: list[Unreadable] = []
    num_odd = 0
    for item in decoded:
        if isinstance(item, Unreadable):
            problems.append(item)
        elif not isinstance(item, ReadTo):
            try:
                state = _applied(state, item[1])
            except ODDITIES:
                num_odd += 1
    if num_odd:
        problems.append(Unreadable(str(path), 0, f"operations that cannot be followed ({num_odd:,} times)"))
    return state, problems


def _applied(state: Any, entry: dict[str, Any]) -> Any:
    kind = entry.get("kind")
    if kind == _INITIAL and not isinstance(kind, bool):
        return entry["v"]
    if kind not in (_SET, _PUSH, _DELETE) or isinstance(kind, bool):
        raise ValueError("an operation of an unknown kind")
    if not isinstance(entry["k"], list):
        raise TypeError("a path that is none")
    *way, last = entry["k"]
    holder = state
    for step in way:
        holder = holder[_step(holder, step)]
    last = _step(holder, last)
    if kind == _SET:
        _set(holder, last, entry.get("v"))
    elif kind == _PUSH:
        listed = holder.get(last) if isinstance(holder, dict) else holder[last]
        listed = list(listed) if isinstance(listed, list) else []
        if isinstance(start := entry.get("i"), int):
            del listed[start:]
        added = entry.get("v")
        listed.extend(added if isinstance(added, list) else [])
        _set(holder, last, listed)
    elif isinstance(holder, dict):
        holder.pop(last, None)
    else:
        holder[last] = None
    return state


def _set(holder: Any, last: Any, value: Any) -> None:
    if isinstance(holder, list):
        if last > len(holder) + _MAX_GAP:
            raise IndexError(last)
        holder.extend([None] * (last + 1 - len(holder)))
    holder[last] = value


def _step(holder: Any, step: Any) -> Any:
    """A key of an object, or an index of a list, as it is written in a path."""
    if isinstance(holder, dict):
        return str(step)
    if isinstance(holder, list) and isinstance(step, int) and not isinstance(step, bool) and step >= 0:
        return step
    raise TypeError("a path that leads nowhere")
