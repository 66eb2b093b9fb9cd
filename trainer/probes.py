"""The bank of frozen probes: questions that judge and never train, a file for each week in which something was learned.

A file is written once, whole or not at all, and never again but to take out what was forgotten; what is added later has a
file of its own. So versions made months apart are judged by the same questions, and their hash says whether they were. Facts are probed in wordings that no
lesson has; choices are probed on sessions that began after what was learned. A fact whose value was superseded is asked no more.

probes/v1/2026-W07.1.jsonl    one probe a line; `general.1.jsonl` what any model should know
probes/standings.json         how well each memory was held, by the probes of the last run
"""

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from lmm_mcp import prompting
from lmm_mcp.artifacts import durable, places
from lmm_mcp.domain.fact import Fact
from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.verdict import ScoreSheet
from lmm_mcp.evaluation import history
from lmm_mcp.paths import Home
from lmm_mcp.prompting import essence
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger
from lmm_mcp.store.search import Scope
from lmm_mcp.store.terms import terms
from trainer import anchors, choices, papers, phrasings
from trainer.choices import Quest
from trainer.questions import Need
from trainer.recitals import Held
from trainer.replay import Standing, advanced

FORMAT = "v1"
GENERAL = "general"
MAX_OF_COHORT = 10
"""Probes of facts in a week, and half as many about what is not there."""
MAX_CHOICES_OF_COHORT = 40
"""Choices differ from one another by little, so only many of them tell two models apart."""
WEIGHTS_ARM = "weights"
_STANDINGS = "standings.json"
_NAMES = (
    *(
        "quillmark",
        "Ostrava",
        "tindersync",
        "bellows",
        "Kestrel",
        "marrowgate",
        "pinwheel-api",
        "Sable",
        "tuckahoe",
        "Lumenforge",
    ),
    *(
        "drybrook",
        "Verity",
        "cobblestone-ui",
        "harrowd",
        "Nimbleroot",
        "saltbox",
        "Ferrous",
        "wicketd",
        "Oakline",
        "thistlebee",
    ),
)
"""Names that nobody has: what is asked about them, nothing answers."""


@dataclass(frozen=True, slots=True)
class Bank:
    """All probes that there are, by week."""

    probes: tuple[Probe, ...]

    @property
    def hash(self) -> str:
        """Says which probes these are, 16 hexadecimal digits."""
        names = "\n".join(sorted(each.id for each in self.probes))
        return hashlib.blake2b(names.encode(), digest_size=8).hexdigest()

    def without(self, memories: Collection[str]) -> "Bank":
        """The same without the facts of these memories: they are asked of nobody, and stay on the disk."""
        return Bank(tuple(each for each in self.probes if not (each.slice == "fact" and each.memory in memories)))

    @property
    def cohorts(self) -> tuple[str, ...]:
        """The weeks, the earliest first."""
        return tuple(sorted({each.cohort for each in self.probes}))


def week_of(at_ms: int) -> str:
    """The ISO week of a moment, UTC.

    >>> week_of(1_770_000_000_000)
    '2026-W06'
    """
    year, week, _ = datetime.fromtimestamp(at_ms / 1000, UTC).isocalendar()
    return f"{year}-W{week:02}"


def load(home: Home) -> Bank:
    """Every probe of the bank. Raises TrainingError where a file of it cannot be read."""
    files = sorted((places.probes_folder(home) / FORMAT).glob("*.jsonl"))
    return Bank(tuple(probe for file in files for probe in papers.read_probes(file)))


def superseded(facts: Iterable[Fact], until_ms: int) -> frozenset[str]:
    """The memories of which the value no longer holds as of then: to ask for it would call what is wrong right.

    Told anew for each run, since what holds may turn back.
    """
    return frozenset(fact.id for fact in facts if fact.until_ms and fact.until_ms <= until_ms)


def add(home: Home, probes: Sequence[Probe], *, retired: Collection[str] = ()) -> Bank:
    """Freeze what the bank has no probe of yet, as far as its weeks have room, and return all there are.

    What is frozen stays as it is: each call writes files of its own. `retired`: see `superseded`; they take no room.
    Raises OSError, TrainingError.
    """
    folder = places.probes_folder(home) / FORMAT
    new: dict[str, list[Probe]] = defaultdict(list)
    for each in missing(load(home), probes, retired=retired):
        new[each.cohort].append(each)
    for cohort, those in sorted(new.items()):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = next(n for n in itertools.count(1) if not (folder / f"{cohort}.{n}.jsonl").exists())
        papers.write_probes(folder / f"{cohort}.{number}.jsonl", those)
    return load(home)


def missing(known: Bank, probes: Iterable[Probe], *, retired: Collection[str] = ()) -> list[Probe]:
    """Those of which the bank has none yet, as far as its weeks have room; see `add`."""
    memories = {(each.slice, each.memory) for each in known.probes}
    held = Counter(_kind(each) for each in known.without(retired).probes)
    new: list[Probe] = []
    for each in probes:
        has_room = each.cohort == GENERAL or held[_kind(each)] < _room(each)
        if has_room and (each.slice, each.memory) not in memories:
            held[_kind(each)] += 1
            memories.add((each.slice, each.memory))
            new.append(each)
    return new


def _kind(probe: Probe) -> tuple[str, str, bool]:
    return probe.cohort, probe.slice, bool(probe.answers)


def _room(probe: Probe) -> int:
    if not probe.answers:
        return MAX_OF_COHORT // 2
    return MAX_CHOICES_OF_COHORT if probe.slice == "choice" else MAX_OF_COHORT


def asked_in(ledger: Ledger, probes: Iterable[Probe]) -> set[tuple[str, str]]:
    """(agent, thread id) of the sessions by which frozen choices judge: whoever has read them has read what answers.

    A probe names the threads of the lines that it shows, too, and those may be read. They were there before it was asked, so
    only sessions count that ended in its week or later, which may be one too many.
    """
    weeks: dict[tuple[str, str], str] = {}
    for probe in probes:
        if probe.slice == "choice" and probe.answers:
            weeks.update({thread: min(weeks.get(thread, probe.cohort), probe.cohort) for thread in probe.threads})
    found: set[tuple[str, str]] = set()
    for session in history.sessions(ledger):
        mine = [(row.thread.agent, row.thread.thread_id) for row in session.rows]
        named = [weeks[thread] for thread in mine if thread in weeks]
        if named and week_of(max(row.last_ms for row in session.rows)) >= min(named):
            found.update(mine)
    return found


def of_facts(those: Sequence[Held], *, seed: int, per_cohort: int = MAX_OF_COHORT) -> list[Probe]:
    """Facts asked from memory alone, in wordings that no lesson has: of each week those that were first said in it."""
    by_week: dict[str, list[Held]] = defaultdict(list)
    for each in those:
        if each.fact.from_ms and each.leads:
            by_week[week_of(each.fact.from_ms)].append(each)
    found = []
    for week, members in sorted(by_week.items()):
        asked = [
            (each, phrased)
            for n, each in enumerate(members)
            if (phrased := phrasings.asks(each.fact, "probe", "forward", n + seed, topic=each.topic)) is not None
        ]
        kept = history.spread(
            asked, per_cohort, ids=lambda a: a[0].fact.id, groups=lambda a: (a[0].fact.project, a[0].fact.category)
        )
        found += [
            Probe(
                slice="fact",
                category=each.fact.category,
                prompt=prompting.recalling(phrased.text, each.fact.project),
                answers=(phrasings.answer_to(each.fact, "forward"),),
                family=phrased.family,
                memory=each.fact.id,
                cohort=week,
                threads=each.threads,
            )
            for each, phrased in kept
        ]
    return found


def of_needs(
    needs: Sequence[Need], recaller: Recaller, *, per_cohort: int = MAX_CHOICES_OF_COHORT, limit: int = 300
) -> list[Probe]:
    """Choices that sessions would have had to make: of what was asked before they began, the lines as served then.

    `needs`: those after what is trained on. Only questions that a line answers; what nothing answers is `absent`'s.
    """
    fresh = [each for each in needs if not each.is_retold]
    spread = history.spread(fresh, limit, ids=lambda n: n.id, groups=lambda n: (week_of(n.at_ms), n.kind, n.session))
    by_week: dict[str, list[Probe]] = defaultdict(list)
    for n, need in enumerate(spread):
        cohort = week_of(need.at_ms)
        if len(by_week[cohort]) >= per_cohort:
            continue
        text, family = essence(need.text), f"probe/{need.kind}"
        if need.kind == "edit":
            phrased = phrasings.phrased("probe", "file", "forward", n, file=need.text)
            assert phrased is not None
            text, family = phrased.text, phrased.family
        quest = Quest(
            need.id, text, need.project, need.until_ms, need.items, family, need.kind, need.at_ms, threads=need.threads
        )
        lines = choices.serve(recaller, quest)
        if not lines or not (shown := choices.view(lines, need.items)).numbers:
            continue
        lesson = choices.choice(shown, quest).lesson
        answering = tuple(
            str(each.number) for each in shown.offered if any(history.stands_in(item, each.text) for item in need.items)
        )
        by_week[cohort].append(
            Probe("choice", lesson.category, lesson.prompt, answering, family, lesson.memory, cohort, lesson.threads)
        )
    return [probe for _, those in sorted(by_week.items()) for probe in those]


def absent(
    store: ChunkStore,
    recaller: Recaller,
    projects: Sequence[str],
    *,
    until_ms: int,
    cohort: str,
    seed: int,
    num: int = MAX_OF_COHORT // 2,
) -> list[Probe]:
    """Questions about what nobody ever spoke of, with the lines that recall would serve all the same: nothing answers."""
    dice = Random(f"{seed} {cohort}")  # noqa: S311
    names = list(_NAMES)
    dice.shuffle(names)
    unknown = [name for name in names if not store.lexical(terms(name), Scope(until_ms=until_ms), 1)]
    found: list[Probe] = []
    for n, entity in enumerate(unknown):
        if len(found) == num or not projects:
            break
        phrased = phrasings.phrased("probe", "absent", "forward", n, entity=entity)
        assert phrased is not None
        project = projects[n % len(projects)]
        quest = Quest(f"absent {entity}", phrased.text, project, until_ms, (), phrased.family, "absent", until_ms)
        lines = recaller.search(choices.asked(quest)).lines()[: choices.NUM_SERVED]
        if len(lines) < 2:
            continue
        lesson = choices.choice(choices.view(lines, ()), quest).lesson
        found.append(Probe("choice", "", lesson.prompt, (), phrased.family, quest.id, cohort, lesson.threads))
    return found


def general() -> list[Probe]:
    """What any model should know, in one cohort of its own."""
    return [
        Probe("general", "", prompting.asking(asked), (answer,), "probe/general", f"general probe {n}", GENERAL)
        for n, (asked, answer) in enumerate(anchors.probes())
    ]


def standings(home: Home) -> dict[str, Standing]:
    """How well each memory was held when it was last probed; nothing where that is not known."""
    return _standings(home)[1]


def _standings(home: Home) -> tuple[str, dict[str, Standing]]:
    """The last run that they count, '' where nobody knows, and they themselves."""
    try:
        found = json.loads((places.probes_folder(home) / _STANDINGS).read_text(encoding="utf-8"))
        if isinstance(found.get("standings"), dict):
            run, found = str(found["run"]), found["standings"]
        else:  # as they were written first
            run = ""
        return run, {str(memory): Standing(int(s), float(r), int(n)) for memory, (s, r, n) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return "", {}  # all counts as new: rehearsed more often than it needs, and nothing is lost


def remember_results(home: Home, sheet: ScoreSheet, *, taught: Collection[str] = (), run: str = "") -> None:
    """Note how well each memory was recalled from the weights alone, for the next choice of lessons. Raises OSError.

    `taught`: memories that the run had lessons about, probed or not. `run`: its id, by which it counts once, however often it
    was gone on with.
    """
    last, before = _standings(home)
    if run and run == last:
        return
    memory_of = {probe.id: probe.memory for probe in load(home).probes}
    scores: dict[str, list[float]] = defaultdict(list)
    for outcome in sheet.outcomes.get(WEIGHTS_ARM, ()):
        if outcome.probe_id in memory_of:
            scores[memory_of[outcome.probe_id]].append(outcome.score)
    recalled = {memory: sum(those) / len(those) for memory, those in scores.items()}
    after = advanced(before, recalled, taught)
    _write(places.probes_folder(home) / _STANDINGS, after, run)


def _write(file: Path, after: Mapping[str, Standing], run: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    told = {memory: list(asdict(each).values()) for memory, each in sorted(after.items())}
    durable.write(file, json.dumps({"run": run, "standings": told}).encode("utf-8"))
