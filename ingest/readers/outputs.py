"""What a tool gave back, out of whatever it was wrapped in: JSON values in, the text that was shown out. Nothing here raises."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.documents import json_value

_STREAMS = ("stdout", "stderr")
_KEYS = (
    *("output", "text", "Text", "content", "contents", "result", "message", "value", "data"),
    *("diff", "chunks", "diffString", "Json", "json"),
)
"""Under which names agents keep the text of a result, the likeliest first."""
_MAX_DEPTH = 12


def output_text(value: object, depth: int = 0) -> str:
    r"""The text of a result, its parts one below the other; what has no text comes out as `key: value` lines.

    >>> output_text([{"type": "text", "text": "3 passed"}, {"Json": {"stdout": "a", "stderr": "b"}}])
    '3 passed\na\nb'
    >>> output_text({"exitCodeV2": 0, "output": "ok"}), output_text({"numMatches": 2}), output_text(None)
    ('ok', 'numMatches: 2', '')
    """
    if isinstance(value, str):
        return value
    if depth > _MAX_DEPTH or value is None:
        return ""
    if isinstance(value, Mapping):
        return _of_mapping(value, depth)
    if isinstance(value, Sequence):
        return "\n".join(text for part in value if (text := output_text(part, depth + 1)).strip())
    return _plain(value)


def nested_json(value: object) -> Any:
    """What a text holds that is JSON once more: an object or a list; anything else as it is.

    >>> nested_json('{"output": "ok"}'), nested_json("7 files"), nested_json({"a": 1})
    ({'output': 'ok'}, '7 files', {'a': 1})
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    found = json_value(value, Path())
    return found if isinstance(found, dict | list) else value


def _of_mapping(value: Mapping[str, Any], depth: int) -> str:
    if any(isinstance(value.get(key), str) for key in _STREAMS):
        return output_text([value.get(key) for key in _STREAMS], depth)
    for key in _KEYS:
        if text := output_text(value.get(key), depth + 1):
            return text
    return "\n".join(_key_values(value))


def _key_values(value: Mapping[str, Any]) -> Iterator[str]:
    for key, inner in value.items():
        if inner not in (None, "", [], {}) and key not in _KEYS:
            yield f"{key}: {inner if isinstance(inner, str) else _plain(inner)}"


def _plain(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return "(nested too deeply to show)"
