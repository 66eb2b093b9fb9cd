"""What was read of a table lately, in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """By row id: a row never changes, so that what is kept of it holds. `most`: how much in all; what was asked for longest ago goes.

    Safe to call from several threads.
    """

    def __init__(self, most: int, size_of: Callable[[_T], int]) -> None:
        self._most, self._size_of = most, size_of
        self._held: OrderedDict[int, _T] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, row_ids: Iterable[int], read: Callable[[list[int]], Mapping[int, _T]]) -> dict[int, _T]:
        """Those of these rows that there are; `read` gets what is not held."""
        found = self.held(row_ids)
        if missing := [row_id for row_id in row_ids if row_id not in found]:
            new = read(missing)
            self.add(new)
            found |= new
        return found

    def held(self, row_ids: Iterable[int]) -> dict[int, _T]:
        """Those of these rows that are held."""
        with self._lock:
            found = {row_id: self._held[row_id] for row_id in row_ids if row_id in self._held}
            for row_id in found:
                self._held.move_to_end(row_id)
        return found

    def lacking(self, row_ids: Iterable[int]) -> list[int]:
        """Those of these rows that are not held."""
        with self._lock:
            return [row_id for row_id in row_ids if row_id not in self._held]

    def add(self, new: Mapping[int, _T]) -> None:
        """Hold these."""
        with self._lock:
            for row_id, value in new.items():
                if row_id not in self._held:
                    self._held[row_id] = value
                    self._size += self._size_of(value)
            while self._size > self._most:
                self._size -= self._size_of(self._held.popitem(last=False)[1])

    def renumber(self, now: Mapping[int, int]) -> None:
        """Know rows by other numbers: old ones to new ones. Those that are not held are passed over."""
        with self._lock:
            for old, new in now.items():
                if old in self._held and new not in self._held:
                    self._held[new] = self._held.pop(old)
