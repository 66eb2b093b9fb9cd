"""The stretches of a passage that are embedded one by one: a sentence model says most about a few lines at a time.

A passage's own vector is the mean of its windows' vectors, so each character is embedded once. Stores keep the vectors of
windows in this order: whoever changes the cut must have all passages embedded again (a step of the store's schema).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lmm_mcp.domain.chunk import Chunk, Line

MAX_WINDOW_chars = 240
MAX_TEXT_chars = 600
"""Of one line that is longer than a window by itself."""
_KIND = {"command": "ran", "error": "printed", "output": "printed", "edit": "changed", "path": "changed"}
"""Roles that share windows; those not named were said."""
_SCALE = 127.0

Vectors = npt.NDArray[np.float32]


def windows(lines: Sequence[Line]) -> list[range]:
    """Cut lines into windows: ranges of their indexes, in order and without a gap.

    >>> from lmm_mcp.domain.chunk import Span
    >>> said, ran = (Line(role, "x" * 100, Span("e", 0, 100)) for role in ("agent", "command"))
    >>> windows([said, said, said, ran])
    [range(0, 2), range(2, 3), range(3, 4)]
    """
    if not lines:
        return []
    starts, size = [0], len(lines[0].text)
    for n, (before, line) in enumerate(pairwise(lines), 1):
        size += len(line.text) + 1
        if size > MAX_WINDOW_chars or _kind(before) != _kind(line):
            starts.append(n)
            size = len(line.text)
    return [range(start, end) for start, end in pairwise([*starts, len(lines)])]


def texts(chunk: Chunk) -> list[str]:
    """What the embedder sees of a passage, a text for each window; of one without lines its header."""
    found = ["\n".join(chunk.lines[n].text for n in each)[:MAX_TEXT_chars] for each in windows(chunk.lines)]
    return found or [chunk.header]


def mean(vectors_WD: Vectors) -> Vectors:
    """The passage's own vector, of length 1: float32 [dim]."""
    mean_D: Vectors = vectors_WD.mean(axis=0)
    return (mean_D / (np.linalg.norm(mean_D) or 1.0)).astype(np.float32)


def packed(vectors_WD: Vectors) -> bytes:
    """Windows' vectors in a byte a number: half a percent off at most in a similarity.

    >>> from numpy.linalg import norm
    >>> made = np.eye(2, 4, dtype=np.float32)
    >>> bool(norm(unpacked(packed(made), 4) - made) < 0.01)
    True
    """
    largest_W = np.abs(vectors_WD).max(axis=1, keepdims=True)
    largest_W[largest_W == 0] = 1.0
    bytes_WD = np.rint(vectors_WD / largest_W * _SCALE).astype(np.int8)
    kept: bytes = largest_W.astype(np.float32).tobytes() + bytes_WD.tobytes()
    return kept


def unpacked(kept: bytes, dim: int) -> Vectors:
    """What `packed` packed: float32 [windows, dim]; none where the size fits no number of windows."""
    return unpacked_all([kept], dim)[0]


def unpacked_all(kept: Sequence[bytes], dim: int) -> list[Vectors]:
    """The same of many passages, as parts of one array: one by one it takes five times as long.

    >>> made = [packed(np.eye(num, 4, dtype=np.float32)) for num in (2, 1)]
    >>> [vectors_WD.shape for vectors_WD in unpacked_all([made[0], b"", b"no", made[1]], 4)]
    [(2, 4), (0, 4), (0, 4), (1, 4)]
    """
    sizes = [divmod(len(each), dim + 4) for each in kept]
    nums = [0 if rest else num for num, rest in sizes]
    if not any(nums):
        return [np.empty((0, dim), np.float32) for _ in kept]
    pairs = list(zip(kept, nums, strict=True))
    largest_W: npt.NDArray[Any] = np.frombuffer(b"".join(each[: 4 * num] for each, num in pairs), np.float32)
    bytes_WD = np.frombuffer(b"".join(each[4 * num :] for each, num in pairs if num), np.int8).reshape(-1, dim)
    vectors_WD = bytes_WD.astype(np.float32) * largest_W[:, None] / np.float32(_SCALE)
    parts: list[Vectors] = np.split(vectors_WD, np.cumsum(nums)[:-1])
    return parts


def _kind(line: Line) -> str:
    return line.role if line.role == "user" else _KIND.get(line.role, "said")
