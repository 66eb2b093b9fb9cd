"""Forks of OpenCode sessions: copies of messages under new ids, with nothing that says where they come from.

A copy keeps the time at which its message was made, which is before its session was. So it is found again in the session that
was there at that time, and told under the ids it has there: whoever settles what belongs to whom sees one message.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.documents import json_value
from ingest.readers.opencode_records import own_id

_NATIVE = """
    SELECT m.id, s.id FROM session s JOIN message m ON m.session_id = s.id AND m.time_created = ?
    WHERE s.id != ? AND s.time_created <= m.time_created ORDER BY m.id"""


class Originals:
    """Of one session: which of its messages are copies, and of what."""

    def __init__(self, connection: sqlite3.Connection, session_id: str, made_at: object) -> None:
        self._connection = connection
        self._session_id = session_id
        self._made_at = made_at if isinstance(made_at, int) else 0
        self._num_met: Counter[int] = Counter()

    @property
    def forked_from(self) -> str:
        """The session that the last copy was made from; '' where there are no copies, or their originals are gone."""
        (last,) = self._connection.execute(
            "SELECT max(time_created) FROM message WHERE session_id = ? AND time_created < ?",
            (self._session_id, self._made_at),
        ).fetchone()
        found = self._native(last)
        return own_id(found[0][1]) if found else ""

    def named(
        self, message_id: str, at: object, parts: Sequence[Mapping[str, Any]]
    ) -> tuple[str, Sequence[Mapping[str, Any]]]:
        """A message's id and its parts, under the names of the original where it is a copy."""
        if not isinstance(at, int) or at >= self._made_at:
            return message_id, parts
        natives = self._native(at)
        number = self._num_met[at]
        self._num_met[at] += 1
        if number >= len(natives):
            return message_id, parts
        original = natives[number][0]
        left = [
            (part_id, json_value(data, Path()) if isinstance(data, str | bytes) else None)
            for part_id, data in self._connection.execute(
                "SELECT id, data FROM part WHERE message_id = ? ORDER BY id", (original,)
            )
        ]
        return original, [self._of_original(part, left) for part in parts]

    def _native(self, at: object) -> list[tuple[str, str]]:
        if not isinstance(at, int) or not self._made_at:
            return []
        rows = self._connection.execute(_NATIVE, (at, self._session_id)).fetchall()
        return [row for row in rows if row[1] == rows[0][1]]

    def _of_original(self, part: Mapping[str, Any], left: list[tuple[str, Any]]) -> Mapping[str, Any]:
        for number, (part_id, original) in enumerate(left):
            if isinstance(original, Mapping) and _mark(original) == _mark(part):
                del left[: number + 1]
                return {**part, "id": part_id}
        return part


def _mark(part: Mapping[str, Any]) -> tuple[object, ...]:
    """What a copy keeps; a part that is rewritten afterwards keeps it too."""
    return part.get("type"), part.get("tool"), part.get("callID"), part.get("text")
