"""BM25 over hits of several tables. Each table scores by its own counts, in which a word that is rare in all may be common,
so their scores cannot be compared: the best of each are weighed again here, by the counts of the whole store.
"""

from collections.abc import Iterable, Mapping

from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.store.search import Hit

K1 = 1.2
B = 0.75
"""As LanceDB has them."""


def ranked(
    rows: Iterable[tuple[ChunkId, str]], idf: Mapping[str, float], limit: int, *, mean_length: float = 0.0
) -> list[Hit]:
    """Rank (id, blank-joined terms) by BM25 (Robertson and Zaragoza 2009, eq. 3.15), best first.

    `mean_length`: in terms, of all there are; 0 = not known, then that of the rows given is taken.

    >>> found = ranked([("a", "port x y z"), ("b", "port port x y"), ("c", "x y z z")], {"port": 2.0}, 2)
    >>> [(hit.chunk_id, hit.score) for hit in found]
    [('b', 2.75), ('a', 2.0)]
    """
    split = {chunk_id: terms.split(" ") for chunk_id, terms in rows}
    mean = mean_length or sum(map(len, split.values())) / max(1, len(split)) or 1.0
    hits = []
    for chunk_id, terms in split.items():
        norm = K1 * (1 - B + B * len(terms) / mean)
        counts = dict.fromkeys(idf, 0)
        for term in terms:
            if term in counts:
                counts[term] += 1
        score = sum(idf[term] * n * (K1 + 1) / (n + norm) for term, n in counts.items() if n)
        hits.append(Hit(chunk_id, score))
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))[:limit]
