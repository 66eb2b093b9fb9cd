"""JSON lines in zstd frames: an archived file, or one that grows frame by frame. Offsets count the bytes within."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from ingest.readers.base import Decoded, json_lines_of
from ingest.readers.opening import open_file
from ingest.session import Cursor, ReadTo, Unreadable

MAX_RATIO = 1000
"""Sessions shrink to a tenth or a fiftieth. What unpacks to so many times its size was made to fill a memory,"""
FREE_bytes = 256 * 1024 * 1024
"""unless it is small even so."""
_SKIP_bytes = 1024 * 1024
_PIECE_bytes = 64 * 1024


def compressed_json_lines(
    path: Path, cursor: Cursor, *, final: bool, slice_bytes: int | None = None
) -> Iterator[Decoded]:
    """Decode the lines behind `cursor`; what is before it is decompressed and passed over. Otherwise as `base.json_lines`."""
    with open_file(path) as file:
        stream = _Decompressed(file)
        left = cursor.offset
        while left and (skipped := stream.read(min(left, _SKIP_bytes))):
            left -= len(skipped)
        for decoded in json_lines_of(stream, path, cursor, final=final, slice_bytes=slice_bytes):
            if isinstance(decoded, ReadTo) and stream.problem:
                yield Unreadable(str(path), 0, stream.problem)
            yield decoded


class _Decompressed:
    """The text of a zstd file, which ends where the file is damaged."""

    def __init__(self, file: BinaryIO) -> None:
        self._stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        self._left_bytes = max(FREE_bytes, MAX_RATIO * os.fstat(file.fileno()).st_size)
        self.problem = ""

    def read(self, num_bytes: int, /) -> bytes:
        """Return at most `num_bytes`, nothing at the end."""
        try:
            # Not `read`: that goes on until it has all it was asked for, and loses it where it meets damage.
            piece = self._stream.read1(min(num_bytes, _PIECE_bytes))
            self._left_bytes -= len(piece)
            if self._left_bytes < 0:
                self.problem = f"unpacks to more than {MAX_RATIO:,} times its size"
            return b"" if self.problem else piece
        except zstandard.ZstdError as problem:
            self.problem = f"compressed data is damaged: {problem}"
            return b""
