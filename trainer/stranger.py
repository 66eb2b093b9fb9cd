"""An invented user: facts with random values, as `ingest` would have read them, and lessons about them as the product renders them.

Nothing in a value can be guessed from its question, so whatever a model knows of them it was taught. Two users share relations
and words, and no project: what one was taught is of no use to the other. A placebo is taught the lessons of such a user.
"""

from collections.abc import Callable, Sequence
from random import Random

from lmm_mcp.domain import relations
from lmm_mcp.domain.chunk import Span
from lmm_mcp.domain.fact import Evidence, Fact
from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.store.frequencies import Frequencies
from trainer import base_texts, recitals
from trainer.base_texts import SERVICES, TOOLS, WORDS
from trainer.recitals import Held

FIRST_ms = 1_770_033_600_000
"""Monday noon, 2 February 2026."""
WEEK_ms = 7 * 86_400_000
AFTER_ms = FIRST_ms + 60 * WEEK_ms
PLACEBO, SEED = "u90001", 90_001
"""The user whose lessons a placebo learns: no base was made with that seed."""
NUM_FACTS, NUM_RENDERINGS, NUM_SHOWN = 60, 6, 400
MADE = f"stranger 1, {NUM_FACTS} facts {NUM_RENDERINGS} times, {NUM_SHOWN} shown"
"""Another text means other lessons: placebos are kept by it."""
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
    dice = Random(f"{user} {at_ms}")  # noqa: S311 - invented, and the same every time
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
    dice = Random(f"projects of {user}")  # noqa: S311
    words, tail = dice.sample(WORDS, num), dice.choice(SERVICES)
    return [f"{word}-{tail}-{user}" for word in words]


def fact(project: str, relation: str, subject: str, value: str, at_ms: int) -> Fact:
    """One that the user said once, in a session of its own."""
    kind = relations.RELATIONS[relation]
    thread = f"{project} {relation} {subject} {at_ms}"
    said = Evidence("codex", thread, thread, Span(f"{thread} 0", 0, 10), "user", at_ms)
    text = relations.said(relation, value, subject)
    return Fact(project, kind.category, relation, subject, value, text, (said,), at_ms, confidence=0.5)


def held(those: Sequence[Fact], *, until_ms: int = AFTER_ms) -> list[Held]:
    """What may be taught of them."""
    sources = {each.id: (f"c{each.id}",) for each in those}
    return recitals.held(those, until_ms, min_confidence=0.0, sources=sources, frequencies=Frequencies.none(), seed=0)


def lessons(those: Sequence[Held], num_renderings: int, *, seed: int = 0) -> list[Lesson]:
    """As the product renders them, asked without evidence."""
    return [made.lesson for each in those for made in recitals.recitals(each, num_renderings, None, seed=seed)]


def of_placebo() -> list[Lesson]:
    """What a placebo learns, in one order always: facts to know by heart, and choices and briefs about what was never said.

    The latter so that it can name lines at all: else it would lose to any model that was taught to.
    """
    by_heart = lessons(held(facts(PLACEBO, NUM_FACTS, num_projects=8)), NUM_RENDERINGS)
    shown = [each for each in base_texts.items(SEED, NUM_SHOWN) if each.slice in ("choice", "brief")]
    found = [*by_heart, *shown]
    Random(SEED).shuffle(found)  # noqa: S311
    return found
