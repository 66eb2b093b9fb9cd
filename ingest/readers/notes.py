"""Notes: what `remember` was told. One file a month, one JSON line a note; each project's notes of a month are a thread."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, SLICE_bytes, json_lines, parse_time_ms
from ingest.readers.values import id_in
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread

_MONTH = re.compile(r"\d{4}-\d{2}\.jsonl")


class Notes(FileReader):
    """Reads the notes inbox of the memory home, which is passed as an extra root."""

    agent = "notes"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:  # noqa: ARG002 - the protocol
        """The folders named: the inbox is ours, so there is no place to guess."""
        return tuple(extra)

    def discover(self, root: Path) -> Iterator[Path]:
        """The files of the months."""
        if root.is_dir():
            yield from (path for path in sorted(root.iterdir()) if _MONTH.fullmatch(path.name))

    def claims(self, path: Path) -> bool:
        """A month's file whose first record is a note."""
        if not _MONTH.fullmatch(path.name) or not path.is_file():
            return False
        for item in json_lines(path, Cursor()):
            if isinstance(item, tuple):
                return item[1].keys() >= {"id", "at_ms", "text"}
        return False

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield each note as a prompt: it was said by a person, or on a person's behalf."""
        current = ""
        for item in json_lines(path, cursor, slice_bytes=SLICE_bytes):
            if isinstance(item, Unreadable | ReadTo):
                yield item
                continue
            number, record = item
            if not isinstance(record.get("id"), str) or not isinstance(record.get("text"), str):
                yield Unreadable(str(path), number, "a note without id or text")
                continue
            thread = _thread(path.stem, record)
            if thread.thread_id != current:
                current = thread.thread_id
                yield thread
            yield Event(
                f"note:{id_in(record['id'])}",
                "prompt",
                record["text"],
                parse_time_ms(record.get("at_ms")),
                cwd=thread.cwd,
            )


def _thread(month: str, record: Mapping[str, Any]) -> Thread:
    project = value if isinstance(value := record.get("project"), str) else ""
    name = f"notes-{month}"
    if project:
        name += "-" + hashlib.blake2b(project.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    is_folder = project.startswith(("/", "~")) or project[1:2] == ":"
    return Thread(
        agent=Notes.agent,
        session_id=name,
        thread_id=name,
        title="notes",
        # A note belongs to the project that it was told under, or to none, wherever the teller stood.
        cwd=project if is_folder else "",
        remote="" if is_folder else project,
    )
