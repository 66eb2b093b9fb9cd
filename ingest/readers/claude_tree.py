"""Which sub-agent of Claude Code started which: the caller's transcript has the other's id with the result of the call."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from ingest.readers.opening import open_file
from ingest.readers.values import id_in

_FOLDER, _PREFIX = "subagents", "agent-"
_BLOCK_bytes = 1024 * 1024
_MAX_FILES = 4_096
_OF_RESULT = re.compile(rb'"toolUseResult"\s*:\s*\{')
_ID = re.compile(rb'"agentId"\s*:\s*"([^"\\]+)"')


@dataclass(slots=True)
class _Looked:
    """What was found in a transcript so far."""

    end: int = 0
    """Bytes looked at: whole lines."""
    started: set[str] = field(default_factory=set)


_looked: dict[Path, _Looked] = {}
"""Each transcript is looked through once and then from where it has grown, as long as this process lives."""


def started_by(transcript: Path, agent_id: str) -> str:
    """Id of the sub-agent that started the one whose transcript this is; '' where no sub-agent of the session says so."""
    folder = next((each for each in transcript.parents if each.name == _FOLDER), None)
    if folder is None:
        return ""
    for path in sorted(folder.rglob(f"{_PREFIX}*.jsonl")):
        if path != transcript and agent_id in _started_in(path):
            return id_in(path.stem.removeprefix(_PREFIX))
    return ""


def _started_in(path: Path) -> set[str]:
    looked = _looked.setdefault(path, _Looked())
    try:
        if os.stat(path).st_size < looked.end:  # noqa: PTH116 - it was written anew
            looked.end, looked.started = 0, set()
        own = path.stem.removeprefix(_PREFIX).encode()
        with open_file(path) as stream:
            stream.seek(looked.end)
            rest = b""
            while block := stream.read(_BLOCK_bytes):
                *lines, rest = (rest + block).split(b"\n")
                looked.end += sum(len(line) + 1 for line in lines)
                for line in lines:
                    looked.started |= _named_in(line, own)
    except OSError:
        return set()
    while len(_looked) > _MAX_FILES:
        del _looked[next(iter(_looked))]
    return looked.started


def _named_in(line: bytes, own: bytes) -> set[str]:
    # What a tool printed has its quotes escaped, so only records speak here; the whole of one is read where it may matter.
    if not (_OF_RESULT.search(line) and any(found[1] != own for found in _ID.finditer(line))):
        return set()
    try:
        result = orjson.loads(line).get("toolUseResult")
    except (orjson.JSONDecodeError, AttributeError):
        return set()
    named = id_in(result.get("agentId")) if isinstance(result, dict) else ""
    return {named} - {"", own.decode("utf-8", "replace")}
