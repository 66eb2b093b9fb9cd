"""What a reader met and does not know, counted, so that a format that drifts is seen and said once for each kind."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ingest.readers.values import type_name
from ingest.session import Unreadable

_MAX_KINDS = 50


class Unknown:
    """Counts by kind. Names are kept only where they are plain identifiers: never the text of a session."""

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()

    def kind(self, what: str, name: object) -> None:
        """Note a record, a part, a role that nobody has told us of."""
        self._note(f"unknown {what} {type_name(name)}")

    def odd(self, what: str, problem: BaseException) -> None:
        """Note something known that is not built as expected."""
        self._note(f"a {what} that is not built as expected ({type(problem).__name__})")

    def said(self, path: Path) -> Iterator[Unreadable]:
        """One complaint for each kind, with how often it was met."""
        for problem, times in self._times.items():
            yield Unreadable(str(path), 0, f"{problem} ({times:,} times)" if times > 1 else problem)

    def _note(self, problem: str) -> None:
        if problem in self._times or len(self._times) < _MAX_KINDS:
            self._times[problem] += 1
