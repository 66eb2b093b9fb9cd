"""When what changes is to be looked at: after a moment of silence, and never much later than its first change."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

QUIET_s = 0.25
"""Silence after the last change before it is looked at, so that a turn written in pieces arrives whole."""
LATEST_s = 0.9
"""After the first change it is looked at however much is still being written."""


class Debounce(Generic[Key]):
    """Keys that changed and wait for silence. Times are seconds of whatever clock the caller goes by.

    >>> waiting = Debounce()
    >>> waiting.note("a", 10.0), waiting.note("a", 10.2), waiting.take(10.4), waiting.take(10.5)
    (True, False, [], ['a'])
    """

    def __init__(self, *, quiet_s: float = QUIET_s, latest_s: float = LATEST_s) -> None:
        self._quiet_s, self._latest_s = quiet_s, latest_s
        self._waiting: dict[Key, tuple[float, float]] = {}
        """When it changed first, and last."""

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, key: Key, now_s: float) -> bool:
        """Say that it changed; whether this is news."""
        first_s, _ = self._waiting.get(key, (now_s, now_s))
        is_news = key not in self._waiting
        self._waiting[key] = (first_s, now_s)
        return is_news

    def take(self, now_s: float) -> list[Key]:
        """What is due, in the order in which it changed first; it waits no longer."""
        due = [key for key, times in self._waiting.items() if self._due_s(times) <= now_s]
        for key in due:
            del self._waiting[key]
        return due

    def next_s(self) -> float | None:
        """When the next one is due; None where nothing waits."""
        return min(map(self._due_s, self._waiting.values()), default=None)

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()

    def _due_s(self, times: tuple[float, float]) -> float:
        first_s, last_s = times
        return min(last_s + self._quiet_s, first_s + self._latest_s)
