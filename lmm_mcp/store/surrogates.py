"""Values that JSON can hold and our files cannot: half surrogate pairs, and integers of more than 64 bits.

A half pair (an emoji cut in two by an agent) is no text: UTF-8, Arrow and SQLite all refuse it.
"""

import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")


def mended(value: Any) -> Any:
    """The same value with each half pair replaced by one U+FFFD, so that spans stay right; a number too large is unknown, None.

    >>> mended({"text": "a" + chr(0xD83D), "paths": ("b",)})
    {'text': 'a\ufffd', 'paths': ['b']}
    """
    match value:
        case str():
            return _HALF.sub("\ufffd", value)
        case dict():
            return {name: mended(item) for name, item in value.items()}
        case list() | tuple():
            return [mended(item) for item in value]
        case int() if not -(2**63) <= value < 2**63:
            return None
        case _:
            return value
