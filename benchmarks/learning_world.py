"""Invented users (trainer/stranger.py) in time: what of theirs is superseded, and how they are asked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from lmm_mcp.domain.fact import Fact
from lmm_mcp.domain.lesson import Probe
from trainer import probes
from trainer.recitals import Held
from trainer.stranger import KINDS, FIRST_ms, WEEK_ms, fact, facts, held, lessons

__all__ = ["KINDS", "SMALL", "FIRST_ms", "WEEK_ms", "asked", "fact", "facts", "held", "lessons", "superseded"]

SMALL: Mapping[str, int | float] = {
    "tokens_per_step": 256,
    "seq_len": 256,
    "min_seq_len": 128,
    "micro_rows": 4,
    "epochs": 1,
    "min_steps": 500,
    "max_steps": 500,
}
"""Dials of `lmm train` for short lessons: many small steps. By the preset's own, a third as much was learned in the double time."""


def superseded(old: Fact, user: str, at_ms: int) -> tuple[Fact, Fact]:
    """The fact as it was until now, and the one that took its place."""
    dice = Random(f"{user} {old.id} {at_ms}")
    value = next(make for relation, _, make in KINDS if relation == old.relation)(dice)
    new = fact(old.project, old.relation, old.subject, value, at_ms)
    return replace(old, until_ms=at_ms, superseded_by=new.id), new


def asked(those: Sequence[Held], *, seed: int = 0) -> list[Probe]:
    """Each of them in a wording that no lesson has."""
    return probes.of_facts(those, seed=seed, per_cohort=10_000)
