"""Ranked lines in, the same lines out in the order in which a small model would tell them.

The model is a weighted sum of what recall knows of a line anyway (`FEATURES`), so that it costs a few milliseconds and no torch.
It is learnt from a user's own sessions (`trainer.stages.reranker`), and serves only where it was seen to rank better there, also
for kinds of questions that it had not learnt from; there is none by default (docs/recall-log.md tells why).

Surprising: the lines change places, the scores do not. The n-th line keeps the n-th score, since silence and the ageing
of lines are weighed by their scale.

Axes: L lines, F features.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lmm_mcp.artifacts import places, read_unclean
from lmm_mcp.paths import Home
from lmm_mcp.recall.candidates import Candidates
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.query import Query

NUM_RERANKED = 64
"""Lines at the head that may change places: more than a brief of 1,000 tokens holds."""
FEATURES_VERSION = 1
"""Names what `features` yields: a model that was learnt from others is not asked."""
DECISION = "ranking.json"
"""The model, whether it is kept, and why."""
MAX_DEVIATIONS = 4.0
"""A feature farther from its mean counts as so far: nothing decides alone."""
_DAY_ms = 86_400_000
_ROLES = ("user", "agent", "command", "edit", "error", "output", "thought", "path", "summary", "note")
_KINDS = {
    "command": re.compile(r"\b(?:command|commands|run|invoke|flags?|cli|script|start|launch|install)\b", re.IGNORECASE),
    "why": re.compile(r"\b(?:why|reason|because|cause[ds]?|rationale|purpose)\b", re.IGNORECASE),
    "where": re.compile(
        r"\b(?:where|which (?:file|folder|directory|path|module)|what (?:file|path)|located)\b", re.IGNORECASE
    ),
    "value": re.compile(
        r"\b(?:port|version|number|how (?:many|much|long|often)|limit|threshold|size|default|value|name|url|id)\b",
        re.IGNORECASE,
    ),
    "error": re.compile(
        r"\b(?:error|exception|fail(?:s|ed|ing|ure)?|crash\w*|broke\w*|wrong|traceback)\b", re.IGNORECASE
    ),
}
"""What kind of answer a question wants, by the words that any question of the kind holds."""
_NUMBER = re.compile(r"\d")
_PATH = re.compile(r"[\w-]+/[\w./-]+|\b\w+\.(?:\w{1,4})\b")
_CODE = re.compile(r"`[^`]+`|\w+_\w+|[a-z][A-Z]|--\w|\w\(")
_CAUSE = re.compile(
    r"\b(?:because|since|so that|due to|the (?:reason|cause|problem|issue)|caused by|therefore)\b", re.IGNORECASE
)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)]|#{1,6}|\|)\s")
_LINE = (
    *("score", "score of best", "rank", "words", "beside", "passage", "meaning"),
    *("rarest", "terms met", "bm25", "whole", "best window", "is best window", "by both"),
    *(
        "passage rank",
        "of session",
        "age",
        "newness",
        "place",
        "is last",
        "length",
        "number",
        "path",
        "code",
        "asks",
        "cause",
    ),
    *("bullet",),
    *_ROLES,
)
_CROSS = (
    *(
        "command x command",
        "command x code",
        "why x cause",
        "why x said",
        "where x path",
        "value x number",
        "error x error",
    ),
    *("error x edit", "value x code"),
    *("fewest words x meaning", "fewest words x words", "length x words", "files x edit", "files x said"),
)
_QUESTION = ("question length", "fewest words", "best meaning", "asks of files", *(f"asks {kind}" for kind in _KINDS))
FEATURES = (*_LINE, *_CROSS, *_QUESTION)

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Model:
    """What orders lines: `base` times the score they have, plus a weighted sum of their standardised features."""

    mean_F: Matrix
    scale_F: Matrix
    weight_F: Matrix
    base: float

    def scores(self, features_LF: Matrix) -> Matrix:
        """One number for each line; larger = told earlier."""
        z_LF = np.clip((features_LF - self.mean_F) / self.scale_F, -MAX_DEVIATIONS, MAX_DEVIATIONS)
        found_L: Matrix = self.base * features_LF[:, 0] + z_LF @ self.weight_F
        return found_L

    @property
    def version(self) -> str:
        """Names what decides about the order, in 16 hexadecimal digits."""
        told = json.dumps([FEATURES_VERSION, self.as_json()], sort_keys=True)
        return hashlib.sha256(told.encode("utf-8")).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """For `of_json`."""
        return {"base": self.base, **{name: getattr(self, name).tolist() for name in _ARRAYS}}


_ARRAYS = ("mean_F", "scale_F", "weight_F")


def of_json(told: Mapping[str, Any]) -> Model | None:
    """Read a model; None for what is none, or one of other features."""
    try:
        arrays = {name: np.asarray(told[name], np.float32) for name in _ARRAYS}
        base = float(told["base"])
    except (KeyError, TypeError, ValueError):
        return None
    fits = all(each.shape == (len(FEATURES),) and np.isfinite(each).all() for each in arrays.values())
    return Model(**arrays, base=base) if fits and math.isfinite(base) and (arrays["scale_F"] > 0).all() else None


def load(home: Home, embedder_version: str, *, as_of_ms: int | None = None) -> Model | None:
    """The model that serves; None where none was kept, or something that it was learnt from was forgotten since.

    `embedder_version`: of the vectors that are searched; what was learnt from others' similarities is not asked. `as_of_ms`:
    one that was learnt from anything later, or from nobody knows when, is none either.
    """
    folder = places.ranking_folder(home)
    try:
        found = (folder / DECISION).stat()
    except OSError:
        return None
    if read_unclean(folder) is not None:
        return None
    return _read(folder / DECISION, found.st_mtime_ns, embedder_version, as_of_ms)


@lru_cache(maxsize=4)
def _read(path: Path, _stamp: int, embedder_version: str, as_of_ms: int | None) -> Model | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        fits = told["features"] == FEATURES_VERSION and told["embedder"] == embedder_version
        is_early = as_of_ms is None or 0 < int(told.get("until_ms", 0)) <= as_of_ms
        return of_json(told["model"]) if told["kept"] is True and fits and is_early else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def reranked(ranked: Sequence[Evidence], query: Query, candidates: Candidates, model: Model) -> list[Evidence]:
    """Order the head of `ranked` by the model. What is in a language the sentence model may not know stays as it is."""
    head = ranked[:NUM_RERANKED]
    if len(head) < 2 or candidates.is_foreign:
        return list(ranked)
    scores_L = model.scores(features(head, query, candidates))
    order = np.argsort(-scores_L, kind="stable")
    moved = [replace(head[n], score=place.score) for n, place in zip(order.tolist(), head, strict=True)]
    return [*moved, *ranked[NUM_RERANKED:]]


def features(lines: Sequence[Evidence], query: Query, candidates: Candidates) -> Matrix:
    """What the model looks at, in the order of FEATURES: float32 [lines, features]."""
    best_bm25 = max(candidates.lexical.values(), default=0.0) or 1.0
    best_windows = candidates.best_windows
    newest_ms = max((each.chunk.last_ms for each in lines), default=0)
    by_age = sorted({each.chunk.last_ms for each in lines})
    newness = {at: (n + 1) / len(by_age) for n, at in enumerate(by_age)}
    num_of_session = Counter(each.chunk.session_id for each in lines)
    rank_of = {each: n for n, each in enumerate(dict.fromkeys(each.chunk.id for each in lines))}
    rarest = max(query.idf.values(), default=0.0) or 1.0
    kinds = [float(pattern.search(query.text) is not None) for pattern in _KINDS.values()]
    asks = dict(zip(_KINDS, kinds, strict=True))
    of_files = float(query.asks_of_files)
    most_words = max((each.why.get("words", 0.0) for each in lines), default=0.0)
    most_meaning = max((each.why.get("meaning", 0.0) for each in lines), default=0.0)
    few = 1.0 - most_words
    question = (math.log1p(len(query.idf)), few, most_meaning, of_files, *kinds)
    top = max((each.score for each in lines), default=0.0) or 1.0
    rows = []
    for n, each in enumerate(lines):
        text, chunk, role = each.text, each.chunk, each.line.role
        words, meaning = each.why.get("words", 0.0), each.why.get("meaning", 0.0)
        met = [query.idf[term] for term in each.terms if term in query.idf]
        best = best_windows.get(chunk.id, 0.0)
        number, path = float(_NUMBER.search(text) is not None), float(_PATH.search(text) is not None)
        code, cause = float(_CODE.search(text) is not None), float(_CAUSE.search(text) is not None)
        said = float(role in ("user", "agent", "summary", "note"))
        length = math.log1p(len(text)) / 5
        num_lines = len(chunk.lines)
        rows.append(
            (
                each.score,
                each.score / top,
                math.log1p(n),
                words,
                each.why.get("beside", 0.0),
                each.why.get("passage", 0.0),
                meaning,
                max(met, default=0.0) / rarest,
                math.log1p(len(met)),
                candidates.lexical.get(chunk.id, 0.0) / best_bm25,
                candidates.nearest.get(chunk.id, 0.0),
                best,
                float(meaning >= 0.8 * best - 1e-6),
                float(chunk.id in candidates.lexical and chunk.id in candidates.nearest),
                math.log1p(rank_of[chunk.id]),
                math.log1p(num_of_session[chunk.session_id]),
                math.log1p(max(0, newest_ms - chunk.last_ms) / _DAY_ms),
                newness[chunk.last_ms],
                each.number / num_lines,
                float(each.number == num_lines - 1),
                length,
                number,
                path,
                code,
                float(text.rstrip().endswith("?")),
                cause,
                float(_BULLET.match(text) is not None),
                *(float(role == known) for known in _ROLES),
                asks["command"] * (role == "command"),
                asks["command"] * code,
                asks["why"] * cause,
                asks["why"] * said,
                asks["where"] * path,
                asks["value"] * number,
                asks["error"] * (role == "error"),
                asks["error"] * (role == "edit"),
                asks["value"] * code,
                few * meaning,
                few * words,
                length * words,
                of_files * (role == "edit"),
                of_files * said,
                *question,
            )
        )
    return np.asarray(rows, np.float32).reshape(len(lines), len(FEATURES))
