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
    num, rest = divmod(len(kept), dim + 4)
    if rest:
        return np.empty((0, dim), np.float32)
    largest_W: npt.NDArray[Any] = np.frombuffer(kept, np.float32, num)
    bytes_WD = np.frombuffer(kept, np.int8, num * dim, offset=4 * num).reshape(num, dim)
    vectors_WD: Vectors = bytes_WD.astype(np.float32) * largest_W[:, None].astype(np.float32) / np.float32(_SCALE)
    return vectors_WD


def _kind(line: Line) -> str:
    return line.role if line.role == "user" else _KIND.get(line.role, "said")
