"""Messages that are written piece by piece, a line for each piece: joined again, wherever between them a reading ends.

Records in, events out, as in `transcript`. What is open at the end of a reading is told as far as it goes, and told again
under the same id once it has grown.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ingest.readers.base import Decoded
from ingest.readers.transcript import Transcript, read_records
from ingest.session import Item, ReadTo
from lmm_mcp.domain.event import Event, EventKind

_MAX_OPEN_chars = 256 * 1024
"""What is open is kept in the cursor; a longer message is told in several."""
_END: dict[str, Any] = {}
"""Told from an empty record by being this very one."""


class Growing(Transcript):
    """A session in which pieces of one message follow each other; readers say in `take_record` what records mean."""

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of the next record; at the end of a reading what is open."""
        yield from self._told() if record is _END else self.take_record(record)

    @abstractmethod
    def take_record(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of one record; may raise any of ODDITIES where it is not built as expected."""

    def piece(self, key: str, kind: EventKind, text: str, *, own: str = "") -> Iterator[Event]:
        """Take in the next piece: of the open message where that has the same `key`, else of a new one, which is then called `own`."""
        is_open = self.notes.get("open")
        if is_open and is_open["key"] == key and len(is_open["text"]) < _MAX_OPEN_chars:
            self.notes["open"] = is_open | {"text": is_open["text"] + text}
            return
        yield from self.close()
        self.notes["open"] = {
            "key": key,
            "kind": kind,
            "id": own or self.named(kind, text),
            "text": text,
            "at_ms": self.at_ms,
            "group": self.group,
            "num_told": 0,
        }

    def close(self) -> Iterator[Event]:
        """Tell the open message; the next piece begins another."""
        yield from self._told()
        self.notes.pop("open", None)

    def drop(self) -> None:
        """Forget the open message untold: what follows says it once more."""
        self.notes.pop("open", None)

    def _told(self) -> Iterator[Event]:
        is_open = self.notes.get("open")
        if not is_open or is_open["num_told"] == len(is_open["text"]):
            return
        self.notes["open"] = is_open | {"num_told": len(is_open["text"])}
        now = self.at_ms, self.group
        self.at_ms, self.group = is_open["at_ms"], is_open["group"]
        yield from self.prose(is_open["kind"], is_open["id"], is_open["text"])
        self.at_ms, self.group = now


def read_pieces(path: Path, decoded: Iterable[Decoded], transcript: Growing) -> Iterator[Item]:
    """Yield what decoded lines say, what is open included; otherwise as `transcript.read_records`."""
    yield from read_records(path, _with_end(decoded), transcript)


def _with_end(decoded: Iterable[Decoded]) -> Iterator[Decoded]:
    for item in decoded:
        if isinstance(item, ReadTo):
            yield 0, _END
        yield item
