"""Which share of the fused score words should have: every share, plain RRF, and what a share chosen elsewhere is worth.

    python benchmarks/fusion.py MEMORY_HOME QUESTIONS.jsonl [...]

MEMORY_HOME holds an imported and embedded store. A question is a JSON line with `question`, `project`, `asked_at`,
`answers` (items, each a list of alternatives) and `gold` (with `session`); see `lmm_mcp/evaluation/questions.py`.
For each share: mean share of needed items in the first 250 and 1,000 tokens of a brief of 1,000, and session hit@1.
The last row is leave-one-project-out: for each project the share that is best on all the others.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from lmm_mcp import config, embedding
from lmm_mcp.domain.recall import Question
from lmm_mcp.embedding import NoEmbedder
from lmm_mcp.paths import Home
from lmm_mcp.recall import brief
from lmm_mcp.recall.candidates import Candidates, gather, scope_of
from lmm_mcp.recall.evidence import MAX_CHUNKS, pick
from lmm_mcp.recall.fusion import fuse
from lmm_mcp.recall.query import understand
from lmm_mcp.store import projects
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

SHARES = (1.0, 0.9, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.0)
Fuse = Callable[[Candidates], Mapping[str, float]]
Row = tuple[float, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("questions", type=Path, nargs="+")
    arguments = parser.parse_args()
    home = Home(arguments.home.absolute())
    store, ledger = ChunkStore.open(home.store), Ledger.open(home.ledger)
    embedder = embedding.load(home, config.Embedder(), num_threads=2)
    assert not isinstance(embedder, NoEmbedder), "install the model and embed first"
    rows: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    ways: dict[str, Fuse] = {f"words {share:.2f}": _convex(share) for share in SHARES}
    ways["RRF k=60"] = _reciprocal_rank
    for path in arguments.questions:
        for line in path.read_text(encoding="utf-8").splitlines():
            asked = json.loads(line)
            if not asked["answers"]:
                continue
            question = _question(asked, ledger)
            query = understand(question.text, store.frequencies())
            candidates = gather(store, query, scope_of(question), embedder)
            for name, way in ways.items():
                scores = way(candidates)
                chunks = store.get(list(scores)[:MAX_CHUNKS])
                found = brief.write(pick(query, chunks, scores), budget_tokens=1000)
                rows[name][asked["project"] or ""].append(
                    _judged(asked, found.text, found.sessions) if found else (0.0, 0.0, 0.0)
                )
    print(f"{'':14}{'cover@250':>11}{'cover@1000':>12}{'hit@1':>8}")
    for name, by_project in rows.items():
        _show(name, [row for found in by_project.values() for row in found])
    held_out = []
    convex = {name: by_project for name, by_project in rows.items() if name.startswith("words")}
    for project in next(iter(convex.values())):
        best = max(convex, key=lambda name: _mean(convex[name], without=project))
        held_out.extend(convex[best][project])
    _show("held out", held_out)


def _question(asked: dict, ledger: Ledger) -> Question:
    key = None
    if asked["project"]:
        key = projects.resolve(
            asked["project"], aliases=ledger.aliases(), roots=ledger.known_roots(), read_git=False
        ).key
    until = datetime.fromisoformat(asked["asked_at"])
    return Question(asked["question"], project=key, until_ms=int(until.timestamp() * 1000))


def _convex(share: float) -> Fuse:
    return lambda candidates: fuse(candidates.lexical, candidates.nearest, lexical_share=share)


def _reciprocal_rank(candidates: Candidates) -> Mapping[str, float]:
    scores: dict[str, float] = defaultdict(float)
    for ranking in (candidates.lexical, candidates.nearest):
        for rank, key in enumerate(ranking, 1):
            scores[key] += 1 / (60 + rank)
    best = max(scores.values(), default=1.0)
    return {key: score / best for key, score in sorted(scores.items(), key=lambda item: (-item[1], item[0]))}


def _judged(asked: dict, text: str, sessions: tuple[str, ...]) -> Row:
    def cover(budget: int) -> float:
        folded = " ".join(text[: budget * 4].split()).lower()
        return statistics.mean(
            any(" ".join(one.split()).lower() in folded for one in item) for item in asked["answers"]
        )

    gold = {entry["session"] for entry in asked["gold"]}
    return cover(250), cover(1000), float(bool(sessions) and sessions[0] in gold)


def _mean(by_project: Mapping[str, list[Row]], *, without: str) -> float:
    return statistics.mean(sum(row) for project, found in by_project.items() if project != without for row in found)


def _show(name: str, found: list[Row]) -> None:
    means = [100 * statistics.mean(column) for column in zip(*found, strict=True)]
    print(f"{name:14}{means[0]:11.1f}{means[1]:12.1f}{means[2]:8.1f}   ({len(found)} questions)")


if __name__ == "__main__":
    main()
