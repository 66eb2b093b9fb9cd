"""How the lessons and probes of a run came to be, for people (`notes`) and for the gate and the page (`about`). Names no content."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmm_mcp.domain.lesson import SLICES, Lesson
from trainer import probes, replay, selfstudy
from trainer.lessons import Lessons
from trainer.lint import Linted
from trainer.ordering import Mixed


@dataclass(frozen=True, slots=True)
class Account:
    """All that is told about."""

    built: Lessons
    linted: Linted
    mix: replay.Mix
    ordered: Sequence[Lesson]
    """As they are heard in one epoch."""
    order: Mixed
    tokens_per_step: int
    bank: probes.Bank
    num_retired: int
    """Probes of which the answer holds no longer."""
    studied: selfstudy.Studied | None

    def about(self) -> dict[str, Any]:
        """As JSON."""
        counts = Counter((each.lesson.slice, each.part) for each in self.mix.rehearsed)
        return {
            "mix": [[slice_, part, num] for (slice_, part), num in sorted(counts.items())],
            "findings": [
                {"gate": each.gate, "passed": each.passed, "told": each.told, "figures": dict(each.figures)}
                for each in self.linted.findings
            ],
            "left_out": dict(self.built.left_out),
            "dropped": dict(self.linted.dropped),
            "template_share": self.built.template_share,
            "probes_hash": self.bank.hash,
        }

    def notes(self) -> Iterator[str]:
        """In lines."""
        built, studied = self.built, self.studied
        left = {each.slice for each in self.linted.lessons}
        for name in SLICES:  # first, since a model that was never taught a thing looks like one that cannot learn it
            if name not in left:
                yield f"NONE of the kind {name!r} is left of what this memory gives"
        yield f"made {len(built.lessons)} lessons: {_counted(each.slice for each in built.lessons)}"
        yield f"of {len(built.held)} facts; {len(built.texts)} texts; template text {100 * built.template_share:.0f} %"
        if studied is not None:
            yield f"a model on this machine was asked {studied.num_asked} times and added {len(studied.lessons)} lessons, {len(studied.texts)} texts"
        lost: Mapping[str, int] = {**built.left_out, **self.linted.dropped}
        for reason, num in sorted(lost.items(), key=lambda each: -each[1]):
            yield f"left out: {num} {reason}"
        for finding in self.linted.findings:
            yield f"{'well' if finding.passed else 'BAD '}: {finding.told}"
        yield from self.mix.told()
        yield f"heard in one epoch: {len(self.ordered)} ({_counted(each.slice for each in self.ordered)})"
        yield self.order.told(self.tokens_per_step)
        bank = self.bank
        yield f"{len(bank.probes)} probes ({_counted(each.slice for each in bank.probes)}) of {len(bank.cohorts)} weeks, bank {bank.hash}"
        if self.num_retired:
            yield f"{self.num_retired} probes are retired: what they ask for was superseded"


def _counted(names: Iterator[str]) -> str:
    return ", ".join(f"{name} {num}" for name, num in sorted(Counter(names).items()))
