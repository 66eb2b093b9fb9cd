"""Passages in memory: those that were read lately as they are, many more packed, at a fifth of the memory.

What is packed is known by its row: a row never changes, and one that upkeep moved is the same row under another number.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

import orjson
import zstandard

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.store import schema
from lmm_mcp.store.blocks import ROW_ID
from lmm_mcp.store.kept import Kept

MAX_LINES = 15_000
"""Of the passages that were read lately: 6 MB."""
MAX_PACKED_bytes = 4_000_000
"""Of those that were asked for lately, a kilobyte a passage."""
MAX_PACKED_bytes_whole = 50_000_000
"""More than those of a whole shelf."""
_NAMES = [each.name for each in fields(Chunk)]
_LINES, _FILES, _COMMANDS = (_NAMES.index(name) for name in ("lines", "files", "commands"))


class Bodies:
    """Passages by row id. `is_whole`: there is room for all of a shelf. Safe to call from several threads."""

    def __init__(self, *, is_whole: bool) -> None:
        self._fresh: Kept[Chunk] = Kept(MAX_LINES, lambda chunk: 1 + len(chunk.lines))
        self._packed: Kept[bytes] = Kept(MAX_PACKED_bytes_whole if is_whole else MAX_PACKED_bytes, len)

    def get(self, row_ids: Iterable[int], read: Callable[[list[int]], Mapping[int, bytes]]) -> dict[int, Chunk]:
        """Those of these rows that there are; `read` gets what is not held, as `packed` packs it."""
        return self._fresh.get(row_ids, lambda missing: unpacked(self._packed.get(missing, read)))

    def lacking(self, row_ids: Iterable[int]) -> list[int]:
        """Those of these rows that are not held."""
        return self._packed.lacking(row_ids)

    def add(self, packed: Mapping[int, bytes]) -> None:
        """Hold these, for whoever asks next."""
        self._packed.add(packed)

    def renumber(self, now: Mapping[int, int]) -> None:
        """Know rows by other numbers: old ones to new ones."""
        self._packed.renumber(now)


def packed(request: Any) -> dict[int, bytes]:
    """What a request to a table of chunks finds, each in few bytes, by row id."""
    rows = request.with_row_id().select(schema.CHUNK_COLUMNS).to_arrow()
    columns = [rows[name].to_pylist() for name in _NAMES]
    columns[_LINES] = [orjson.Fragment(lines) for lines in columns[_LINES]]
    compressor = zstandard.ZstdCompressor(level=1)
    values = zip(*columns, strict=True)
    return {
        row_id: compressor.compress(orjson.dumps(each))
        for row_id, each in zip(rows[ROW_ID].to_pylist(), values, strict=True)
    }


def unpacked(packed: Mapping[int, bytes]) -> dict[int, Chunk]:
    """What `packed` packed."""
    decompressor = zstandard.ZstdDecompressor()
    return {row_id: _chunk(orjson.loads(decompressor.decompress(each))) for row_id, each in packed.items()}


def windows_of(request: Any) -> dict[int, bytes]:
    """The packed vectors of windows that a request to a table of vectors finds, by row id."""
    rows = request.with_row_id().select(["windows"]).to_arrow()
    found = zip(rows[ROW_ID].to_pylist(), rows["windows"].to_pylist(), strict=True)
    return {row_id: kept or b"" for row_id, kept in found}


def _chunk(values: list[Any]) -> Chunk:
    values[_LINES] = tuple(
        [Line(role, text, Span(event, start, end)) for role, text, event, start, end in values[_LINES]]
    )
    values[_FILES], values[_COMMANDS] = tuple(values[_FILES]), tuple(values[_COMMANDS])
    return Chunk(*values)
