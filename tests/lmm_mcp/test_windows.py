"""Windows of passages: how they are cut, and what is kept of their vectors."""

from itertools import pairwise

import numpy as np
import pytest

from lmm_mcp.domain import windows
from lmm_mcp.domain.chunk import Chunk, Line, Span


def lines(*told: tuple[str, str]) -> list[Line]:
    return [Line(role, text, Span("e", 0, len(text))) for role, text in told]


def chunk(*told: tuple[str, str]) -> Chunk:
    return Chunk("c", "codex", "s", "s", "p", "", 1, 1, 0, 0, "the header", tuple(lines(*told)), (), (), "")


def unit(*rows: tuple[float, ...]) -> np.ndarray:
    found = np.asarray(rows, np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_every_line_lies_in_one_window_and_windows_keep_to_their_size():
    told = lines(*[("agent", "x" * (20 * (n % 9))) for n in range(40)])
    found = windows.windows(told)
    assert [n for each in found for n in each] == list(range(40))
    sizes = [sum(len(told[n].text) + 1 for n in each) - 1 for each in found]
    assert max(sizes) <= windows.MAX_WINDOW_chars
    assert min(a + b for a, b in pairwise(sizes)) > windows.MAX_WINDOW_chars - 180


def test_what_was_asked_said_ran_and_printed_does_not_share_a_window():
    told = lines(("user", "a"), ("agent", "b"), ("thought", "c"), ("command", "d"), ("output", "e"), ("error", "f"))
    assert [list(each) for each in windows.windows(told)] == [[0], [1, 2], [3], [4, 5]]


def test_a_line_longer_than_a_window_is_one_by_itself_and_cut_for_the_embedder():
    told = chunk(("agent", "x" * 5000), ("agent", "y"))
    assert [len(text) for text in windows.texts(told)] == [windows.MAX_TEXT_chars, 1]


def test_a_passage_without_lines_is_embedded_by_its_header():
    assert windows.texts(chunk()) == ["the header"]


def test_the_vector_of_a_passage_lies_between_those_of_its_windows_and_has_length_one():
    mean = windows.mean(unit((1, 0, 0), (0, 1, 0)))
    assert mean == pytest.approx([0.5**0.5, 0.5**0.5, 0])
    assert not np.isnan(windows.mean(unit((1, 0), (-1, 0)))).any()


def test_packed_vectors_come_back_nearly_as_they_were():
    made = np.random.default_rng(3).normal(size=(7, 384)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    back = windows.unpacked(windows.packed(made), 384)
    assert np.abs(made @ made.T - back @ made.T).max() < 0.01
    assert windows.unpacked(windows.packed(made)[:-1], 384).shape == (0, 384)
    assert windows.unpacked(b"", 384).shape == (0, 384)
    assert not windows.unpacked(windows.packed(np.zeros((1, 4), np.float32)), 4).any()
