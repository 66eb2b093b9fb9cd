"""What is near to everything counts as less near where candidates are ranked, and nowhere else."""

import numpy as np
import pytest

from lmm_mcp.domain import windows
from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.recall.candidates import Candidates
from lmm_mcp.recall.evidence import pick
from lmm_mcp.recall.hubs import levelled
from lmm_mcp.recall.query import understand
from lmm_mcp.store.frequencies import Frequencies

ASKED = np.asarray((1.0, 0.0, 0.0), np.float32)


def near(*numbers: float) -> np.ndarray:
    vectors_WD = np.asarray([numbers], np.float32)
    return vectors_WD / np.linalg.norm(vectors_WD)


VECTORS = {
    "hub": near(0.8, 0.6, 0),
    "apart": near(0.75, 0, 0.66),
    **{f"talk {n}": near(0.1 * n, 1, 0) for n in range(1, 4)},
}
FOUND = Candidates(
    {},
    {"no windows": 0.3} | {name: float(windows.mean(found) @ ASKED) for name, found in VECTORS.items()},
    {name: found @ ASKED for name, found in VECTORS.items()},
    VECTORS,
)


def test_what_has_in_common_with_all_falls_behind_and_the_best_stays_as_near_as_it_was():
    found = levelled(FOUND)
    assert max(FOUND.best_windows, key=FOUND.best_windows.__getitem__) == "hub"
    assert max(found.best_windows, key=found.best_windows.__getitem__) == "apart"
    assert next(iter(found.nearest)) == "apart"
    assert set(found.nearest) == set(FOUND.nearest)
    assert max(found.nearest.values()) == pytest.approx(max(FOUND.nearest.values()))
    assert max(found.best_windows[name] for name in VECTORS) == pytest.approx(float(FOUND.windows["hub"].max()))


def test_without_vectors_of_windows_or_in_another_language_all_stays_as_it_is():
    bare = Candidates({"a": 1.0}, {"a": 0.5})
    foreign = Candidates({}, FOUND.nearest, FOUND.windows, FOUND.vectors, is_foreign=True)
    assert levelled(bare) is bare
    assert levelled(foreign) is foreign


def test_lines_are_ranked_by_it_and_scored_without_it_so_that_silence_is_as_it_was():
    chunks = [
        Chunk(
            *(name, "codex", name, name, "/home/ann/shop", "", 1, 1, 0, 0, ""),
            (Line("agent", f"It is said of {name} in general.", Span(name, 0, 10)),),
            *((), (), ""),
        )
        for name in VECTORS
    ]
    query = understand("how are guests kept out?", Frequencies.none())
    plain = dict.fromkeys(VECTORS, 1.0)
    before = pick(query, chunks, plain, FOUND, without={"supersession"})
    after = pick(query, chunks, plain, FOUND, ranking=levelled(FOUND), plain=plain, without={"supersession"})
    assert [before[0].chunk.id, after[0].chunk.id] == ["hub", "apart"]
    assert {each.chunk.id: each.score for each in before} == {each.chunk.id: each.score for each in after}
    assert [each.score + each.lead for each in after] == sorted(
        (each.score + each.lead for each in after), reverse=True
    )
