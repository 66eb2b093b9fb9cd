"""Facts in, lessons out that ask for them without evidence: the value, what it is of, whether it is another, since when.

A fact that was read once in one wording is known in that wording only; so each is asked for in several (`phrasings.py`),
and half of these are asked with its evidence before the model as well.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from random import Random

from lmm_mcp import prompting
from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.domain.fact import Fact
from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.store.facts import REPOSITORY
from lmm_mcp.store.frequencies import Frequencies
from lmm_mcp.store.terms import terms
from trainer import phrasings
from trainer.choices import Quest, View, brief
from trainer.made import Made, made
from trainer.phrasings import Phrased

_STEPS = ("build command", "lint command", "format command", "test command", "run command", "deploy command")
"""In the order in which they are run."""


@dataclass(frozen=True, slots=True)
class Held:
    """A fact that may be taught, with what stands around it."""

    fact: Fact
    sources: tuple[ChunkId, ...]
    weight: float = 1.0
    """See `weight_of`."""
    other: str = ""
    """A value of the same relation that this fact does not have."""
    was: str = ""
    """The value before this one."""
    topic: str = ""
    """What it is about, where it is a sentence."""
    leads: bool = True
    """Of what can be answered to the same question it is what most sessions say."""
    lent: tuple[tuple[str, str], ...] = ()
    """(agent, thread id) of whatever `other` and `was` were said in: a lesson that names them goes with these, too."""

    @property
    def threads(self) -> tuple[tuple[str, str], ...]:
        """(agent, thread id) of its evidence."""
        return _threads([self.fact])

    @property
    def all_threads(self) -> tuple[tuple[str, str], ...]:
        """These and the lent ones: of a text that may name what held before."""
        return tuple(dict.fromkeys((*self.threads, *self.lent)))

    @property
    def at_ms(self) -> int:
        """When the youngest of its evidence was said."""
        return max((each.at_ms for each in self.fact.evidence), default=0)


def held(
    facts: Sequence[Fact],
    until_ms: int,
    *,
    min_confidence: float,
    sources: Mapping[str, tuple[ChunkId, ...]],
    frequencies: Frequencies,
    seed: int,
    salience: Mapping[ChunkId, float] | None = None,
) -> list[Held]:
    """The facts that may be taught as of `until_ms`: those that hold then, are not volatile, and are sure enough.

    `sources`: passages of each fact by its id; a fact of sessions without one cannot be shown to anybody and is left out.
    `frequencies`: by which the rare words of a sentence are told. `salience`: 0 to 1 by passage.
    """
    told = [known for fact in facts if (known := as_of(fact, until_ms))]
    before = {fact.superseded_by: fact for fact in told if fact.superseded_by and fact.until_ms <= until_ms}
    values: dict[str, list[str]] = defaultdict(list)
    for fact in told:
        values[fact.relation].append(fact.value)
    found = []
    for fact in told:
        is_sure = fact.volatility != "volatile" and fact.confidence >= min_confidence
        # What was read in a repository's own files has no passage, and is its own evidence.
        is_shown = bool(sources.get(fact.id)) or all(each.agent == REPOSITORY for each in fact.evidence)
        if not is_sure or not is_shown or (fact.until_ms and fact.until_ms <= until_ms):
            continue
        dice = Random(f"{seed} {fact.id}")  # noqa: S311 - the same lessons every time
        mine = {each.value.casefold() for each in told if each.key == fact.key}
        others = sorted({value for value in values[fact.relation] if value.casefold() not in mine})
        other = dice.choice(others) if others else ""
        topic = ""
        if phrasings.group_of(fact) in phrasings.BY_TOPIC:
            topic = phrasings.topic_of(fact.value, lambda word: max(frequencies.idf(terms(word)).values(), default=0.0))
        weight, earlier = weight_of(salience or {}, *sources.get(fact.id, ())), before.get(fact.id)
        lenders = [each for each in told if other and (each.relation, each.value) == (fact.relation, other)]
        found.append(
            Held(
                fact,
                sources.get(fact.id, ()),
                weight,
                other,
                earlier.value if earlier else "",
                topic,
                lent=_threads([*lenders, *([earlier] if earlier else [])]),
            )
        )
    return _leading(found)


def _threads(those: Iterable[Fact]) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys((each.agent, each.thread_id) for fact in those for each in fact.evidence))


def as_of(fact: Fact, until_ms: int) -> Fact | None:
    """A fact as it was known then; None where nobody had said it yet."""
    evidence = tuple(each for each in fact.evidence if each.at_ms <= until_ms)
    return replace(fact, evidence=evidence) if evidence and fact.from_ms <= until_ms else None


def _leading(those: Sequence[Held]) -> list[Held]:
    """Tell of what answers the same question which does so best: what a question means must not be left to chance."""
    best: dict[tuple[str, ...], Held] = {}
    for each in those:
        key = _asked_alike(each)
        if key not in best or _standing(each) > _standing(best[key]):
            best[key] = each
    return [replace(each, leads=best[_asked_alike(each)] is each) for each in those]


def _asked_alike(each: Held) -> tuple[str, ...]:
    fact = each.fact
    match phrasings.group_of(fact):
        case "said" | "cause":
            return (*fact.key, each.topic)
        case "defines":
            return (*fact.key[:2], fact.value)
        case _:
            return fact.key


def _standing(each: Held) -> tuple[int, float, int]:
    return each.fact.num_sessions, each.fact.confidence, each.fact.from_ms


def weight_of(salience: Mapping[ChunkId, float], *sources: ChunkId) -> float:
    """What a lesson counts: 0.5 to 2, by the most salient passage that it was made from; as a middling one where none is known.

    Training divides it by the mean of the lesson's slice, so that it moves nothing between slices.

    >>> weight_of({"a": 0.2, "b": 0.9}, "a", "b"), weight_of({}, "a")
    (1.4, 1.0)
    """
    return min(2.0, max(0.5, 0.5 + max((salience[name] for name in sources if name in salience), default=0.5)))


def is_value(fact: Fact) -> bool:
    """Whether it is a value and no sentence: lines without the value do not answer. A sentence may be said in other words.

    >>> is_value(Fact("p", "project fact", "port", "db", "5433", "The port of db is 5433.", (), 0))
    True
    """
    return phrasings.group_of(fact) in ("noun", "noun of", "command", "uses for", "defines")


def name_of(project: str) -> str:
    """A project in a sentence.

    >>> name_of("github.com/ann/shop")
    'shop'
    """
    return project.rsplit("/", 1)[-1]


def quest_of(each: Held, until_ms: int, number: int, book: phrasings.Book = "train") -> Quest | None:
    """The fact as a question whose lines recall will bring."""
    fact = each.fact
    group = phrasings.group_of(fact)
    form = "forward" if each.leads and phrasings.families(book).get(group, {}).get("forward") else "yes"
    asked = phrasings.asks(fact, book, form, number, topic=each.topic)
    if asked is None:
        return None
    return Quest(
        id=f"fact {fact.id}",
        text=asked.text,
        project=fact.project,
        until_ms=until_ms,
        items=(fact.subject,) if fact.relation == "defines" else (fact.value,),
        family=asked.family,
        kind="fact",
        at_ms=each.at_ms,
        category=fact.category,
        memory=fact.id,
        stale=(each.was,) if each.was else (),
        threads=each.threads,
        template_chars=asked.template_chars,
    )


def recitals(each: Held, num: int, shown: View | None, *, seed: int) -> list[Made]:
    """Lessons about one fact in `num` renderings. `shown`: its evidence among others, for the half that may look."""
    dice = Random(f"{seed} {each.fact.id} recite")  # noqa: S311
    found = []
    for n, (form, asked) in enumerate(
        phrasings.renderings(
            each.fact, "train", num, dice, other=each.other, was=each.was, topic=each.topic, leads=each.leads
        )
    ):
        if n % 2 and shown is not None and form == "forward" and (looked := _with_evidence(each, asked, shown)):
            found.append(looked)
        else:
            answer = phrasings.answer_to(each.fact, form, was=each.was)
            found.append(_recited("fact", each, asked, answer, form))
    return found


def lasting(each: Held, elsewhere: str, spoken_there: Sequence[tuple[str, str]] = ()) -> list[Made]:
    """What follows from a correction: what held before and holds now, and that it was said of this project only.

    `elsewhere`: another project, '' where there is none; `spoken_there`: (agent, thread id) of what is known of it.
    """
    found = []
    if each.was and (asked := phrasings.asks(each.fact, "train", "changed", 0)):
        found.append(
            _recited("procedure", each, asked, phrasings.answer_to(each.fact, "changed", was=each.was), "changed")
        )
    if elsewhere and each.topic:
        slots = {"elsewhere": name_of(elsewhere), "topic": each.topic}
        asked = phrasings.phrased("train", "scope", "forward", len(each.fact.value), **slots)
        if asked is not None:
            answer = f"It was said of {name_of(each.fact.project)} only: {each.fact.value}"
            scope = _recited("procedure", each, asked, answer, "scope", project=elsewhere)
            threads = tuple(dict.fromkeys((*scope.lesson.threads, *spoken_there)))
            found.append(replace(scope, lesson=replace(scope.lesson, threads=threads)))
    return found


def steps(those: Iterable[Held]) -> list[Made]:
    """What is run in a project, in order: a lesson for each project of which two steps are known."""
    by_project: dict[str, dict[str, Held]] = defaultdict(dict)
    for each in those:
        if each.fact.relation in _STEPS and not each.fact.subject:
            best = by_project[each.fact.project].get(each.fact.relation)
            if best is None or each.fact.confidence > best.fact.confidence:
                by_project[each.fact.project][each.fact.relation] = each
    found = []
    for project, known in by_project.items():
        order = [known[step] for step in _STEPS if step in known]
        if len(order) < 2:
            continue
        wanted = [each.fact.relation.removesuffix(" command") for each in order]
        text = f"What do I run, in order, to {', '.join(wanted[:-1])} and {wanted[-1]}?"
        answer = "\n".join(f"{n}. {each.fact.value}" for n, each in enumerate(order, 1))
        lesson = Lesson(
            slice="procedure",
            category="procedure",
            prompt=prompting.recalling(text, project),
            answer=answer,
            template=prompting.load("fact").mark,
            family="train/steps",
            memory=f"steps {blake2b(project.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}",
            sources=tuple(dict.fromkeys(source for each in order for source in each.sources)),
            threads=tuple(dict.fromkeys(thread for each in order for thread in each.threads)),
            project=project,
            at_ms=max(each.at_ms for each in order),
            weight=max(each.weight for each in order),
        )
        found.append(made(lesson, text, template_chars=len(text), kind="steps"))
    return found


def statement(each: Held) -> str:
    """The fact as a text that stands for itself, for continued pretraining."""
    return f"{name_of(each.fact.project)}, {each.fact.relation}: {each.fact.text}"


def _with_evidence(each: Held, asked: Phrased, shown: View) -> Made | None:
    quest = quest_of(each, 0, 0)
    if quest is None:
        return None
    quest = replace(quest, text=asked.text, family=asked.family, template_chars=asked.template_chars)
    written = brief(shown, quest, each.weight, "looked up")
    return replace(written, lesson=replace(written.lesson, slice="fact")) if written else None


def _recited(slice_name: str, each: Held, asked: Phrased, answer: str, form: str, project: str = "") -> Made:
    fact = each.fact
    lesson = Lesson(
        slice=slice_name,
        category=fact.category,
        prompt=prompting.recalling(asked.text, project or fact.project),
        answer=answer,
        template=prompting.load("fact").mark,
        family=asked.family,
        memory=fact.id,
        sources=each.sources,
        threads=each.all_threads if form in ("no", "changed") else each.threads,
        project=fact.project,
        at_ms=each.at_ms,
        weight=each.weight,
    )
    own_answer = max(0, len(answer) - sum(len(part) for part in (fact.value, fact.subject) if part in answer))
    return made(lesson, asked.text, template_chars=asked.template_chars + own_answer, kind=form)
