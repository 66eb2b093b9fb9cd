"""The store in, lessons out, without any model: what recall brings, what facts say, and what sessions show was needed.

questions > recall > choices, briefs, clues       facts > recitals, pairs, steps       passages > texts

Every lesson says what it was made from, so that what is forgotten can be found in it. The same store, options and time
give the same lessons. What a model can add (other wordings, other questions) comes from `selfstudy.py`; what is unfit is
taken out by `lint.py`, and what of the rest is rehearsed is chosen by `replay.py`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.domain.fact import Fact
from lmm_mcp.domain.lesson import SLICES, Lesson
from lmm_mcp.errors import TrainingError
from lmm_mcp.evaluation import history
from lmm_mcp.prompting import essence
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.store.chunks import ChunkStore
from trainer import anchors, choices, passages, phrasings, recitals
from trainer.choices import Quest, View
from trainer.made import Made, share_of_templates
from trainer.questions import Need
from trainer.recitals import Held


@dataclass(frozen=True, slots=True)
class Options:
    """What is made, and how much of it. Shares from 0 to 1."""

    slices: tuple[str, ...] = SLICES
    renderings: int = 6
    """In how many wordings each fact is asked for without evidence."""
    views: int = 3
    """How often each question is shown its lines: once as served, then among others and in any order."""
    max_asked: int = 500
    """Questions put to recall; each costs a search."""
    share_of_facts: float = 0.35
    """Of these, how many ask for facts and not for what sessions needed."""
    share_absent: float = 0.2
    """Of choices and briefs, how many have no answer among their lines."""
    share_contested: float = 0.15
    """Of choices about facts, how many show an older value beside the current one."""
    use_chunk_pairs: bool = True
    """Whether the context of a memory is the passage that says it, or its session in short."""
    max_per_memory: int = 3
    """Pairs of one memory, and of each other slice but for `fact`, lessons of one memory as well, views apart."""
    max_of_one: int = 16
    """Lessons of one memory over all slices."""
    max_texts: int = 1_500
    """Passages of continued pretraining."""
    max_template_share: float = 0.5
    """Share of template text above which the most templated lessons are left out."""
    min_confidence: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := set(self.slices) - set(SLICES):
            raise TrainingError(f"there are no lessons called {', '.join(sorted(unknown))}; write {', '.join(SLICES)}.")
        if self.renderings not in range(1, 13):
            raise TrainingError(f"a fact cannot be rendered {self.renderings} times; write 1 to 12.")


@dataclass(frozen=True, slots=True)
class Lessons:
    """All that may be trained on, before it is linted."""

    lessons: tuple[Lesson, ...]
    texts: tuple[str, ...]
    """Of continued pretraining: passages, and facts as sentences."""
    text_threads: tuple[tuple[str, str], ...]
    """(agent, thread id) of what the texts were made from."""
    counts: Mapping[str, int]
    """By slice, and by slice and kind (`choice: edit`)."""
    left_out: Mapping[str, int]
    """What was not made or not kept, and why."""
    template_share: float
    """Characters of questions and answers that we wrote, not the sessions, 0 to 1."""
    held: tuple[Held, ...] = field(default=())
    """The facts that were taught."""
    grounds: Mapping[str, str] = field(default_factory=dict)
    """By fact id what its passages say: what an answer from memory is held against."""
    wordings: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By lesson id how many characters of its question and answer we wrote, and how many there are."""


def build(
    store: ChunkStore,
    facts: Sequence[Fact],
    salience: Mapping[ChunkId, float],
    recaller: Recaller,
    *,
    needs: Sequence[Need] = (),
    options: Options | None = None,
    until_ms: int,
    texts_until_ms: int | None = None,
    unread: Collection[tuple[str, str]] = (),
) -> Lessons:
    """Make all lessons of what was said until `until_ms`.

    `salience`: 0 to 1 by passage; those not named count as middling. `needs`: what sessions asked, see `questions.needs_of`.
    `texts_until_ms`: passages are read as texts up to here only; where choices are judged on sessions that came later, the
    weights must not have read these. `unread`: (agent, thread id) of further sessions that no text is read from.
    Raises TrainingError where there is nothing to learn from, StoreError.
    """
    options = options or Options()
    left_out: Counter[str] = Counter()
    facts = [known for fact in facts if (known := recitals.as_of(fact, until_ms))]
    index = passages.index_of(store, ((e.agent, e.thread_id) for fact in facts for e in fact.evidence))
    sources = {fact.id: passages.sources_of(fact, index) for fact in facts}
    those = recitals.held(
        facts,
        until_ms,
        min_confidence=options.min_confidence,
        sources=sources,
        frequencies=store.frequencies(),
        seed=options.seed,
        salience=salience,
    )
    left_out["facts that do not hold, are not sure enough, or have no passage"] += len(facts) - len(those)
    quests = _quests(those, [need for need in needs if need.at_ms <= until_ms], options, until_ms, left_out)
    found, shown = _from_recall(quests, store, recaller, salience, those, options, left_out)
    spoken_in = _threads_by_project(those)
    projects = sorted(spoken_in)
    for each in those:
        found += recitals.recitals(each, options.renderings, shown.get(each.fact.id), seed=options.seed)
        elsewhere = Random(each.fact.id).choice([p for p in projects if p != each.fact.project] or [""])  # noqa: S311
        found += recitals.lasting(each, elsewhere, spoken_in.get(elsewhere, ()))
    found += recitals.steps(those)
    found += passages.pairs(
        those, index, salience, use_chunk_pairs=options.use_chunk_pairs, max_per_memory=options.max_per_memory
    )
    found += anchors.lessons()
    kept = _within_caps([each for each in found if each.lesson.slice in options.slices], options, left_out)
    texts_until_ms = until_ms if texts_until_ms is None else min(until_ms, texts_until_ms)
    dice = Random(options.seed)  # noqa: S311
    sampled = passages.sampled(store, texts_until_ms, options.max_texts, salience, dice, unread)
    if not kept and not sampled:
        raise TrainingError(
            "there is nothing to learn from yet. Run `lmm import`, and let more sessions come together."
        )
    texts = [*map(passages.text_of, sampled), *map(recitals.statement, those)]
    threads = {(chunk.agent, chunk.thread_id) for chunk in sampled} | {t for each in those for t in each.threads}
    return Lessons(
        lessons=tuple(each.lesson for each in kept),
        texts=tuple(texts),
        text_threads=tuple(sorted(threads)),
        counts=_counted(kept),
        left_out=dict(+left_out),
        template_share=share_of_templates(kept),
        held=tuple(those),
        grounds={each.fact.id: passages.ground_of(each, index) for each in those},
        wordings={each.lesson.id: each.chars for each in kept},
    )


def _threads_by_project(those: Sequence[Held]) -> dict[str, tuple[tuple[str, str], ...]]:
    """In which threads the facts of each project were said: a lesson that names the project goes with any of these."""
    found: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
    for each in those:
        found[each.fact.project].update(dict.fromkeys(each.threads))
    return {project: tuple(threads) for project, threads in found.items()}


def _quests(
    those: Sequence[Held], needs: Sequence[Need], options: Options, until_ms: int, left_out: Counter[str]
) -> list[Quest]:
    """What is put to recall: facts and needs, as evenly as may be from all projects, kinds and sessions."""
    about = [quest for n, each in enumerate(those) if (quest := recitals.quest_of(each, until_ms, n))]
    num_about = min(len(about), round(options.max_asked * options.share_of_facts))
    num_needs = min(len(needs), options.max_asked - num_about)
    num_about = min(len(about), options.max_asked - num_needs)
    asked = history.spread(about, num_about, ids=lambda q: q.id, groups=lambda q: (q.project, q.category))
    chosen = history.spread(needs, num_needs, ids=lambda n: n.id, groups=lambda n: (n.kind, n.session))
    left_out["questions beyond the limit"] += len(about) + len(needs) - len(asked) - len(chosen)
    return asked + [_quest(need, n) for n, need in enumerate(chosen)]


def _quest(need: Need, number: int) -> Quest:
    text, family, own = essence(need.text), f"train/{need.kind}{'/again' if need.is_retold else ''}", 0
    if need.kind == "edit":
        asked = phrasings.phrased("train", "file", "forward", number, file=need.text)
        assert asked is not None
        text, family, own = asked.text, asked.family, asked.template_chars
    category = {"error": "error and fix", "edit": "codebase structure"}.get(need.kind, "")
    kind = f"{need.kind}{' again' if need.is_retold else ''}"
    return Quest(
        id=need.id,
        text=text,
        project=need.project,
        until_ms=need.until_ms,
        items=need.items,
        family=family,
        kind=kind,
        at_ms=need.at_ms,
        category=category,
        threads=need.threads,
        template_chars=own,
    )


def _from_recall(
    quests: Sequence[Quest],
    store: ChunkStore,
    recaller: Recaller,
    salience: Mapping[ChunkId, float],
    those: Sequence[Held],
    options: Options,
    left_out: Counter[str],
) -> tuple[list[Made], dict[str, View]]:
    """Choices, briefs and clues of all questions, and of each fact the lines that show it."""
    held_by = {each.fact.id: each for each in those}
    found: list[Made] = []
    silent: list[Made] = []
    shown: dict[str, View] = {}
    foreign = _foreign(quests)
    for quest in quests:
        dice = Random(f"{options.seed} {quest.id}")  # noqa: S311
        lines = choices.serve(recaller, quest)
        if not lines:
            left_out["questions on which recall is silent"] += 1
            continue
        held = held_by.get(quest.memory)
        if held and recitals.is_value(held.fact) and (nothing := choices.without_answer(lines, quest)):
            silent += _absent(nothing, quest, "answer taken out")
        if stranger := foreign.get(quest.id):
            asked = replace(stranger, id=f"{quest.id} {stranger.id}", memory="")
            if strange := choices.off_topic(lines, asked):
                silent += _absent(strange, asked, "asked of other lines")
        served = choices.as_served(lines, quest, dice)
        if served is None:
            left_out["questions of which no line holds what was needed"] += 1
            continue
        # The best line that answers: what else is shown is there to be told from it.
        weight = recitals.weight_of(salience, served.lines[served.numbers[0] - 1].chunk.id)
        found.append(choices.choice(served, quest, weight))
        if written := choices.brief(served, quest, weight):
            found.append(written)
        others = [choices.among_others(lines, quest, dice) for _ in range(options.views - 1)]
        found += [choices.choice(each, quest, weight, f"{quest.kind}, other order") for each in others if each]
        if held:
            shown[quest.memory] = served
            is_contested = dice.random() < options.share_contested * 2
            if is_contested and (rival := choices.contested(served, quest, held.other, _older(held), dice)):
                lent = replace(quest, threads=(*quest.threads, *held.lent))
                found.append(choices.choice(rival, lent, weight, "two values"))
        if looked := passages.clue(quest, served, store, weight):
            found.append(looked)
    return found + _so_many(silent, found, options), shown


def _absent(nothing: View, quest: Quest, kind: str) -> list[Made]:
    written = choices.brief(nothing, quest, kind=kind)
    return [choices.choice(nothing, quest, kind=kind), *([written] if written else [])]


def _so_many(silent: Sequence[Made], found: Sequence[Made], options: Options) -> list[Made]:
    """Of lessons without an answer as many as their share asks for, in each slice, of both kinds."""
    share = options.share_absent / max(1e-9, 1 - options.share_absent)
    kept: list[Made] = []
    for slice_name in ("choice", "brief"):
        num = round(share * sum(each.lesson.slice == slice_name for each in found))
        mine = [each for each in silent if each.lesson.slice == slice_name]
        kept += history.spread(mine, num, ids=lambda each: each.lesson.id, groups=lambda each: each.kind)
    return kept


def _foreign(quests: Sequence[Quest]) -> dict[str, Quest]:
    """For each question another whose answer its lines cannot hold: of the same project, but of another session or fact."""
    by_project: dict[str, list[Quest]] = defaultdict(list)
    for quest in quests:
        by_project[quest.project].append(quest)
    found: dict[str, Quest] = {}
    for those in by_project.values():
        for n, quest in enumerate(those):
            half = len(those) // 2
            order = those[n + half :] + those[: n + half]
            other = next((each for each in order if not set(each.threads) & set(quest.threads)), None)
            if other is not None:
                found[quest.id] = other
    return found


def _older(each: Held) -> int:
    return max(1, (each.fact.from_ms or each.at_ms) - 7 * 86_400_000)


def _within_caps(found: Sequence[Made], options: Options, left_out: Counter[str]) -> list[Made]:
    """Each lesson once, not too many of one memory, and not more template text than is allowed."""
    once = list({each.lesson.id: each for each in found}.values())
    left_out["the same lesson again"] += len(found) - len(once)
    per_slice: Counter[tuple[str, str]] = Counter()
    of_one: Counter[str] = Counter()
    most = defaultdict(
        lambda: options.max_per_memory,
        {"fact": options.renderings, "choice": options.max_per_memory * options.views, "general": 1},
    )
    kept = []
    for each in once:
        memory, slice_name = each.lesson.memory, each.lesson.slice
        if per_slice[memory, slice_name] >= most[slice_name] or of_one[memory] >= options.max_of_one:
            left_out["more than enough of one memory"] += 1
            continue
        per_slice[memory, slice_name] += 1
        of_one[memory] += 1
        kept.append(each)
    return _less_templated(kept, options.max_template_share, left_out)


def _less_templated(found: list[Made], most: float, left_out: Counter[str]) -> list[Made]:
    """Leave out renderings of facts, the most templated first, until sessions say the rest; one of each fact stays."""
    own, whole = sum(each.template_chars for each in found), sum(each.all_chars for each in found)
    left: Counter[str] = Counter(each.lesson.memory for each in found if each.lesson.slice == "fact")
    gone = set()
    for each in sorted(found, key=lambda each: (-each.template_chars / (each.all_chars or 1), each.lesson.id)):
        if own <= most * whole:
            break
        if each.lesson.slice != "fact" or left[each.lesson.memory] < 2:
            continue
        left[each.lesson.memory] -= 1
        gone.add(each.lesson.id)
        own, whole = own - each.template_chars, whole - each.all_chars
    left_out["too much of our own wording"] += len(gone)
    return [each for each in found if each.lesson.id not in gone]


def _counted(found: Iterable[Made]) -> dict[str, int]:
    found = list(found)
    counts = Counter(each.lesson.slice for each in found)
    kinds = Counter(f"{each.lesson.slice}: {each.kind}" for each in found if each.kind)
    return {**{name: counts[name] for name in SLICES}, **dict(sorted(kinds.items()))}
