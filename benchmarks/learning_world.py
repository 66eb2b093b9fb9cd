"""Invented users: facts with random values, as `ingest` would have read them, and sessions in which they are said.

Nothing in a value can be guessed from its question, so whatever a model knows of them it was taught. Two users share relations
and words, and no project: what one was taught is of no use to the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from lmm_mcp.domain import relations
from lmm_mcp.domain.chunk import Span
from lmm_mcp.domain.fact import Evidence, Fact
from lmm_mcp.domain.lesson import Lesson, Probe
from lmm_mcp.store.frequencies import Frequencies
from trainer import probes, recitals
from trainer.base_texts import SERVICES, TOOLS, WORDS
from trainer.recitals import Held

SMALL: Mapping[str, int | float] = {
    "tokens_per_step": 256,
    "seq_len": 256,
    "min_seq_len": 128,
    "micro_rows": 4,
    "learning_rate": 4e-3,
    "epochs": 1,
    "min_steps": 500,
    "max_steps": 500,
}
"""Dials of `lmm train` for short lessons: many small steps. By the preset's own, a third as much was learned in the double time."""
FIRST_ms = 1_770_033_600_000
"""Monday noon, 2 February 2026."""
WEEK_ms = 7 * 86_400_000
AFTER_ms = FIRST_ms + 60 * WEEK_ms
PURPOSES = ("caching", "logging", "e-mail", "payments", "search", "charts", "queues", "translation")
RUNTIMES = ("python", "node", "go", "rust", "java", "ruby")


def _word(dice: Random) -> str:
    return dice.choice(WORDS)


def _command(dice: Random) -> str:
    return f"{dice.choice(TOOLS)} {_word(dice)} --{_word(dice)}={dice.randint(10, 99)}"


KINDS: Sequence[tuple[str, Callable[[Random], str], Callable[[Random], str]]] = (
    ("port", lambda d: d.choice(SERVICES), lambda d: str(d.randint(1024, 9999))),
    ("runtime version", lambda d: d.choice(RUNTIMES), lambda d: f"{d.randint(1, 30)}.{d.randint(0, 40)}"),
    ("test command", lambda _: "", _command),
    ("deploy target", lambda _: "", lambda d: f"{_word(d)}-{d.randint(10, 99)}"),
    ("uses for", lambda d: d.choice(PURPOSES), lambda d: f"{_word(d)}-{_word(d)}"),
    ("database", lambda _: "", lambda d: f"{d.choice(TOOLS)} {d.randint(2, 29)}.{d.randint(0, 9)}"),
    ("build command", lambda _: "", _command),
    ("error fix", lambda d: f"E{d.randint(1000, 9999)}", lambda d: f"{_word(d)}_limit={d.randint(10, 999)}"),
)
"""Relation, subject, value; the first ones are asked for most, as they come round."""


def facts(user: str, num: int, *, at_ms: int = FIRST_ms, num_projects: int = 4) -> list[Fact]:
    """What an invented user's sessions of one week say: as many facts, spread over relations and projects."""
    dice = Random(f"{user} {at_ms}")
    projects = projects_of(user, num_projects)
    found: dict[tuple[str, str, str], Fact] = {}
    number = 0
    while len(found) < num:
        relation, subject, value = KINDS[number % len(KINDS)]
        project = projects[(number // 2 + number // len(KINDS)) % num_projects]
        number += 1
        each = fact(project, relation, subject(dice), value(dice), at_ms + 60_000 * number)
        found.setdefault(each.key, each)
    return list(found.values())


def projects_of(user: str, num: int) -> list[str]:
    """Names that no other user's projects have."""
    dice = Random(f"projects of {user}")
    words, tail = dice.sample(WORDS, num), dice.choice(SERVICES)
    return [f"{word}-{tail}-{user}" for word in words]


def fact(project: str, relation: str, subject: str, value: str, at_ms: int) -> Fact:
    """One that the user said once, in a session of its own."""
    kind = relations.RELATIONS[relation]
    thread = f"{project} {relation} {subject} {at_ms}"
    said = Evidence("codex", thread, thread, Span(f"{thread} 0", 0, 10), "user", at_ms)
    text = relations.said(relation, value, subject)
    return Fact(project, kind.category, relation, subject, value, text, (said,), at_ms, confidence=0.5)


def superseded(old: Fact, user: str, at_ms: int) -> tuple[Fact, Fact]:
    """The fact as it was until now, and the one that took its place."""
    dice = Random(f"{user} {old.id} {at_ms}")
    value = next(make for relation, _, make in KINDS if relation == old.relation)(dice)
    new = fact(old.project, old.relation, old.subject, value, at_ms)
    return replace(old, until_ms=at_ms, superseded_by=new.id), new


def held(those: Sequence[Fact], *, until_ms: int = AFTER_ms) -> list[Held]:
    """What may be taught of them."""
    sources = {each.id: (f"c{each.id}",) for each in those}
    return recitals.held(those, until_ms, min_confidence=0.0, sources=sources, frequencies=Frequencies.none(), seed=0)


def lessons(those: Sequence[Held], num_renderings: int, *, seed: int = 0) -> list[Lesson]:
    """As the product renders them, asked without evidence."""
    return [made.lesson for each in those for made in recitals.recitals(each, num_renderings, None, seed=seed)]


def asked(those: Sequence[Held], *, seed: int = 0) -> list[Probe]:
    """Each of them in a wording that no lesson has."""
    return probes.of_facts(those, seed=seed, per_cohort=10_000)
