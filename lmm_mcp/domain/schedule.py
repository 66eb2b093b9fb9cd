"""When the memory model is trained without being asked, as settings write it: `off`, `nightly`, `idle`, `after 500`."""

import re
from dataclasses import dataclass

FORMS = "off, nightly, idle, or `after N` (new passages)"
_FORM = re.compile(r"(off|nightly|idle)|after ([1-9]\d{0,8})")


@dataclass(frozen=True, slots=True)
class Schedule:
    """One of the four."""

    kind: str
    """`off`, `nightly`, `idle` or `after`."""
    after: int = 0
    """New passages that make a run worth while, for `after`."""


def parse(text: str) -> Schedule | None:
    """Understand a schedule; None where it is none.

    >>> parse("After  500"), parse("weekly")
    (Schedule(kind='after', after=500), None)
    """
    found = _FORM.fullmatch(" ".join(text.lower().split()))
    if found is None:
        return None
    return Schedule(found[1]) if found[1] else Schedule("after", int(found[2]))
