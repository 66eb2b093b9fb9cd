"""Questions about facts in many words: families of phrasings written by hand, those of lessons and those of probes apart.

The families are data (`prompts/phrasings_train.json`, `prompts/phrasings_probe.json`): by how a fact is asked about, then by
the form of the question. What a model knows and can say only in the words it was taught is not known.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from random import Random
from typing import Literal

from lmm_mcp.domain.fact import Fact
from lmm_mcp.errors import PromptError
from lmm_mcp.store.terms import STOP_WORDS

Book = Literal["train", "probe"]
FORMS = ("forward", "reverse", "yes", "no", "as of", "changed")
"""What is asked: the value; what the value is of; whether it is that one; whether it is another one; since when; what it was."""
_GROUPS: Mapping[str, str] = {
    "uses": "uses",
    "uses for": "uses for",
    "avoids": "avoids",
    "standing rule": "said",
    "preference": "said",
    "decision": "said",
    "correction": "said",
    "root cause": "cause",
    "workaround": "cause",
    "routine command": "routine",
    "open task": "said",
    "error fix": "fix",
    "defines": "defines",
    "depends on": "depends",
}
_NO_FORWARD = frozenset({"uses", "avoids", "depends", "routine"})
BY_TOPIC = frozenset({"said", "cause"})
"""Groups of whole sentences, which are asked about by a few of their words."""
MAX_TOPIC_words = 3
_WORD = re.compile(r"`[^`\s]+`|\w[\w./:@'’-]*\w|\w")
_FILLERS = frozenset(
    """actually already always another better both call case come else ensure ever every example follow following good have
    instead issue itself keep less like look make makes making maybe means mine much must need needs never next none often ours
    okay only otherwise part please prefer really right same sense should since some still sure take than thing things
    think this time used user using want wants well when whether which while without work works would wrong yours""".split()
)
"""Words of everyday that name no topic, though some are rare among talk of code."""


@dataclass(frozen=True, slots=True)
class Phrased:
    """A question in words of one family."""

    text: str
    family: str
    """`train/noun/forward/2`: the book, how it is asked about, the form, and the number of the phrasing."""
    template_chars: int
    """How many of its characters come from the family, not from the memory."""


@cache
def families(book: Book) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """All phrasings of a book, by group and form. Raises PromptError where its file is missing or no such table."""
    try:
        found = json.loads((resources.files("prompts") / f"phrasings_{book}.json").read_text(encoding="utf-8"))
        return {group: {form: tuple(each) for form, each in forms.items()} for group, forms in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as problem:
        raise PromptError(f"the phrasings {book} cannot be read: {problem}. Install this program again.") from problem


def phrased(book: Book, group: str, form: str, number: int, **slots: str) -> Phrased | None:
    """The phrasing of that number (counted round), filled; None where the group has none of the form."""
    templates = families(book).get(group, {}).get(form, ())
    if not templates:
        return None
    at = number % len(templates)
    own = len(re.sub(r"\{\w+\}", "", templates[at]))
    return Phrased(templates[at].format(**slots), f"{book}/{group}/{form}/{at}", own)


def group_of(fact: Fact) -> str:
    """How a fact is asked about: a group of `families`.

    >>> from dataclasses import replace
    >>> port = Fact("p", "project fact", "port", "postgres", "5433", "The port of postgres is 5433.", (), 0)
    >>> group_of(port), group_of(replace(port, relation="test command", subject=""))
    ('noun of', 'command')
    """
    if fact.relation in _GROUPS:
        return _GROUPS[fact.relation]
    if fact.relation.endswith(" command") and not fact.subject:
        return "command"
    return "noun of" if fact.subject else "noun"


def asks(fact: Fact, book: Book, form: str, number: int, *, other: str = "", topic: str = "") -> Phrased | None:
    """Ask about a fact. None where that cannot be asked.

    `other`: a value that it does not have, for the form `no`. `topic`: what a sentence is about, as `topic_of` finds it.

    >>> port = Fact("p", "project fact", "port", "postgres", "5433", "The port of postgres is 5433.", (), 0)
    >>> asks(port, "train", "forward", 0).text
    'What is the port of postgres?'
    """
    group = group_of(fact)
    if form == "no" and not other:
        return None
    topic = topic or (topic_of(fact.value) if group in BY_TOPIC else "")
    if group in BY_TOPIC and not topic:
        return None
    slots = {"what": fact.relation, "What": fact.relation.capitalize(), "subject": fact.subject, "value": fact.value}
    return phrased(book, group, form, number, **slots, other=other, topic=topic)


def answer_to(fact: Fact, form: str, *, was: str = "") -> str:
    """What is right. `was`: the value before this one, for the form `changed`."""
    match form:
        case "forward":
            return fact.subject if fact.relation == "defines" else fact.value
        case "yes":
            return fact.text if fact.relation == "avoids" else f"Yes. {fact.text}"
        case "no":
            return f"No. {fact.text}"
        case "as of":
            return f"{fact.text.rstrip('.')}, since {day(fact.from_ms)}." if fact.from_ms else fact.text
        case "changed":
            return f"It was {was} until {day(fact.from_ms)}, now it is {fact.value}."
        case _:
            return fact.text


def topic_of(said: str, rarity: Callable[[str], float] = len) -> str:
    """A few words of a sentence that name what it is about: the rarest, in their order. By length where rarity is not known.

    >>> topic_of("We keep carts in Redis, because they expire and nobody misses them.")
    'expire nobody'
    """
    words = [word for word in _WORD.findall(said) if len(word) > 3 and "'" not in word and "’" not in word]
    words = [word for word in words if word.lower() not in STOP_WORDS and word.lower() not in _FILLERS]
    distinct = list(dict.fromkeys(words))
    num = min(MAX_TOPIC_words, max(1, len(distinct) // 2))  # not all that is said, or the question would be the answer
    chosen = set(sorted(distinct, key=lambda word: (-rarity(word), words.index(word)))[:num])
    return " ".join(word for word in dict.fromkeys(words) if word in chosen)


def day(at_ms: int) -> str:
    """The day of a moment, UTC.

    >>> day(1_772_000_000_000)
    '2026-02-25'
    """
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def renderings(
    fact: Fact,
    book: Book,
    num: int,
    dice: Random,
    *,
    other: str = "",
    was: str = "",
    topic: str = "",
    leads: bool = True,
) -> list[tuple[str, Phrased]]:
    """As many different questions about a fact, with their forms: forward ones for the most part, the rest in turns.

    `leads`: nothing else is as good an answer to a forward question; else it is asked about by its value only.
    """
    plan = ["forward", "reverse", "forward", "yes", "forward", "no", "forward", "as of", "forward", "forward"]
    if was:
        plan.insert(1, "changed")
    if not leads or group_of(fact) in _NO_FORWARD:
        plan = ["yes", "reverse", "no", "as of", "yes", "reverse"]
    start = dice.randrange(60)
    found: dict[str, tuple[str, Phrased]] = {}
    for n, form in enumerate(plan * 2):
        if len(found) >= num:
            break
        if form == "changed" and not was:
            continue
        asked = asks(fact, book, form, start + n, other=other, topic=topic)
        if asked is not None and asked.text not in found:
            found[asked.text] = (form, asked)
    return list(found.values())


def template_share(parts: Sequence[tuple[int, int]]) -> float:
    """Share of template text: of (template characters, all characters) of each question and answer, 0 to 1."""
    return sum(own for own, _ in parts) / (sum(all_ for _, all_ in parts) or 1)
