"""What a model said to probes, as one row of figures; and rows as a table. Pure."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.verdict import Outcome
from trainer import measures
from trainer.measures import Rarity

RETRIEVAL = "retrieval"
_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one way to answer. None where there is nothing to measure; shares from 0 to 1."""

    name: str
    num: int
    """Outputs that the figures but the loss rest on."""
    loss_median: float | None
    """Over the tokens of all expected answers, in nats."""
    loss_mean: float | None
    right: float | None
    """Share of facts whose answer is in what is said."""
    strict: float | None
    """Keyword coverage: identifiers, numbers and commands only."""
    loose: float | None
    jaccard: float | None
    """Mean likeness of two outputs: 0 all different. Low with a low coverage means invented."""
    parrot: float
    """Share of the four most frequent outputs."""
    by_category: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """Number, right, strict and loose of each."""


def row_of(
    name: str, probes: Sequence[Probe], outcomes: Sequence[Outcome], losses: Sequence[float], rarity: Rarity
) -> Row:
    """Figures of what was said to facts; choices count for the loss alone, since their answers are numbers of lines."""
    facts = {probe.id: probe for probe in probes if probe.slice == "fact"}
    said = [each for each in outcomes if each.probe_id in facts]
    outputs = [each.output for each in said]
    references = [facts[each.probe_id].answers[0] for each in said]
    strict = [measures.coverage(measures.keywords_strict(r), o) for r, o in zip(references, outputs, strict=True)]
    loose = [measures.coverage(measures.keywords_loose(r, rarity), o) for r, o in zip(references, outputs, strict=True)]
    of: dict[str, list[int]] = {}
    for place, each in enumerate(said):
        of.setdefault(each.category or "other", []).append(place)
    return Row(
        name=name,
        num=len(said),
        loss_median=statistics.median(losses) if losses else None,
        loss_mean=statistics.fmean(losses) if losses else None,
        right=_mean([each.score for each in said]),
        strict=_mean(strict),
        loose=_mean(loose),
        jaccard=measures.diversity(outputs),
        parrot=measures.parrot_share(outputs),
        by_category={
            category: (
                len(places),
                _mean([said[n].score for n in places]),
                _mean([strict[n] for n in places]),
                _mean([loose[n] for n in places]),
            )
            for category, places in sorted(of.items())
        },
    )


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Rows as lines of at most 80 columns, then each category.

    >>> next(table([]))
    '                         loss median   mean  right  strict  loose  alike  parrot'
    """
    yield f"{'':{_WIDTH}} loss median   mean  right  strict  loose  alike  parrot"
    for row in rows:
        yield (
            f"{row.name:{_WIDTH}} {_nats(row.loss_median):>11} {_nats(row.loss_mean):>6} {_share(row.right):>6}"
            f"{_share(row.strict):>8}{_share(row.loose):>7}{_share(row.jaccard):>7}{_share(row.parrot):>8}"
        )
    yield ""
    for category in sorted({name for row in rows for name in row.by_category}):
        num = max(int(row.by_category[category][0] or 0) for row in rows if category in row.by_category)
        yield f"{f'{category} ({num})':{_WIDTH + 2}}{'right':>19}{'strict':>8}{'loose':>7}"
        for row in rows:
            if category in row.by_category:
                _, right, strict, loose = row.by_category[category]
                yield f"  {row.name:{_WIDTH}}{_share(right):>19}{_share(strict):>8}{_share(loose):>7}"
    if rows:
        yield f"right, strict, loose, alike, parrot: in %, of {max(row.num for row in rows)} facts; loss: nats a token, of all expected answers"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
