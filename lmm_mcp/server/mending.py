r"""A line of a client as the protocol's parser can take it: halves of characters are replaced before it sees them.

JavaScript cuts texts between the halves of an emoji and writes what is left as `\ud83d`. That is JSON and no Unicode: the
SDK's parser drops the whole line, and the agent waits for an answer until it gives up.
"""

import re

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
