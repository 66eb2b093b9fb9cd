"""Single values out of a record, made fit to keep: whoever wrote the file, they fit the columns they are meant for.

In: whatever JSON can hold. Out: what is asked for, or the word for "not said". Nothing here raises.
"""

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
