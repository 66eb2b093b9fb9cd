"""Learns the order of lines from a user's own sessions (`trainer.later`), and decides by itself whether it is used.

What is learnt is `recall.reranking.Model`, fitted listwise: softmax over the lines of a question against those that answered.
It is kept only where it passes two rulers on what it was not fitted on, each by a paired bootstrap over questions:

- other projects: what was needed comes sooner than in the order of recall as it is;
- other kinds: fitted without a kind of question (and in other projects), it does no harm to that kind, and good to all together.

The second one is what counts. What somebody will ask is a kind that no history shows, and a model may gain much on
each kind that it knows by learning how answers to that kind look: one that gained 12 points in other projects lost 17 on 102
questions about real sessions (docs/recall-log.md).

Axes: Q questions, L lines, F features.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lmm_mcp.domain.recall import CHARS_PER_TOKEN, Question
from lmm_mcp.evaluation import history, runs
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.pipeline import Recaller, Search
from lmm_mcp.recall.reranking import FEATURES, FEATURES_VERSION, MAX_DEVIATIONS, NUM_RERANKED, Matrix, Model, features
from trainer.later import Later

BUDGETS_tokens = (250, 1000)
FENCE_chars = 300
"""What a brief takes beside its lines, about."""
MARK_chars = 14
NUM_FOLDS = 4
MIN_QUESTIONS = 150
"""Fewer decide nothing, whatever they say."""
MIN_OF_KIND = 20
"""Fewer of a kind are learnt from, and not judged by."""
LINE = 0.5
"""What a line is worth that answers by itself; one that holds a needed item is worth one over the root of how many do."""


@dataclass(frozen=True, slots=True)
class Case:
    """The lines that a question found, and what each is worth."""

    id: str
    kind: str
    project: str
    features_LF: Matrix
    worth_L: Matrix
    items_L: tuple[frozenset[int], ...]
    """Which of the things that are needed each line holds."""
    chars_L: Matrix
    """How much room each takes in a brief."""


@dataclass(frozen=True, slots=True)
class Dials:
    """How it is fitted. `decay`: weight of the squared weights in the loss."""

    steps: int = 100
    batch: int = 128
    lr: float = 0.02
    decay: float = 1e-3
    seed: int = 17


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a model is used, and the gains that say so: by ruler, then figure or kind."""

    kept: bool
    reasons: tuple[str, ...]
    gains: Mapping[str, Mapping[str, runs.Mean]]
    num: Mapping[str, int]
    """Questions of each kind."""


def cases(recaller: Recaller, asked: Iterable[Later], should_stop: Callable[[], object] = lambda: "") -> Iterator[Case]:
    """Ask each question and look what its lines are worth; those that found nothing of worth are left out."""
    for later in asked:
        if should_stop():
            return
        search = recaller.search(Question(later.text, later.project, until_ms=later.until_ms))
        lines = search.lines(budget_tokens=BUDGETS_tokens[-1], without=("supersession", "reranker"))
        if (case := case_of(later, search, lines[:NUM_RERANKED])) is not None:
            yield case


def case_of(later: Later, search: Search, lines: Sequence[Evidence]) -> Case | None:
    """What the lines are worth; None where all are worth the same."""
    if later.lines:
        right = [at for at, each in enumerate(lines) if (each.chunk.id, each.number) in later.lines]
        items = [frozenset({at} if at in right else ()) for at in range(len(lines))]
        worth_L = np.array([LINE * bool(held) for held in items], np.float32)
    else:
        items = [
            frozenset(n for n, item in enumerate(later.needed) if history.stands_in(item, each.text)) for each in lines
        ]
        num_with = Counter(n for held in items for n in held)
        worth_L = np.array([sum(num_with[n] ** -0.5 for n in held) for held in items], np.float32)
    if not len(lines) or worth_L.min() == worth_L.max():
        return None
    chars_L = np.array([len(each.text) + MARK_chars for each in lines], np.float32)
    found = features(lines, search.query, search.candidates)
    return Case(later.id, later.kind, later.project, found, worth_L, tuple(items), chars_L)


def fit(found: Sequence[Case], dials: Dials) -> Model:
    """Fit a model to the cases. The same cases give the same model."""
    torch.manual_seed(dials.seed)
    draw = torch.Generator().manual_seed(dials.seed)
    all_LF = np.concatenate([case.features_LF for case in found])
    mean_F, scale_F = all_LF.mean(0), all_LF.std(0) + 1e-3
    longest = max(len(case.worth_L) for case in found)
    z_QLF = torch.zeros(len(found), longest, len(FEATURES))
    score_QL, worth_QL = torch.zeros(len(found), longest), torch.zeros(len(found), longest)
    is_line_QL = torch.zeros(len(found), longest, dtype=torch.bool)
    for q, case in enumerate(found):
        num = len(case.worth_L)
        z = np.clip((case.features_LF - mean_F) / scale_F, -MAX_DEVIATIONS, MAX_DEVIATIONS)
        z_QLF[q, :num], score_QL[q, :num] = torch.from_numpy(z), torch.from_numpy(case.features_LF[:, 0])
        worth_QL[q, :num], is_line_QL[q, :num] = torch.from_numpy(case.worth_L), True
    target_QL = worth_QL / worth_QL.sum(1, keepdim=True)
    # Every kind counts the same, however many there are of it.
    num_of = Counter(case.kind for case in found)
    weight_Q = torch.tensor([1 / num_of[case.kind] for case in found])
    weight_F = torch.zeros(len(FEATURES), requires_grad=True)
    base = torch.tensor(3.0, requires_grad=True)
    optimizer = torch.optim.Adam([weight_F, base], lr=dials.lr)
    for step in range(dials.steps):
        at = torch.randperm(len(found), generator=draw)[: dials.batch]
        scores = base * score_QL[at] + z_QLF[at] @ weight_F
        logs = torch.log_softmax(scores.masked_fill(~is_line_QL[at], -1e9), 1).masked_fill(~is_line_QL[at], 0)
        loss = (
            -(target_QL[at] * logs).sum(1) @ weight_Q[at] / weight_Q[at].sum() + dials.decay * weight_F.square().sum()
        )
        optimizer.param_groups[0]["lr"] = dials.lr * (1 - step / dials.steps)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    fitted_F = weight_F.detach().numpy()
    return Model(mean_F.astype(np.float32), scale_F.astype(np.float32), fitted_F, float(base.detach()))


def figures(case: Case, scores_L: npt.NDArray[Any]) -> dict[str, float]:
    """`cover@N`: the share of what was needed, and found at all, that stands in the first N tokens in this order."""
    wanted = frozenset().union(*case.items_L)
    told = {}
    for budget in BUDGETS_tokens:
        held: set[int] = set()
        room = budget * CHARS_PER_TOKEN - FENCE_chars
        for at in np.argsort(-scores_L, kind="stable").tolist():
            if case.chars_L[at] <= room:
                room -= case.chars_L[at]
                held |= case.items_L[at]
        told[f"cover@{budget}"] = len(held) / len(wanted)
    return told


def judge(found: Sequence[Case], dials: Dials, say: Callable[[str], None] = lambda _: None) -> Decision:
    """Fit and judge in turns, see the module, and decide."""
    before = {case.id: figures(case, case.features_LF[:, 0]) for case in found}
    fold_of = _folds(found)
    gains: dict[str, dict[str, list[float]]] = {"other projects": {}, "other kinds": {}}
    num = Counter(case.kind for case in found)
    judged_kinds = sorted(kind for kind, count in num.items() if count >= MIN_OF_KIND)
    for fold in range(NUM_FOLDS):
        mine = [case for case in found if fold_of[case.project] == fold]
        rest = [case for case in found if fold_of[case.project] != fold]
        for ruler, kinds in (("other projects", ("",)), ("other kinds", tuple(judged_kinds))):
            for kind in kinds:
                learnt = [case for case in rest if case.kind != kind]
                judged = [case for case in mine if kind in ("", case.kind)]
                if not learnt or not judged:
                    continue
                model = fit(learnt, dials)
                for case in judged:
                    after = figures(case, model.scores(case.features_LF))
                    for figure, value in after.items():
                        gain = value - before[case.id][figure]
                        for name in (figure, f"{case.kind} {figure}"):
                            gains[ruler].setdefault(name, []).append(gain)
        say(f"judged in {fold + 1} of {NUM_FOLDS} parts of the projects")
    means = {ruler: {name: runs.mean(values) for name, values in each.items()} for ruler, each in gains.items()}
    return decided(means, dict(num))


def decided(gains: Mapping[str, Mapping[str, runs.Mean]], num: Mapping[str, int]) -> Decision:
    """Whether such gains are enough; pure."""
    reasons = []
    if (total := sum(num.values())) < MIN_QUESTIONS:
        reasons.append(f"{total} questions are too few to decide, {MIN_QUESTIONS} are needed")
    first = f"cover@{BUDGETS_tokens[0]}"
    for ruler, found in gains.items():
        whole = found.get(first)
        if whole is None:
            reasons.append(f"{ruler}: nothing could be judged")
        elif whole.low <= 0:
            reasons.append(f"{ruler}: {first} {_told(whole)}, not surely better")
        reasons += [
            f"{ruler}: {name} {_told(each)}, surely worse" for name, each in sorted(found.items()) if each.high < 0
        ]
    return Decision(not reasons, tuple(reasons), gains, num)


def as_json(
    model: Model, decision: Decision, found: Sequence[Case], embedder_version: str, dials: Dials
) -> dict[str, Any]:
    """For `recall.reranking.load`, and for people: figures and hashes, no text."""
    return {
        "kept": decision.kept,
        "reasons": list(decision.reasons),
        "gains": {
            ruler: {name: [round(x, 4) for x in (m.value, m.low, m.high)] for name, m in each.items()}
            for ruler, each in decision.gains.items()
        },
        "questions": dict(decision.num),
        "fitted_on": fingerprint(found),
        "embedder": embedder_version,
        "features": FEATURES_VERSION,
        "seed": dials.seed,
        "made_ms": time.time_ns() // 1_000_000,
        "model": model.as_json(),
    }


def fingerprint(found: Sequence[Case]) -> str:
    """Names what a model was fitted on: the same questions with the same lines give the same."""
    told = [(case.id, case.kind, [round(float(x), 3) for x in case.worth_L]) for case in found]
    return hashlib.sha256(json.dumps(sorted(told)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _folds(found: Sequence[Case]) -> dict[str, int]:
    """Of every project its fold, the largest projects first to where there is least."""
    load = [0] * NUM_FOLDS
    fold_of = {}
    for project, count in sorted(Counter(case.project for case in found).items(), key=lambda item: (-item[1], item[0])):
        fold_of[project] = load.index(min(load))
        load[fold_of[project]] += count
    return fold_of


def _told(mean: runs.Mean) -> str:
    return f"{100 * mean.value:+.1f} ({100 * mean.low:+.1f} to {100 * mean.high:+.1f})"
