"""Where the zstd frames of a chain begin and end, found from their headers alone (RFC 8878, section 3.1.1).

Bytes go in, spans come out; nothing is unpacked, so that an append can find a torn tail in no time. What matters is to
tell two things apart: the prefix of a frame at the very end (a writer died, nothing was promised yet) and damage
anywhere else (something that was promised is gone).
"""

from pathlib import Path

import zstandard

from lmm_mcp.errors import ArchiveError

MAGIC = b"\x28\xb5\x2f\xfd"
_CHECKSUM_bytes = 4
_RLE = 1
_RESERVED = 3


class _TornError(Exception):
    """The data ends within the frame."""


class _DamagedError(Exception):
    """These bytes are no frame."""


def walk(data: bytes, path: Path) -> tuple[list[tuple[int, int]], int | None]:
    """The spans of all whole frames, and where a torn last one begins (None if there is none).

    Raises ArchiveError naming `path` if what cannot be read is anything but a torn tail.
    """
    spans: list[tuple[int, int]] = []
    at = 0
    while at < len(data):
        try:
            end = _end_of_frame(data, at)
        except (_TornError, _DamagedError) as problem:
            if isinstance(problem, _DamagedError) or _whole_frame_behind(data, at + 1):
                raise ArchiveError(
                    f"{path} is damaged at byte {at} of {len(data)}. "
                    "Move the file away and run `lmm import`: what the agent still has is read again."
                ) from problem
            return spans, at
        spans.append((at, end))
        at = end
    return spans, None


def _end_of_frame(data: bytes, at: int) -> int:
    if data[at : at + 4] != MAGIC:
        # After a power cut some file systems show the length of the write but zeros in its place.
        if MAGIC.startswith(data[at : at + 4]) or not any(data[at:]):
            raise _TornError
        raise _DamagedError
    try:
        here = at + zstandard.frame_header_size(data[at : at + 18])
        has_checksum = zstandard.get_frame_parameters(data[at : at + 18]).has_checksum
    except zstandard.ZstdError as problem:
        raise (_TornError if len(data) - at < 18 else _DamagedError) from problem
    last = False
    while not last:
        if here + 3 > len(data):
            raise _TornError
        header = int.from_bytes(data[here : here + 3], "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == _RESERVED:
            raise _DamagedError
        here += 3 + (1 if kind == _RLE else size)
    here += _CHECKSUM_bytes if has_checksum else 0
    if here > len(data):
        raise _TornError
    return here


def _whole_frame_behind(data: bytes, at: int) -> bool:
    """Whether a frame that unpacks stands somewhere behind `at`: then the bytes before it are damage, not a torn tail."""
    while (at := data.find(MAGIC, at)) >= 0:
        try:
            zstandard.ZstdDecompressor().decompress(data[at : _end_of_frame(data, at)])
        except (_TornError, _DamagedError, zstandard.ZstdError):
            at += 1
        else:
            return True
    return False
