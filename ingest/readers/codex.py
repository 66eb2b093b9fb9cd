"""Codex rollouts: `sessions/YYYY/MM/DD/rollout-<time>-<id>.jsonl` and `archived_sessions/`, plain or as `.jsonl.zst`.

Files in, threads and events out. What a record means stands in `codex_records`, what must be remembered from line to line
in `codex_thread`. Codex moves and compresses its files later, so nothing is named by where it lies.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingest.readers.base import Decoded, FileReader, SLICE_bytes, json_lines
from ingest.readers.codex_thread import AGENT, Originals, Transcript
from ingest.readers.compressed import compressed_json_lines
from ingest.readers.opening import first_bytes
from ingest.readers.places import named_folder
from ingest.readers.values import ODDITIES, id_in
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.paths import user_home

_FOLDERS = ("sessions", "archived_sessions")
_NAME = re.compile(r"rollout-.*?(?P<id>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?\.jsonl(?P<zst>\.zst)?")
_FIRST_bytes = 4096


class Codex(FileReader):
    """Reader of OpenAI Codex sessions (CLI, desktop, editor extension: one format)."""

    agent = AGENT
    version = 2

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """Codex homes: `CODEX_HOME`, else `~/.codex`, then `extra`."""
        own = named_folder(env, "CODEX_HOME") or user_home(env) / ".codex"
        return tuple(dict.fromkeys((own, *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """Rollouts under a Codex home, and nothing beside them: credentials lie there too.

        Where a rollout lies there both plain and compressed, Codex is between the two: the plain one is complete.
        """
        for folder in _FOLDERS:
            refused: list[OSError] = []
            for here, _, names in os.walk(root / folder, onerror=refused.append):
                present = set(names)
                for name in sorted(names):
                    found = _NAME.fullmatch(name)
                    if found and not (found["zst"] and name.removesuffix(".zst") in present):
                        yield Path(here) / name
            # A folder that cannot be listed is named itself, so that whoever opens what is found says why.
            yield from (Path(problem.filename) for problem in refused if not isinstance(problem, FileNotFoundError))

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A rollout speaks for itself."""
        inside = path.relative_to(root).parts
        return path if inside and inside[0] in _FOLDERS and _NAME.fullmatch(path.name) else None

    def claims(self, path: Path) -> bool:
        """Whether `path` looks like a rollout: by its name, else by its first line."""
        if not path.is_file():
            return False
        if _NAME.fullmatch(path.name):
            return True
        if path.suffix != ".jsonl":
            return False
        first = first_bytes(path, _FIRST_bytes)
        return bool(re.search(rb'"type"\s*:\s*"session_meta"', first.partition(b"\n")[0]))

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`. Raises OSError where the file cannot be read.

        A compressed file will not grow and is always gone through from its start; `cursor.offset` counts the bytes within,
        so that a file which was compressed after it had been read is not read again.
        """
        named = _NAME.fullmatch(path.name)
        transcript = Transcript(
            cursor.context, id_in((named and named["id"]) or path.name.partition(".")[0]), _originals_beside(path)
        )
        announced = None
        for decoded in _lines(path, cursor, slice_bytes=SLICE_bytes):
            if isinstance(decoded, Unreadable):
                yield decoded
            elif isinstance(decoded, ReadTo):
                if announced is not None and announced != transcript.thread:
                    yield transcript.thread
                for what, line in transcript.newly_unknown.items():
                    yield Unreadable(str(path), line, f"unknown {what}")
                yield replace(decoded, cursor=replace(decoded.cursor, context=transcript.context()))
            else:
                line, record = decoded
                try:
                    events = transcript.take(record, line)
                except ODDITIES as problem:
                    yield Unreadable(
                        str(path), line, f"a record that is not built as expected ({type(problem).__name__})"
                    )
                    continue
                if events:
                    if transcript.thread != announced:
                        announced = transcript.thread
                        yield announced
                    yield from events


def _lines(path: Path, cursor: Cursor, *, slice_bytes: int | None = None) -> Iterator[Decoded]:
    if path.suffix == ".zst":
        yield from compressed_json_lines(path, cursor, final=True, slice_bytes=slice_bytes)
    else:
        yield from json_lines(path, cursor, slice_bytes=slice_bytes)


def _originals_beside(path: Path) -> Originals:
    """Look for other rollouts of the same Codex home by their thread id."""

    def originals(thread_id: str) -> Iterator[Mapping[str, Any]] | None:
        if not re.fullmatch(r"[\w-]+", thread_id):
            return None
        home = next((above.parent for above in path.parents if above.name in _FOLDERS), None)
        folders = [path.parent] if home is None else [home / folder for folder in _FOLDERS]
        for folder in folders:
            for found in sorted(folder.rglob(f"rollout-*{thread_id}.jsonl*")):
                if found != path and _NAME.fullmatch(found.name):
                    return _records(found)
        return None

    return originals


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        for decoded in _lines(path, Cursor()):
            if isinstance(decoded, tuple):
                yield decoded[1]
    except OSError:  # moved away in this moment: then its copies are kept, which is the safer mistake
        return
