"""JSON lines in zstd frames: an archived file, or one that grows frame by frame. Offsets count the bytes within."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from ingest.readers.base import Decoded, json_lines_of
from ingest.readers.opening import open_file
from ingest.session import Cursor, ReadTo, Unreadable

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
        self.problem = ""

    def read(self, num_bytes: int, /) -> bytes:
        """Return at most `num_bytes`, nothing at the end."""
        try:
            # Not `read`: that goes on until it has all it was asked for, and loses it where it meets damage.
            return self._stream.read1(min(num_bytes, _PIECE_bytes))
        except zstandard.ZstdError as problem:
            self.problem = f"compressed data is damaged: {problem}"
            return b""
