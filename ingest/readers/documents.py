"""Session files that are rewritten whole: one JSON document, read as far as it can be understood.

Agents rewrite these files while we look, so a document may be seen half written. That is said (`Unreadable`) and forgotten
as soon as the file is read again, whole.
"""

import json
from pathlib import Path
from typing import Any

import orjson

from ingest.readers.base import MAX_VALUES, MAX_LINE_bytes, has_too_many_values, without_lone_surrogates
from ingest.readers.opening import open_file
from ingest.session import Unreadable


def json_document(path: Path, *, max_bytes: int = MAX_LINE_bytes) -> Any | Unreadable:
    """The value that the file holds, or why it cannot be had. Raises OSError where the file cannot be read."""
    with open_file(path) as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        return Unreadable(str(path), 0, f"longer than {max_bytes:,} bytes")
    return json_value(content, path)


def json_value(content: bytes | str, path: Path) -> Any | Unreadable:
    r"""Decode JSON as its writer meant it: with a byte order mark, half characters or bytes that are no UTF-8.

    >>> json_value(b'\xef\xbb\xbf{"a": 1}', Path("a.json"))
    {'a': 1}
    """
    if isinstance(content, bytes) and has_too_many_values(content):
        return Unreadable(str(path), 0, f"holds more than {MAX_VALUES:,} values")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    try:
        return without_lone_surrogates(json.loads(text.lstrip("\ufeff").strip("\0 \t\r\n")))
    except (ValueError, RecursionError) as problem:
        reason = f"{problem.msg} at character {problem.pos:,}" if isinstance(problem, json.JSONDecodeError) else ""
        return Unreadable(str(path), 0, f"not JSON: {reason or type(problem).__name__}; perhaps it is being written")
