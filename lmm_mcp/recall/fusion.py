"""What words and meaning say in, one ranking out: a weighted sum of scores scaled to 0..1.

Not reciprocal rank fusion: ranks throw away how far apart two candidates are, and on coding sessions plain RRF with
k = 60 loses to the better of its two sides in the first 250 tokens (Bruch et al. 2023 find the same: a convex combination needs one weight and
little data to fit it). Meaning is half the whole passage and half its best window: the one finds where something was talked
about, the other where it was said; `docs/recall-log.md` tells what else was tried.
"""

from collections.abc import Mapping

LEXICAL_SHARE = 0.5
LEXICAL_SHARE_FOREIGN = 0.75
"""For a question in a language of which the model may know little."""
NEAREST_FLOOR = 0.1
"""Cosine similarity that says nothing for MiniLM; scaled to 0."""


def fuse(
    lexical: Mapping[str, float],
    nearest: Mapping[str, float],
    best_windows: Mapping[str, float] | None = None,
    *,
    lexical_share: float = LEXICAL_SHARE,
) -> dict[str, float]:
    """Merge scored candidate lists, best first. Ties are broken by id, so that equal input gives equal output.

    `best_windows`: similarity of the best window of each chunk; None: that of the whole stands for it.

    >>> list(fuse({"a": 8.0, "b": 6.0}, {"b": 0.7, "c": 0.4}))
    ['b', 'a', 'c']
    >>> list(fuse({"a": 8.0, "b": 4.0}, {}))
    ['a', 'b']
    """
    if not nearest:
        lexical_share = 1.0
    by_words = _scaled(lexical, floor=0.0)
    by_whole = _scaled(nearest, floor=NEAREST_FLOOR)
    by_window = by_whole if best_windows is None else _scaled(best_windows, floor=NEAREST_FLOOR)
    fused = {
        key: lexical_share * by_words.get(key, 0.0)
        + (1 - lexical_share) * (by_whole.get(key, 0.0) + by_window.get(key, 0.0)) / 2
        for key in {*by_words, *by_whole, *by_window}
    }
    return dict(sorted(fused.items(), key=lambda item: (-item[1], item[0])))


def _scaled(scores: Mapping[str, float], *, floor: float) -> dict[str, float]:
    best = max(scores.values(), default=floor)
    if best <= floor:
        return dict.fromkeys(scores, 0.0)
    return {key: max(0.0, (score - floor) / (best - floor)) for key, score in scores.items()}
