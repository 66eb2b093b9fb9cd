r"""Standard input as the protocol's parser can take it: halves of characters are replaced before it sees them.

JavaScript cuts texts between the halves of an emoji and writes what is left as `\ud83d`. That is JSON and no Unicode: the
SDK's parser drops the whole line, and the agent waits for an answer until it gives up.
"""

import io
import re
import sys
from typing import Any, BinaryIO

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
_REPLACEMENT = rb"\ufffd"


def mended(line: bytes) -> bytes:
    r"""One line of JSON with every lone half of a character replaced, as Unicode recommends.

    >>> mended(rb'["half \ud83d", "whole \ud83d\ude00", "a backslash and \\ud83d"]')
    b'["half \\ufffd", "whole \\ud83d\\ude00", "a backslash and \\\\ud83d"]'
    """
    if b"\\ud" not in line and b"\\uD" not in line:
        return line
    return _ESCAPE.sub(lambda found: _REPLACEMENT if found[1] else found[0], line)


def mend_stdin() -> None:
    """Put a mending reader in place of `sys.stdin`. To be done once, before the server takes it."""
    sys.stdin = io.TextIOWrapper(io.BufferedReader(_MendedLines(sys.stdin.buffer)), encoding="utf-8")


class _MendedLines(io.RawIOBase):
    """Hands out whole lines as they come, so that nobody waits for a second message to see the first."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = memoryview(mended(self._source.readline()))
        room = memoryview(buffer)
        num_bytes = min(len(room), len(self._left))
        room[:num_bytes] = self._left[:num_bytes]
        self._left = self._left[num_bytes:]
        return num_bytes
