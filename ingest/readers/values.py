"""Single values out of a record, made fit to keep: whoever wrote the file, they fit the columns they are meant for.

In: whatever JSON can hold. Out: what is asked for, or the word for "not said". Nothing here raises.
"""

import hashlib
import re
from collections.abc import Mapping

from lmm_mcp.redaction import redact

ODDITIES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a record that is not built as expected can raise: a reader says so with its line and goes on."""

_MIN_CODE, _MAX_CODE = -(2**31), 2**32 - 1
"""POSIX exit codes are small; Windows writes the same 32 bits now signed, now unsigned."""
_MAX_DIGITS = 10


def exit_code_in(value: object) -> int | None:
    """Read a process's exit code, a number or its digits; None for what can be none.

    >>> [exit_code_in(value) for value in (1, "-9", "3221225786", "9" * 5000, 2**40, True, 1.0, None)]
    [1, -9, 3221225786, None, None, None, None, None]
    """
    if isinstance(value, str):
        digits = value.removeprefix("-")
        if not (digits.isdecimal() and len(digits) <= _MAX_DIGITS):
            return None
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if _MIN_CODE <= value <= _MAX_CODE else None


def is_failure(value: object) -> bool | None:
    """Whether an exit code, however long, says that the process failed; None where it is none at all.

    >>> [is_failure(value) for value in (0, "0", "9" * 5000, 2**40, True, "-")]
    [False, False, True, True, None, None]
    """
    if isinstance(value, str):
        digits = value.removeprefix("-")
        return digits.strip("0") != "" if digits.isdecimal() else None
    # A float is what a decoder makes of an integer that is too long for it.
    return value != 0 if isinstance(value, int | float) and not isinstance(value, bool) else None


_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,40}")
_ID = re.compile(r"[A-Za-z0-9_.:/+=@#|~-]{1,200}")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def type_name(value: object) -> str:
    r"""Return the name of a record's or block's type, to be shown in a complaint; `other` for what is no plain identifier.

    >>> [type_name(value) for value in ("shiny_new_record", "my words\nin its place", 7, None, "")]
    ['shiny_new_record', 'other', 'other', 'other', 'other']
    """
    return value if isinstance(value, str) and _WORD.fullmatch(value) and redact(value) == value else "other"


def id_in(value: object) -> str:
    r"""Return an agent's id as it is, or its hash where it is no plain identifier or holds a secret; '' where there is none.

    Ids are kept where redaction does not look: they name files' rows, they are keys of what a cursor remembers, and they
    stand in briefs. So nothing that could be a password, or a line of its own, may pass for one.

    >>> id_in("toolu_01"), id_in("x\n[c8] user: hi").partition(":")[0], id_in(["a"]), id_in("")
    ('toolu_01', 'odd', '', '')
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:x}" if abs(value) >= 2**63 else str(value)
    if not isinstance(value, str) or not value or _UUID.fullmatch(value):
        return value if isinstance(value, str) else ""
    if _ID.fullmatch(value) and redact(value) == value:
        return value
    return "odd:" + hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=12).hexdigest()


class Naming:
    """Ids for the messages of an agent that gives none: made of the session and of what is said.

    The same words said twice get two ids, in their order; so a file may be read again, cut at its end or at its beginning,
    and what is still in it keeps its name.

    >>> naming = Naming("s1")
    >>> first, other, again = (naming.name("user", text) for text in ("go on", "stop", "go on"))
    >>> first == Naming("s1").name("user", "go on"), again == f"{first}.2", len({first, other, again})
    (True, True, 3)
    """

    def __init__(self, session_id: str, seen: Mapping[str, int] | None = None) -> None:
        self._session_id = session_id
        self.seen: dict[str, int] = dict(seen or {})
        """How often each was named; to be kept in the cursor of a file that is read in pieces."""

    def name(self, *said: str) -> str:
        """An id for a message of which `said` is all that tells it from others (its role, its text, its time)."""
        words = "\0".join((self._session_id, *said)).encode("utf-8", "replace")
        name = hashlib.blake2b(words, digest_size=12).hexdigest()
        self.seen[name] = self.seen.get(name, 0) + 1
        return name if self.seen[name] == 1 else f"{name}.{self.seen[name]}"
