"""The registry of relations: what a fact can be a value of, how that is said in a sentence, and how long it tends to hold."""

from collections.abc import Mapping
from dataclasses import dataclass

TRUST: Mapping[str, int] = {
    "user": 4,
    "command": 3,
    "output": 3,
    "error": 3,
    "edit": 3,
    "note": 3,
    "file": 2,
    "agent": 1,
    "summary": 1,
    "thought": 1,
}
"""How much is believed of whom, by the role of the evidence: the user before what was seen to happen, that before what a
file says, and what an agent says last. A note is no more than what was seen: an agent wrote it, whoever told it to."""


@dataclass(frozen=True, slots=True)
class Relation:
    """One kind of statement about a project."""

    name: str
    category: str
    """One of `lmm_mcp.domain.fact.CATEGORIES`."""
    sentence: str
    """With `{value}` and, where the subject is told, `{subject}`. It brings no name of its own that evidence would lack."""
    is_functional: bool = False
    """Only one value holds at a time for a subject: a newer one, if it is at least as trusted, takes the place of the older."""
    volatility: str = "stable"
    """`stable`, `slow` or `volatile`; what is volatile is never trained on."""


_ALL = (
    Relation("test command", "procedure", "Tests are run with `{value}`.", volatility="slow"),
    Relation("build command", "procedure", "It is built with `{value}`.", volatility="slow"),
    Relation("lint command", "procedure", "The code is checked with `{value}`.", volatility="slow"),
    Relation("format command", "procedure", "The code is formatted with `{value}`.", volatility="slow"),
    Relation("run command", "procedure", "It is started with `{value}`.", volatility="slow"),
    Relation("deploy command", "procedure", "It is deployed with `{value}`.", volatility="slow"),
    Relation("routine command", "procedure", "A command that is run here is `{value}`.", volatility="slow"),
    Relation("package manager", "project fact", "Packages are installed with {value}.", True, "slow"),
    Relation("runtime version", "project fact", "The version of {subject} is {value}.", True, "slow"),
    Relation("port", "project fact", "The port of {subject} is {value}.", True, "slow"),
    Relation("database", "project fact", "The database is {value}.", True, "slow"),
    Relation("deploy target", "project fact", "It is deployed to {value}.", True, "slow"),
    Relation("uses", "project fact", "{value} is used here.", volatility="slow"),
    Relation("uses for", "project fact", "For {subject}, {value} is used.", True, "slow"),
    Relation("avoids", "preference", "{value} is not used here.", volatility="slow"),
    Relation("standing rule", "preference", "Standing rule: {value}"),
    Relation("preference", "preference", "Preferred: {value}"),
    Relation("decision", "decision", "Decided: {value}"),
    Relation("correction", "correction", "Corrected by the user: {value}"),
    Relation("error fix", "error and fix", "`{subject}` was fixed by `{value}`."),
    Relation("root cause", "error and fix", "Root cause: {value}"),
    Relation("workaround", "error and fix", "Workaround: {value}"),
    Relation("open task", "open task", "Left open: {value}", volatility="volatile"),
    Relation("description", "codebase structure", "{value}", True, "slow"),
    Relation("script", "codebase structure", "The script {subject} runs `{value}`.", True, "slow"),
    Relation("entry point", "codebase structure", "The command {subject} starts `{value}`.", True, "slow"),
    Relation("setting", "codebase structure", "{subject} is {value}.", True, "volatile"),
    Relation("depends on", "codebase structure", "It depends on {value}.", volatility="slow"),
    Relation("defines", "codebase structure", "`{subject}` defines `{value}`.", volatility="slow"),
)
RELATIONS: Mapping[str, Relation] = {each.name: each for each in _ALL}
CHANGING = frozenset({"port", "database", "deploy target", "package manager", "runtime version", "uses for", "setting"})
"""Functional relations whose values are short enough to be known in a text."""
EXCLUDED_BY_AVOIDING = frozenset({"uses", "uses for", "package manager", "database", "deploy target"})
"""Relations whose value a fact of `avoids` with the same value takes away, and the other way round."""


def said(relation: str, value: str, subject: str = "") -> str:
    """The sentence that says it.

    >>> said("port", "5433", "postgres"), said("decision", "We keep carts in Redis, because they expire.")
    ('The port of postgres is 5433.', 'Decided: We keep carts in Redis, because they expire.')
    """
    return RELATIONS[relation].sentence.format(subject=subject, value=value)


def trust_in(role: str) -> int:
    """How much is believed of evidence with this role; an unknown one counts as an agent's.

    >>> trust_in("user") > trust_in("output") > trust_in("agent")
    True
    """
    return TRUST.get(role, 1)
