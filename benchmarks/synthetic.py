"""Invented chunks, questions and vectors for the benchmarks of the store; the same ones in every run.

Text: words drawn with the frequencies of natural language (Zipf), identifiers and paths among them. Vectors: points around
random centres, normalised; the windows of a passage lie around its own point, and a question is one more point around a
centre. Nobody's sessions are read.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from lmm_mcp.domain import windows
from lmm_mcp.domain.chunk import Chunk, Line, Span

DIM = 384
CHUNKS_A_THREAD = 100
MINE = "project-0"
"""The asker's project."""
PROJECTS = 20
"""Of equal size, so that the asker's is 5 %."""
WORDS_A_LINE = 20
SPREAD = 0.8
"""Length of the noise against a centre of length 1: two points of one centre have a cosine of about 0.6."""
_NUM_WORDS = 60_000
_NUM_FREQUENT = 100
_FIRST_MS = 1_700_000_000_000
_MINUTE_ms = 60_000


class Maker:
    """See the module. `words`: words a chunk; 230 make 1,500 characters."""

    def __init__(self, *, words: int = 230, centres: int = 2_000, seed: int = 7) -> None:
        self._dice = np.random.default_rng(seed)
        self._words_a_chunk = words
        letters = np.array(list("etaoinshrdlucmfwyp"))
        lengths = self._dice.integers(3, 10, _NUM_WORDS)
        self._words = np.array(["".join(self._dice.choice(letters, length)) for length in lengths], object)
        self._frequent = frozenset(self._words[:_NUM_FREQUENT])
        weights = 1.0 / np.arange(1, _NUM_WORDS + 1)
        self._shares = np.cumsum(weights / weights.sum())
        self._centres = _unit(self._dice.standard_normal((centres, DIM), dtype=np.float32))

    def threads(self, first: int, count: int) -> Iterator[tuple[str, str, list[Chunk]]]:
        """(agent, thread id, chunks) of `count` threads, numbered from `first`."""
        for number in range(first, first + count):
            words = self._drawn((CHUNKS_A_THREAD, self._words_a_chunk))
            yield "codex", f"t{number}", [self._chunk(number, at, list(row)) for at, row in enumerate(words)]

    def question(self, num_words: int = 10) -> str:
        """Words as they occur in the texts: frequent and rare ones."""
        return " ".join(self._drawn((num_words,)))

    def asked(self, num_words: int) -> str:
        """The same without the most frequent hundred, which stand for those that no search looks for (the, of, to, ...)."""
        words = (word for word in iter(lambda: self.question(1), "") if word not in self._frequent)
        return " ".join(next(words) for _ in range(num_words))

    def vectors(self, count: int) -> np.ndarray:
        """Points around centres, of chunks and of questions alike."""
        at = self._dice.integers(0, len(self._centres), count)
        noise = self._dice.standard_normal((count, DIM), dtype=np.float32) * np.float32(SPREAD / np.sqrt(DIM))
        return _unit(self._centres[at] + noise)

    def embedded(self, chunks: Sequence[Chunk]) -> tuple[list[tuple[str, int, np.ndarray]], dict[str, np.ndarray]]:
        """Vectors of chunks as `ChunkStore.add_vectors` takes them: of the windows, and their mean for the whole."""
        made = {}
        for chunk in chunks:
            at = self._dice.integers(0, len(self._centres))
            num = max(1, len(windows.windows(chunk.lines)))
            noise = self._dice.standard_normal((num, DIM), dtype=np.float32) * np.float32(SPREAD / np.sqrt(DIM))
            own = self._dice.standard_normal(DIM, dtype=np.float32) * np.float32(SPREAD / np.sqrt(DIM))
            made[chunk.id] = _unit(self._centres[at] + own + noise)
        return [(chunk_id, 0, windows.mean(vectors)) for chunk_id, vectors in made.items()], made

    def _drawn(self, shape: tuple[int, ...]) -> np.ndarray:
        found: np.ndarray = self._words[
            np.searchsorted(self._shares, self._dice.random(shape)).clip(max=_NUM_WORDS - 1)
        ]
        return found

    def _chunk(self, thread: int, ordinal: int, words: list[str]) -> Chunk:
        number = thread * CHUNKS_A_THREAD + ordinal
        words[::20] = [f"{a}_{b}" for a, b in zip(words[::20], words[1::20], strict=False)]
        lines = [
            Line("agent", " ".join(words[at : at + WORDS_A_LINE]), Span(f"e{number}", at, at + WORDS_A_LINE))
            for at in range(0, len(words), WORDS_A_LINE)
        ]
        at_ms = _FIRST_MS + number * _MINUTE_ms
        return Chunk(
            id=f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}",  # scattered like the hashes that real ids are
            agent="codex",
            session_id=f"t{thread}",
            thread_id=f"t{thread}",
            project=f"project-{thread % PROJECTS}",
            branch="main",
            first_ms=at_ms,
            last_ms=at_ms + _MINUTE_ms,
            part=0,
            ordinal=ordinal,
            header=f"t{thread} main 2026-11-20 codex",
            lines=tuple(lines),
            files=(f"src/{words[0]}/{words[1]}.py",),
            commands=(f"pytest tests/{words[2]}  [exit 0]",),
            content_hash=str(number),
        )


def _unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found
