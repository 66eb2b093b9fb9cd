"""Lessons in, those fit for training out, with what was dropped and why: the food of gate G0.

What can be dropped is dropped and counted; what cannot be mended so stops the run with what is wrong and what to do.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lmm_mcp import redaction
from lmm_mcp.domain.lesson import Lesson, Probe
from lmm_mcp.domain.verdict import Finding
from lmm_mcp.errors import TrainingError
from lmm_mcp.evaluation.needs import names_in
from lmm_mcp.evaluation.proving import ABOUT_A_FILE
from lmm_mcp.model.validating import NOTHING
from trainer import leaks, near
from trainer.choices import NOBODY
from trainer.phrasings import template_share

GATE = "G0"
MOST_FREQUENT = 4
MAX_P4 = 0.10
"""Share that the four most frequent targets may have together: a model that is taught few answers gives few."""
MAX_ABSENT = 0.40
"""Share of choices, and of briefs, that may have no answer: a model that is taught silence keeps silent."""
MAX_FIRST = 0.40
"""Share of choices that may begin with one and the same number: where the answer stands must not tell."""
MIN_FOR_SHARES = 20
"""Of fewer lessons shares say nothing."""
_TIMES_EVEN = 2.0
SECRET = "holds a secret"  # noqa: S105 - a reason, no secret
TOO_NEW = "was said after the time up to which is trained"
PROBED = "is a probe, or words or asks like one"
LEAKED = "holds the words of a frozen probe"
LEAKED_text = "texts that hold the words of a frozen probe"
UNGROUNDED = "names something that stands neither in its context nor in its sources"
AGAIN = "says nearly the same as another"
PARROTED = "gives an answer that too many give"
EMPTY = "asks or answers nothing"
_NAMES = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Linted:
    """What is left, and what was found."""

    lessons: tuple[Lesson, ...]
    dropped: Mapping[str, int]
    """How many, by reason."""
    findings: tuple[Finding, ...]
    """Of gate G0: as the lessons are now, each with its figures."""
    texts: tuple[str, ...] = ()
    """Of continued pretraining."""


def lint(
    lessons: Sequence[Lesson],
    *,
    until_ms: int,
    slices: Collection[str],
    probes: Sequence[Probe] = (),
    evidence: Mapping[str, str] | None = None,
    deduplicates: bool = True,
    wanted: Collection[str] = (),
    texts: Sequence[str] = (),
) -> Linted:
    """Drop what may not be trained on, of lessons and of texts of continued pretraining. Raises TrainingError where nothing is left of a slice that was asked for.

    `evidence`: by memory the text of its sources, for lessons that are asked without evidence; of those not named the answer
    is held against nothing. `slices`: those that must not be empty. `deduplicates`:
    off only where it is measured what that is worth. `wanted`: slices of which it is told where nothing is left.
    """
    dropped: Counter[str] = Counter()
    kept = []
    held_out = _HeldOut.of(probes)
    for lesson in lessons:
        if reason := _objection(lesson, until_ms, held_out, evidence or {}):
            dropped[reason] += 1
        else:
            kept.append(lesson)
    if deduplicates:
        kept = _less_parroted(_each_once(kept, dropped), dropped)
    read = tuple(each for each in texts if not held_out.wordings.stand_in(each))
    dropped[LEAKED_text] += len(texts) - len(read)
    for name in slices:
        if not any(lesson.slice == name for lesson in kept):
            told = ", ".join(f"{num} {reason}" for reason, num in dropped.most_common(3)) or "none was made"
            raise TrainingError(
                f"no lesson of the kind {name!r} is left ({told}). Let more sessions come together, or train without it: "
                f"`lmm train --slices {','.join(dict.fromkeys(each.slice for each in kept)) or 'general'}`."
            )
    findings = _findings(kept, dropped, slices, wanted)
    return Linted(tuple(kept), dict(+dropped), findings, read)


OwnChars = Mapping[str, tuple[int, int]]
"""By lesson id how many characters of its question and answer we wrote, and how many there are."""


def templates_within(
    lessons: Sequence[Lesson], times: Mapping[str, int], wordings: OwnChars, most: float
) -> tuple[dict[str, int], Finding]:
    """How often lessons of each slice may be heard: as `times` says, or less often where more than `most` of the words heard are ours.

    The slice with the most of our words is heard once less until it is enough; each lesson stays, and is heard once at least.
    """
    by_slice: dict[str, list[tuple[int, int]]] = {}
    for each in lessons:
        by_slice.setdefault(each.slice, []).append(wordings.get(each.id, (0, 0)))
    sizes = {name: (sum(own for own, _ in those), sum(all_ for _, all_ in those)) for name, those in by_slice.items()}
    fewer = {name: max(1, times.get(name, 1)) for name in sizes}

    def share() -> float:
        return template_share([(own * fewer[name], all_ * fewer[name]) for name, (own, all_) in sizes.items()])

    while (now := share()) > most:
        left = [name for name in sizes if fewer[name] > 1 and template_share([sizes[name]]) > now]
        if not left:
            break
        fewer[max(left, key=lambda name: template_share([sizes[name]]))] -= 1
    return fewer, _finding("text from templates, as often as it is heard", now, most, False, {})


@dataclass(frozen=True, slots=True)
class Heard:
    """What is left of the lessons that are repeated, and what was found."""

    lessons: tuple[Lesson, ...]
    num_dropped: int
    finding: Finding


def as_heard(lessons: Sequence[Lesson], times: Mapping[str, int]) -> Heard:
    """Look once more for answers that too many lessons give, now as often as they are heard. `times`: by slice, 1 for others.

    Repeating facts ten times moves the share of the four most frequent answers of a real memory from 9.9 to 11.7 %. Where there
    are few different answers, four of them are many however evenly they are taught: so twice their even share is allowed.
    """
    places = [n for n, lesson in enumerate(lessons) if _target(lesson)]
    clusters = [[places[n] for n in each] for each in _clusters([lessons[n].answer for n in places])]
    weights = [times.get(lesson.slice, 1) for lesson in lessons]
    heard = [sum(weights[n] for n in each) for each in clusters]
    most = max(MAX_P4, _TIMES_EVEN * MOST_FREQUENT / max(1, len(clusters)))
    is_too_few = len(places) < MIN_FOR_SHARES
    gone: set[int] = set()
    while not is_too_few and _share_of_most(heard) > most:
        # The one heard most often of which one lesson more can go: every answer stays with one at least.
        left = [at for at, each in enumerate(clusters) if len(each) > 1]
        if not left:
            break
        at = max(left, key=heard.__getitem__)
        dropped = clusters[at].pop()
        gone.add(dropped)
        heard[at] -= weights[dropped]
    told = "the four most frequent answers, as often as they are heard"
    finding = _finding(told, _share_of_most(heard), most, is_too_few, {"num": float(sum(heard))})
    return Heard(tuple(each for n, each in enumerate(lessons) if n not in gone), len(gone), finding)


def _share_of_most(heard: Sequence[int]) -> float:
    return sum(sorted(heard, reverse=True)[:MOST_FREQUENT]) / (sum(heard) or 1)


@dataclass(frozen=True, slots=True)
class _HeldOut:
    families: frozenset[str]
    prompts: frozenset[str]
    memories: frozenset[str]
    """Of choices: what they ask for must not be taught. Facts are taught; only their wordings are held out."""
    questions: frozenset[str]
    """Of choices, in whatever order and among whatever lines: a later run might find the session that asked to be past."""
    files: frozenset[str]
    """That choices ask about, in whatever words."""
    wordings: leaks.Wordings

    @classmethod
    def of(cls, probes: Sequence[Probe]) -> "_HeldOut":
        choices = [each for each in probes if each.slice in ("choice", "brief") and each.answers]
        before, after = ABOUT_A_FILE.split("{file}")
        asked = frozenset(leaks.question_of(each.prompt) for each in choices)
        return cls(
            families=frozenset(each.family for each in probes),
            prompts=frozenset(each.prompt for each in probes),
            memories=frozenset(each.memory for each in choices),
            questions=asked,
            files=frozenset(each.removeprefix(before).removesuffix(after) for each in asked if each.startswith(before)),
            wordings=leaks.Wordings.of(probes),
        )

    def holds(self, lesson: Lesson) -> bool:
        """Whether a lesson is a probe, or teaches what one asks."""
        if lesson.family in self.families or lesson.prompt in self.prompts:
            return True
        if lesson.slice not in ("choice", "brief", "clue"):
            return False
        question = leaks.question_of(lesson.prompt)
        asks_of_file = lesson.family.startswith("train/file/") and any(file in question for file in self.files)
        return lesson.memory in self.memories or question in self.questions or asks_of_file


def _objection(lesson: Lesson, until_ms: int, held_out: _HeldOut, evidence: Mapping[str, str]) -> str:
    if not lesson.prompt.strip() or not lesson.answer.strip():
        return EMPTY
    if lesson.at_ms > until_ms:
        return TOO_NEW
    if held_out.holds(lesson):
        return PROBED
    # A clean prompt is the same question with fewer of the same lines.
    if held_out.wordings.stand_in(f"{lesson.prompt}\n{lesson.answer}"):
        return LEAKED
    if redaction.count(lesson.prompt) or redaction.count(lesson.answer) or redaction.count(lesson.clean_prompt):
        return SECRET
    return UNGROUNDED if ungrounded(lesson, evidence.get(lesson.memory)) else ""


def ungrounded(lesson: Lesson, sources: str | None = None) -> tuple[str, ...]:
    """Identifiers of the answer that stand neither in the prompt nor in `sources`.

    >>> from dataclasses import replace
    >>> lesson = Lesson("brief", "", "[1] 2026-01-01 agent: port is 5433", "port is 5433 [1].", "brief@0", "", "", (), ())
    >>> ungrounded(lesson), ungrounded(replace(lesson, answer="PORT_NUMBER is 5434 [1]."))
    ((), ('PORT_NUMBER', '5434'))
    """
    if lesson.slice in ("general", "choice") or (sources is None and not _shows_evidence(lesson)):
        return ()
    known = f"{lesson.prompt}\n{sources or ''}"
    folded = known.casefold()
    names = dict.fromkeys([*names_in(lesson.answer), *_NAMES.findall(lesson.answer), *_numbers(lesson.answer)])
    days = set(re.findall(r"\d{4}-\d\d-\d\d", lesson.answer))
    return tuple(name for name in names if name.casefold() not in folded and not any(name in each for each in days))


def parrot_share(answers: Sequence[str]) -> float:
    """Share of the four most frequent answers, those that say nearly the same counted as one, 0 to 1.

    What is said once is no repetition, however few answers there are.

    >>> parrot_share(["a b c d", "A b c d.", "e", "f"])
    0.5
    """
    sizes = sorted((len(each) for each in _clusters(answers) if len(each) > 1), reverse=True)
    return sum(sizes[:MOST_FREQUENT]) / len(answers) if answers else 0.0


def _shows_evidence(lesson: Lesson) -> bool:
    return lesson.template.partition("@")[0] in ("brief", "choose", "remember")


def _numbers(answer: str) -> list[str]:
    without_cites = re.sub(r"\[\d+(?:, ?\d+)*\]|^\d+\. ", "", answer, flags=re.MULTILINE)
    return re.findall(r"(?<![\w.])\d{2,}(?:\.\d+)*(?![\w.]*\w)", without_cites)


def _each_once(lessons: Sequence[Lesson], dropped: Counter[str]) -> list[Lesson]:
    """Drop what asks nearly the same and answers the same as an earlier lesson of its slice."""
    asked = [near.shingles(lesson.prompt) for lesson in lessons]
    gone: set[int] = set()
    for earlier, later in near.pairs(asked):
        one, other = lessons[earlier], lessons[later]
        if earlier not in gone and one.slice == other.slice and _same(one.answer, other.answer):
            gone.add(later)
    dropped[AGAIN] += len(gone)
    return [lesson for n, lesson in enumerate(lessons) if n not in gone]


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    return (
        near.overlap(frozenset(map(hash, one.lower().split())), frozenset(map(hash, other.lower().split())))
        >= near.NEARLY
    )


def _target(lesson: Lesson) -> str:
    """What an answer says: nothing of its own where it names lines or keeps silent, which have shares of their own."""
    return "" if lesson.slice == "choice" or lesson.answer == NOTHING else lesson.answer


def _less_parroted(lessons: Sequence[Lesson], dropped: Counter[str]) -> list[Lesson]:
    """Thin out the most frequent answers until four of them are no more than their share allows."""
    places = [n for n, lesson in enumerate(lessons) if _target(lesson)]
    if len(places) < MIN_FOR_SHARES:
        return list(lessons)
    clusters = [[places[n] for n in each] for each in _clusters([lessons[n].answer for n in places])]
    num = len(places)
    clusters.sort(key=len, reverse=True)
    gone: set[int] = set()
    while clusters and len(clusters[0]) > 1:
        if sum(len(each) for each in clusters[:MOST_FREQUENT] if len(each) > 1) <= MAX_P4 * num:
            break
        gone.add(clusters[0].pop())
        num -= 1
        clusters.sort(key=len, reverse=True)
    dropped[PARROTED] += len(gone)
    return [lesson for n, lesson in enumerate(lessons) if n not in gone]


def _clusters(answers: Sequence[str]) -> list[list[int]]:
    """Places of answers that say nearly the same."""
    by_text: dict[str, list[int]] = {}
    for n, answer in enumerate(answers):
        by_text.setdefault(" ".join(re.findall(r"\w+", answer.lower())) or answer, []).append(n)
    texts = list(by_text)
    root = list(range(len(texts)))
    for one, other in near.pairs([near.shingles(text) for text in texts]):
        root[other] = root[one]
    joined: dict[int, list[int]] = {}
    for n, text in enumerate(texts):
        at = n
        while root[at] != at:
            at = root[at]
        joined.setdefault(at, []).extend(by_text[text])
    return list(joined.values())


def _findings(
    lessons: Sequence[Lesson],
    dropped: Counter[str],
    slices: Collection[str],
    wanted: Collection[str],
) -> tuple[Finding, ...]:
    targets = [_target(lesson) for lesson in lessons if _target(lesson)]
    p4 = parrot_share(targets)
    counts = Counter(lesson.slice for lesson in lessons)
    found = [
        _finding(
            "the four most frequent answers", p4, MAX_P4, len(targets) < MIN_FOR_SHARES, {"num": float(len(targets))}
        ),
    ]
    for name, nothing in (("choice", NOBODY), ("brief", NOTHING)):
        mine = [lesson.answer for lesson in lessons if lesson.slice == name]
        if mine:
            share = mine.count(nothing) / len(mine)
            found.append(_finding(f"{name}s without an answer", share, MAX_ABSENT, len(mine) < MIN_FOR_SHARES, {}))
    first = Counter(
        lesson.answer.split()[0] for lesson in lessons if lesson.slice == "choice" and lesson.answer != NOBODY
    )
    if first:
        share = first.most_common(1)[0][1] / first.total()
        found.append(
            _finding("choices that begin with one number", share, MAX_FIRST, first.total() < MIN_FOR_SHARES, {})
        )
    told = ", ".join(f"{counts[name]} {name}" for name in counts) or "none"
    figures = {**{name: float(num) for name, num in counts.items()}, **{r: float(n) for r, n in dropped.items() if n}}
    missing = [name for name in dict.fromkeys((*slices, *wanted)) if not counts[name]]
    none = f" NONE of the kind {', '.join(missing)}: this model is not taught that." if missing else ""
    found.append(Finding(GATE, all(counts[name] for name in slices), f"lessons: {told}.{none}", figures))
    return tuple(found)


def _finding(what: str, share: float, most: float, too_few: bool, figures: Mapping[str, float]) -> Finding:
    told = f"{what}: {share:.0%}, at most {most:.0%} are allowed{' (too few to tell)' if too_few else ''}."
    return Finding(GATE, too_few or share <= most, told, {"share": share, "most": most, **figures})
