"""A question and the lines that recall brings for it in; what a chooser should have said, and the brief, out.

The lines are those that are served, in the order in which they are served. Which of them answer is known by what is needed:
a line answers if it holds something that its asker then used, or the value of the fact that is asked for. The best line is
the one that holds most of it, the next the one that adds most. So a model that learns from these learns what the
ranking does not know: which of ten lines about one matter were of use.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

from lmm_mcp import prompting
from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.domain.recall import Question
from lmm_mcp.domain.writing import MAX_CHOSEN, MAX_OFFERED, MAX_OFFERED_chars, Offered
from lmm_mcp.evaluation.history import stands_in
from lmm_mcp.model.validating import NOTHING, objection, sentences
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.offering import offer
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.recall.remarks import sentences as sentences_of
from lmm_mcp.store.terms import terms
from trainer.made import Made, made

NOBODY = "none"
"""What a chooser answers where no line does."""
NUM_SERVED = 40
"""Lines of recall that are looked at: those behind the ones offered are the next hardest distractors."""
SHUFFLED = 0.5
"""Share of further views in which the order of the ranking is lost."""
MAX_QUOTED = 3
MIN_TOPIC_terms = 4
"""Of a question with so few terms a line that shares any is on its topic."""


@dataclass(frozen=True, slots=True)
class Quest:
    """A question, and what tells that a line answers it."""

    id: str
    text: str
    project: str
    until_ms: int
    """Nothing later may answer."""
    items: tuple[str, ...]
    """A line answers that holds one of these; none: nothing answers."""
    family: str
    kind: str
    at_ms: int
    """When the youngest thing that went into it was said: no training before this may know it."""
    category: str = ""
    memory: str = ""
    """Id of the fact that is asked for; '' = the passage of the best line."""
    stale: tuple[str, ...] = ()
    """Values that held before: a line with one of these and none of `items` must not be chosen."""
    threads: tuple[tuple[str, str], ...] = ()
    """Whose words the question is."""
    template_chars: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """The lines as a model is shown them, and the numbers of those that answer, best first."""

    lines: tuple[Evidence, ...]
    offered: tuple[Offered, ...]
    numbers: tuple[int, ...]


def serve(recaller: Recaller, quest: Quest) -> list[Evidence]:
    """What recall brings, as it would be served; none where it would be silent."""
    return recaller.evidence(asked(quest))[:NUM_SERVED]


def asked(quest: Quest) -> Question:
    """The question as recall takes it."""
    return Question(quest.text, quest.project, until_ms=quest.until_ms)


def view(lines: Sequence[Evidence], items: Sequence[str]) -> View:
    """Number the lines in the order given and find those that answer."""
    offered = tuple(offer(each, number) for number, each in enumerate(lines[:MAX_OFFERED], start=1))
    return View(tuple(lines[:MAX_OFFERED]), offered, answering(offered, items))


def answering(offered: Sequence[Offered], items: Sequence[str]) -> tuple[int, ...]:
    """Numbers of the lines that answer: the one that holds most of `items`, then the one that adds most, and so on.

    >>> line = Offered(1, "a" * 16, 0, "agent", "edit till.py", "")
    >>> answering([line, replace(line, number=2, text="till.py and cart.py"), replace(line, number=3)], ["till.py", "cart.py"])
    (2,)
    """
    holding = {each.number: {item for item in items if _holds(item, each.text)} for each in offered}
    chosen: list[int] = []
    left = set(items)
    while left and len(chosen) < MAX_CHOSEN:
        best = max(holding, key=lambda number: (len(holding[number] & left), -number), default=0)
        if not best or not holding[best] & left:
            break
        chosen.append(best)
        left -= holding[best]
    return tuple(chosen)


def as_served(lines: Sequence[Evidence], quest: Quest, dice: Random) -> View | None:
    """The lines offered, with an answer brought in from behind them where they hold none; None where nothing answers."""
    found = view(lines, quest.items)
    if found.numbers:
        return found
    behind = [each for each in lines[MAX_OFFERED:] if _answers(each, quest.items)]
    if not behind:
        return None
    kept = list(lines[: MAX_OFFERED - 1])
    kept.insert(dice.randrange(len(kept) + 1), behind[0])
    return view(kept, quest.items)


def among_others(lines: Sequence[Evidence], quest: Quest, dice: Random) -> View | None:
    """The same answer among other lines, half the time in any order: where it stands must tell something, and not all.

    None where nothing answers.
    """
    gold = [each for each in lines if _answers(each, quest.items)]
    others = [each for each in lines if not _answers(each, quest.items)]
    if not gold or len(others) < 2:
        return None
    kept = gold[: dice.randint(1, min(3, len(gold)))]
    kept += dice.sample(others, min(len(others), MAX_OFFERED - len(kept)))
    if dice.random() < SHUFFLED:
        dice.shuffle(kept)
    else:
        chosen = {(each.chunk.id, each.number) for each in kept}
        kept = [each for each in lines if (each.chunk.id, each.number) in chosen]
    return view(kept, quest.items)


def without_answer(lines: Sequence[Evidence], quest: Quest) -> View | None:
    """What is left when the lines that answer are taken out: the hardest case of nothing being there.

    For questions about facts. What a session needed is not all that answers it: of its lines others may do as well.
    """
    left = [each for each in lines if not _answers(each, (*quest.items, *quest.stale))]
    return View(tuple(left[:MAX_OFFERED]), view(left, ()).offered, ()) if len(left) >= 2 else None


def off_topic(lines: Sequence[Evidence], quest: Quest) -> View | None:
    """Lines that recall brought for another question of the project, without those that touch this one: nothing answers."""
    about = frozenset(terms(quest.text))
    most = 1 if len(about) > MIN_TOPIC_terms else 0
    left = [each for each in lines if len(about.intersection(terms(each.text))) <= most]
    return without_answer(left, quest)


def contested(found: View, quest: Quest, other: str, before_ms: int, dice: Random) -> View | None:
    """The best line also in an older version with another value: the newer one must be chosen. For choosing only."""
    if not found.numbers or not other or not quest.items:
        return None
    best = found.lines[found.numbers[0] - 1]
    if quest.items[0] not in best.text[:MAX_OFFERED_chars]:
        return None
    older = replace(
        best,
        text=best.text.replace(quest.items[0], other),
        chunk=replace(best.chunk, first_ms=min(best.chunk.first_ms, before_ms), last_ms=before_ms),
        superseded=dice.random() < 0.5,
    )
    kept = [each for n, each in enumerate(found.lines, 1) if n in found.numbers or n < MAX_OFFERED][: MAX_OFFERED - 1]
    kept.insert(dice.randrange(len(kept) + 1), older)
    return view(kept, quest.items)


def choice(found: View, quest: Quest, weight: float = 1.0, kind: str = "") -> Made:
    """Ask which lines answer."""
    answer = " ".join(map(str, found.numbers)) or NOBODY
    prompt = prompting.choosing(quest.text, found.offered)
    clean = prompting.choosing(quest.text, _gold(found)) if found.numbers else ""
    return _lesson("choice", "choose", found, quest, prompt, answer, clean, weight, kind or quest.kind)


def brief(found: View, quest: Quest, weight: float = 1.0, kind: str = "") -> Made | None:
    """Ask for the brief: what the best lines say, word for word. None where no sentence of theirs stands by itself."""
    answer = "\n".join(_quotes(found, quest.items)) if found.numbers else NOTHING  # as `lmm_mcp.model.copying` has it
    if not answer:
        return None
    prompt = prompting.writing(quest.text, found.offered)
    clean = prompting.writing(quest.text, _gold(found)) if found.numbers else ""
    return _lesson("brief", "brief", found, quest, prompt, answer, clean, weight, kind or quest.kind)


def _quotes(found: View, items: Sequence[str]) -> list[str]:
    by_number = {each.number: each for each in found.offered}
    told: list[str] = []
    for number in found.numbers[:MAX_QUOTED]:
        said = _quote(by_number[number].text, items)
        cited = f"{said} [{number}]."
        written = sentences(cited)
        if said and len(written) == 1 and not objection(written[0], found.offered):
            told.append(cited)
    return told


def _quote(text: str, items: Sequence[str]) -> str:
    """The sentence of a line that holds most of what is needed; the line itself where no sentence stands by itself."""
    whole = [piece for piece in sentences_of(text) if piece in text]
    best = max(whole, key=lambda piece: sum(_holds(item, piece) for item in items), default="")
    if not any(_holds(item, best) for item in items):
        best = text
    return best.strip(" …").rstrip(".!?:;,")


def _gold(found: View) -> list[Offered]:
    return [each for each in found.offered if each.number in found.numbers]


def _lesson(
    slice_name: str,
    prompt_name: str,
    found: View,
    quest: Quest,
    prompt: str,
    answer: str,
    clean: str,
    weight: float,
    kind: str,
) -> Made:
    best = found.lines[found.numbers[0] - 1].chunk.id if found.numbers else ""
    lesson = Lesson(
        slice=slice_name,
        category=quest.category,
        prompt=prompt,
        answer=answer,
        template=prompting.load(prompt_name).mark,
        family=quest.family,
        memory=quest.memory or best or quest.id,
        sources=tuple(dict.fromkeys(each.chunk.id for each in found.lines)),
        threads=tuple(dict.fromkeys([*((e.chunk.agent, e.chunk.thread_id) for e in found.lines), *quest.threads])),
        project=quest.project,
        at_ms=max([quest.at_ms, *(each.chunk.last_ms for each in found.lines)]),
        weight=weight,
        clean_prompt=clean,
    )
    return made(lesson, quest.text, template_chars=quest.template_chars, kind=kind)


def _answers(line: Evidence, items: Sequence[str]) -> bool:
    text = line.text[:MAX_OFFERED_chars]
    return any(_holds(item, text) for item in items)


@lru_cache(maxsize=100_000)
def _holds(item: str, text: str) -> bool:
    return stands_in(item, text)
