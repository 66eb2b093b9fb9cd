"""Ids of tool calls where every model provider makes its own: some are unique in the world, some begin anew with each session.

An agent that speaks to many models keeps whatever id the model gave. `toolu_01A...` names one call for ever; `call_0` is the
first call of every session, with some local models even of every message.
"""

import re

from ingest.readers.values import id_in

_UNIQUE = re.compile(r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{12,}|\d{15,}")


def scoped(session_id: str, value: object) -> str:
    """An id as it is if no other session can have it, else with the session before it; '' where there is none.

    >>> scoped("s1", "toolu_019XpiCKVvGBGBzJQk6W"), scoped("s1", "call_0"), scoped("s1", None)
    ('toolu_019XpiCKVvGBGBzJQk6W', 's1:call_0', '')
    """
    name = id_in(value)
    return name if not name or _UNIQUE.search(name) else f"{session_id}:{name}"


class CallIds:
    """Names the calls of one transcript and finds the call that a result answers.

    >>> ids = CallIds("s1")
    >>> ids.opened("call_0"), ids.answered("call_0"), ids.opened("call_0"), ids.answered("call_0")
    ('s1:call_0', 's1:call_0', 's1:call_0.2', 's1:call_0.2')
    """

    def __init__(self, session_id: str, *, are_copied: bool = False) -> None:
        """`are_copied`: runs repeat the ids of others, so that even the most unique may come again."""
        self._session_id = session_id
        self._are_copied = are_copied
        self._num_opened: dict[str, int] = {}

    def opened(self, value: object) -> str:
        """Name the next call with the agent's id `value`; '' where it has none."""
        name = self._name(value)
        if not name:
            return ""
        self._num_opened[name] = self._num_opened.get(name, 0) + 1
        return self._numbered(name)

    def answered(self, value: object) -> str:
        """Name of the last call with the agent's id `value`, or what it would be called."""
        return self._numbered(self._name(value))

    def _name(self, value: object) -> str:
        name = id_in(value)
        return f"{self._session_id}:{name}" if name and self._are_copied else scoped(self._session_id, value)

    def _numbered(self, name: str) -> str:
        number = self._num_opened.get(name, 0)
        return name if number < 2 else f"{name}.{number}"
