"""The memory in, everything a run needs out: lessons, texts, probes, and how they came to be. Reads only; nothing is trained here."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmm_mcp import artifacts, config, embedding
from lmm_mcp.artifacts import durable, places
from lmm_mcp.domain.lesson import Lesson, Probe
from lmm_mcp.domain.recall import CHARS_PER_TOKEN
from lmm_mcp.domain.verdict import Finding
from lmm_mcp.errors import TrainingError
from lmm_mcp.evaluation.receipt import store_hash
from lmm_mcp.model import network
from lmm_mcp.paths import Home
from lmm_mcp.recall.changebox import ChangeBox
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.facts import FactStore
from lmm_mcp.store.ledger import Ledger
from trainer import costs, engine, lessons, ordering, papers, probes, questions, replay, selfstudy
from trainer.account import Account
from trainer.costs import Amount
from trainer.lint import PARROTED, Heard, OwnChars, as_heard, lint, templates_within
from trainer.plan import Plan
from trainer.questions import Need

LEARNED = 0.7
"""Share of what sessions asked that choices are learned from; they are judged by the rest."""
STUDY_BY_BASE = "base"
"""What the setting `train.study` says where the base itself is to word lessons anew."""
MIN_ASKED = 10
"""Fewer questions are all learned from."""


FORGOTTEN = (
    "something that this run learns from was forgotten meanwhile, so it cannot go on. `lmm train` starts a clean one."
)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a run begins with."""

    lessons: list[Lesson]
    texts: list[str]
    probes: list[Probe]
    threads: set[tuple[str, str]]
    as_of: int
    """The number of the last forgetting before anything was read."""
    chunks: list[str]
    num_passages: int
    store_version: str
    about: dict[str, Any]
    """Mix, notes and findings, as JSON."""
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Memory:
    """What is open of a memory home while lessons are made."""

    store: ChunkStore
    facts: FactStore
    ledger: Ledger
    archive: Archive
    recaller: Recaller


def num_passages(home: Home) -> int:
    """In the store now. Raises StoreError."""
    return ChunkStore.open(home.store).count() if ChunkStore.exists(home.store) else 0


def opened(home: Home, env: Mapping[str, str]) -> Memory:
    """Open it for reading. Raises TrainingError where there is nothing yet, StoreError."""
    store = ChunkStore.open(home.store) if ChunkStore.exists(home.store) else None
    if store is None or not store.count():
        raise TrainingError("there is nothing to learn from yet: run `lmm import` first.")
    store.hold()  # hundreds of questions are coming
    made_by = (store.embedder.name, store.embedder.version) if store.embedder is not None else ("", "")
    model = embedding.load_serving(home, config.load(home.config, env).embedder, *made_by, num_threads=0)
    embedder = None if isinstance(model, embedding.NoEmbedder) else model
    recaller = Recaller(store, embedder, frozenset({"model"}), changes=ChangeBox(home.facts))
    return Memory(store, FactStore.open(home.facts), Ledger.open(home.ledger), Archive(home.archive), recaller)


@dataclass(frozen=True, slots=True)
class Pool:
    """All lessons that a memory gives, as they were made, and the probes that hold some of them out."""

    memory: Memory
    built: lessons.Lessons
    bank: probes.Bank
    """Those that are asked."""
    held_out: tuple[Probe, ...]
    """Those that must not be taught: also what is asked no more."""
    salience: Mapping[str, float]
    """0 to 1 by passage."""
    until_ms: int
    as_of: int


def pooled(
    home: Home, env: Mapping[str, str], plan: Plan, look_up: Callable[[], None], *, freezes: bool = True
) -> Pool:
    """Make all lessons, and freeze probes; parameters as of `gather`."""
    as_of = artifacts.forgettings(home)
    memory = opened(home, env)
    until_ms = plan.until_ms or time.time_ns() // 1_000_000
    needs = questions.needs_of(memory.ledger, memory.archive, until_ms)
    cut_ms = _cut(needs, until_ms)
    later = [need for need in needs if need.at_ms > cut_ms]
    look_up()
    salience = memory.facts.all_salience()
    facts = memory.facts.facts()
    built = lessons.build(
        memory.store,
        facts,
        salience,
        memory.recaller,
        needs=[need for need in needs if need.at_ms <= cut_ms],
        options=plan.options,
        until_ms=until_ms,
        texts_until_ms=cut_ms,
        # The sessions by which choices are judged must not have been read: the cut moves on, and frozen probes stay.
        unread={thread for need in later for thread in need.threads}
        | probes.asked_in(memory.ledger, probes.load(home).probes),
    )
    look_up()
    asked_now = list(_probed(memory, built, later, until_ms, plan))
    retired = probes.superseded(facts, until_ms)
    if freezes:
        with nothing_forgotten(home, as_of):
            bank = probes.add(home, asked_now, retired=retired)
    else:
        known = probes.load(home)
        bank = probes.Bank((*known.probes, *probes.missing(known, asked_now, retired=retired)))
    look_up()
    return Pool(memory, built, bank.without(retired), bank.probes, salience, until_ms, as_of)


@contextmanager
def nothing_forgotten(home: Home, as_of: int, why: str = FORGOTTEN) -> Iterator[None]:
    """Keep what was read in memory's name only while nothing of it was forgotten, and let nothing be forgotten meanwhile.

    Raises TrainingError, which says `why`, where something was.
    """
    with places.lock(home):
        if artifacts.forgettings(home) != as_of:
            raise TrainingError(why)
        yield


def gather(
    home: Home, env: Mapping[str, str], plan: Plan, look_up: Callable[[], None], *, freezes: bool = True
) -> Gathered:
    """Make lessons, freeze probes, take out what is unfit, choose what is rehearsed.

    Choices are learned from the first part of what sessions asked, and probed on the rest; facts are learned up to the end,
    and probed in wordings that no lesson has. `freezes`: whether new probes join the bank for good. `look_up` is called between the steps, and raises where the run is to stop.
    Raises TrainingError where nothing is left to learn from.
    """
    pool = pooled(home, env, plan, look_up, freezes=freezes)
    memory, built, bank, salience, until_ms = pool.memory, pool.built, pool.bank, pool.salience, pool.until_ms
    studied = _studied(home, env, plan, pool, look_up) if freezes else None
    linted = lint(
        [*built.lessons, *(each.lesson for each in studied.lessons)] if studied else built.lessons,
        until_ms=until_ms,
        slices=plan.needed,
        probes=pool.held_out,
        evidence=built.grounds,
        wanted=plan.options.slices,
        texts=[*built.texts, *(studied.texts if studied else ())],
    )
    mix = _rehearsed(linted.lessons, home, plan, salience, until_ms)
    wordings = {**built.wordings, **{each.lesson.id: each.chars for each in (studied.lessons if studied else ())}}
    times, heard, in_templates = _as_heard(mix.lessons, plan, wordings)
    plan = replace(plan, repeats=tuple(times.items()))
    kept = {each.id for each in heard.lessons}
    mix = replace(mix, rehearsed=tuple(each for each in mix.rehearsed if each.lesson.id in kept))
    dropped = {**linted.dropped, PARROTED: linted.dropped.get(PARROTED, 0) + heard.num_dropped}
    linted = replace(linted, dropped=dropped, findings=(in_templates, *linted.findings, heard.finding))
    beside = {fact.fact.id: fact.fact.superseded_by for fact in built.held if fact.fact.superseded_by}
    tokens_per_step = plan.recipe.tokens_per_step
    ordered = as_learned(heard.lessons, plan, beside)
    order = ordering.mixed(ordered, size=tokens_per_step * CHARS_PER_TOKEN, beside=beside)
    account = Account(
        built, linted, mix, ordered, order, tokens_per_step, bank, len(pool.held_out) - len(bank.probes), studied
    )
    asked: list[Lesson | Probe] = [*linted.lessons, *bank.probes]
    return Gathered(
        lessons=ordered,
        texts=list(linted.texts),
        probes=list(bank.probes),
        threads={thread for each in asked for thread in each.threads}
        | set(built.text_threads)
        | set(studied.text_threads if studied else ()),
        as_of=pool.as_of,
        chunks=list(dict.fromkeys(chunk for each in ordered for chunk in each.sources)),
        num_passages=memory.store.count(),
        store_version=store_hash(memory.ledger),
        about=account.about(),
        notes=list(account.notes()),
    )


def _as_heard(those: Sequence[Lesson], plan: Plan, wordings: OwnChars) -> tuple[dict[str, int], Heard, Finding]:
    """How often each kind is heard, what is left of the lessons then, and how much of that is templates'."""
    times = dict(plan.repeats)
    while True:  # to leave out answers that are given too often moves the share of templates
        heard = as_heard(those, times)
        fewer, finding = templates_within(heard.lessons, times, wordings, plan.options.max_template_share)
        if all(fewer[name] == times.get(name, 1) for name in fewer):
            return fewer, heard, finding
        times = fewer


def as_learned(those: Sequence[Lesson], plan: Plan, beside: Mapping[str, str] | None = None) -> list[Lesson]:
    """Lessons as often as the plan has each kind heard, in the order in which they are learned."""
    times = dict(plan.repeats)
    repeated = [each for lesson in those for each in [lesson] * times.get(lesson.slice, 1)]
    tokens_per_step, seed = plan.recipe.tokens_per_step, plan.options.seed
    return ordering.for_steps(repeated, tokens_per_step=tokens_per_step, seed=seed, beside=beside)


def dry_run(home: Home, env: Mapping[str, str], plan: Plan) -> Iterator[str]:
    """What a run would learn, in lines, with what it would take. Writes nothing."""
    began_s = time.monotonic()
    found = gather(home, env, plan, lambda: None, freezes=False)
    yield from found.notes
    num_tokens = sum(len(each.prompt) + len(each.answer) for each in found.lessons) // CHARS_PER_TOKEN
    num_text_tokens = sum(map(len, found.texts)) // CHARS_PER_TOKEN
    made_s = time.monotonic() - began_s
    base = network.find_base(plan.recipe.base, bases=artifacts.bases_folder(home))
    num_parameters = network.load(base).card.num_parameters
    cost = costs.cost_of(home, plan, Amount(num_tokens, num_text_tokens, len(found.probes), made_s, num_parameters))
    yield f"about {num_tokens:,} tokens of lessons and {num_text_tokens:,} of texts; made in {made_s:.0f} s"
    yield cost.told(plan.recipe.preset, engine.chosen_device(plan.recipe.device))


def findings_of(folder: Path) -> tuple[Finding, ...]:
    """What was found in the lessons of a run, as gate G0 hears it."""
    about = durable.read_json(folder / papers.ABOUT) or {}
    return tuple(
        Finding(str(each["gate"]), each["passed"] is True, str(each["told"]), dict(each["figures"]))
        for each in about.get("findings", ())
    )


def _probed(
    memory: Memory, built: lessons.Lessons, later: Sequence[Need], until_ms: int, plan: Plan
) -> Iterator[Probe]:
    yield from probes.of_facts(built.held, seed=plan.options.seed)
    yield from probes.of_needs(later, memory.recaller)
    yield from probes.absent(
        memory.store,
        memory.recaller,
        sorted(memory.store.projects()),
        until_ms=until_ms,
        cohort=probes.week_of(until_ms),
        seed=plan.options.seed,
    )
    yield from probes.general()


def _rehearsed(
    those: Sequence[Lesson], home: Home, plan: Plan, salience: Mapping[str, float], until_ms: int
) -> replay.Mix:
    """What is rehearsed of each kind of lessons: as many as the plan allows, by what speaks for each."""
    standings = probes.standings(home) if plan.replay else {}
    weights = _by_memory(those, salience)
    rehearsed: list[replay.Rehearsed] = []
    left: Counter[str] = Counter()
    for name in dict.fromkeys(each.slice for each in those):
        kind = [each for each in those if each.slice == name]
        share = max(1, plan.max_lessons * len(kind) // len(those)) if plan.max_lessons else 0
        limits = [limit for limit in (share, dict(plan.most).get(name, 0)) if limit]
        mix = replay.chosen(
            kind, standings, salience=weights, now_ms=until_ms, num=min(limits, default=0), seed=plan.options.seed
        )
        rehearsed += mix.rehearsed
        left.update(mix.num_left)
    return replay.Mix(tuple(rehearsed), dict(left))


def _studied(
    home: Home, env: Mapping[str, str], plan: Plan, pool: Pool, look_up: Callable[[], None]
) -> selfstudy.Studied | None:
    """What a local model adds, where one is configured."""
    settings = config.load(home.config, env).train
    if not settings.study:
        return None

    def should_stop() -> bool:
        look_up()
        return False

    return selfstudy.study(
        pool.built.held,
        pool.built.grounds,
        _generator(home, plan, settings),
        selfstudy.Kept(places.study_file(home), lambda: nothing_forgotten(home, pool.as_of)),
        probe_prompts=[each.prompt for each in pool.held_out],
        should_stop=should_stop,
    )


def _generator(home: Home, plan: Plan, settings: config.Train) -> selfstudy.Generator:
    """The model that words lessons anew: the base of this run, or one behind a server on this machine."""
    if settings.study != STUDY_BY_BASE:
        return selfstudy.Served(settings.study, settings.study_model)
    folder = network.find_base(plan.recipe.base, bases=artifacts.bases_folder(home))
    return selfstudy.Local(network.load(folder, device=engine.chosen_device(plan.recipe.device)))


def _cut(needs: Sequence[Need], until_ms: int) -> int:
    """The moment before which `LEARNED` of all questions were asked."""
    asked = sorted(need.at_ms for need in needs if not need.is_retold)
    return asked[int(LEARNED * len(asked))] - 1 if len(asked) >= MIN_ASKED else until_ms


def _by_memory(those: Sequence[Lesson], salience: Mapping[str, float]) -> dict[str, float]:
    """How salient the passages are that a memory was made from: the most salient of them counts."""
    found: dict[str, float] = {}
    for each in those:
        known = [salience[name] for name in each.sources if name in salience]
        if known:
            found[each.memory] = max(found.get(each.memory, 0.0), *known)
    return found
