"""What is near to everything counts as less near: similarities by which candidates are ranked.

Some vectors are near to whatever is asked (hubs, Radovanović et al. 2010), and those of one talk or project have much in common that
says nothing about which of them answers. So each similarity is lowered by the nearness to the mean of all that was found, as
centring does (Suzuki et al. 2013), and then all are raised alike, until the best one is as near as it was. Whether anything is
near enough to be told is judged by the similarities as they were.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lmm_mcp.embedding import Vectors
from lmm_mcp.recall.candidates import Candidates

OF_WINDOW = 1.0
"""How much of its nearness to the mean a window loses."""
OF_WHOLE = 0.5
"""The same of a whole passage."""


def levelled(found: Candidates) -> Candidates:
    """The same with similarities to rank by. Those of passages without windows are lowered as much as the others' on average.

    A question in a language of which the model may know little keeps all as they are.
    """
    if not found.vectors or found.is_foreign:
        return found
    of_passage, of_windows = _nearness_to_the_mean(found.vectors)
    average = sum(of_passage.values()) / len(of_passage)
    windows = {each: found.windows[each] - OF_WINDOW * lost_W for each, lost_W in of_windows.items()}
    nearest = {each: near - OF_WHOLE * of_passage.get(each, average) for each, near in found.nearest.items()}
    raise_windows = _best(found.windows) - _best(windows)
    raise_nearest = max(found.nearest.values()) - max(nearest.values())
    raised = {each: near + raise_nearest for each, near in nearest.items()}
    return replace(
        found,
        nearest=dict(sorted(raised.items(), key=lambda item: (-item[1], item[0]))),
        windows={each: near_W + np.float32(raise_windows) for each, near_W in windows.items()},
    )


def _best(windows: Mapping[str, Vectors]) -> float:
    return max(float(near_W.max()) for near_W in windows.values())


def _nearness_to_the_mean(vectors: Mapping[str, Vectors]) -> tuple[dict[str, float], dict[str, Vectors]]:
    """Of each passage and of each of its windows: dot products with the mean of all windows."""
    starts = np.cumsum([0, *map(len, vectors.values())])[:-1]
    all_WD = np.concatenate(list(vectors.values()))
    mean_D = all_WD.mean(axis=0)
    sums_PD = np.add.reduceat(all_WD, starts, axis=0)
    norms_P = np.linalg.norm(sums_PD, axis=1)
    norms_P[norms_P == 0] = 1.0
    of_passage_P = sums_PD @ mean_D / norms_P
    of_windows = np.split(all_WD @ mean_D, starts[1:])
    return dict(zip(vectors, of_passage_P.tolist(), strict=True)), dict(zip(vectors, of_windows, strict=True))
