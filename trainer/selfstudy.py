"""Facts in, more lessons about them out, written by a model on this machine: other wordings, the reverse question, a short text.

Off unless a model is configured. All that it writes must pass the lint: no secret, nothing like a probe, no name that its
evidence does not hold. A question must pass a round trip besides: the model must answer it rightly from the evidence, and
fail without it, or the question gives its answer away. Right is the value; for a reverse question, which names the value, it is
what that was said of. A text asks nothing and has no round trip. Every answer is kept by (fact, prompt, model), so that
the next run asks only about what is new. Nothing is sent to another machine: an address that is not loopback is refused.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lmm_mcp import prompting, redaction
from lmm_mcp.artifacts import durable
from lmm_mcp.domain.fact import Fact
from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.evaluation.judging import folded
from lmm_mcp.model import generate
from lmm_mcp.model.loopback import LoopbackRuntime
from lmm_mcp.model.network import Network
from lmm_mcp.store.terms import terms
from trainer import lint, near
from trainer.made import Made, made
from trainer.recitals import Held

MAX_EVIDENCE_chars = 1_500
MAX_QUESTION_chars = 300
MAX_NEW_TOKENS = 200
WITHIN_s = 60.0
"""For one answer of a model behind a server."""
FAMILY = "train/study"
TOLD = "gives its answer away"
UNANSWERED = "is not answered rightly from its evidence"
UNASKED = "could not be tried, since the model is asked no more"
PROBED = "asks like a probe"
UNFIT = "is no question, or too long"
STRANGE = "names what its evidence does not"
SECRET = "holds a secret"  # noqa: S105 - a reason, no secret


class Generator(Protocol):
    """A model on this machine."""

    @property
    def name(self) -> str:
        """Names the model; answers are kept by it."""
        ...

    def __call__(self, prompt: str) -> str | None:
        """What it says by its most probable words; None where it could not be asked."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A model behind an OpenAI-compatible server on loopback. Raises ModelError for any other address, when it is made."""

    address: str
    """Such as `http://127.0.0.1:8080/v1`."""
    model: str = ""
    _runtime: LoopbackRuntime = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_runtime", LoopbackRuntime(self.address, model=self.model))

    @property
    def name(self) -> str:
        """The model, or where it is served."""
        return self._runtime.version

    def __call__(self, prompt: str) -> str | None:
        """Ask it."""
        return self._runtime.write(prompt, max_new_tokens=MAX_NEW_TOKENS, within_s=WITHIN_s)


@dataclass(frozen=True, slots=True)
class Local:
    """The base model itself, which needs no server."""

    network: Network

    @property
    def name(self) -> str:
        """The base, by its weights."""
        return f"base {self.network.card.fingerprint}"

    def __call__(self, prompt: str) -> str | None:
        """Ask it."""
        return generate.generate(self.network, [prompt], max_new_tokens=MAX_NEW_TOKENS)[0]


@dataclass(frozen=True, slots=True)
class Studied:
    """What came of it."""

    lessons: tuple[Made, ...]
    texts: tuple[str, ...]
    dropped: Mapping[str, int]
    """Answers of the model that were not used, by reason."""
    num_asked: int
    """How often the model was asked; what was kept from earlier runs is not asked again."""
    text_threads: tuple[tuple[str, str], ...] = ()
    """(agent, thread id) of what the texts were made from."""


class Kept:
    """Answers of models, one a line, appended as they come: a death costs the last one. Used by one process at a time.

    `artifacts.places.study_file` says where they lie; what is forgotten is cut out of it there.
    """

    def __init__(self, file: Path, guard: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """`guard` is entered around every addition, and raises where none may be made."""
        self._file = file
        self._guard = guard
        self._known: dict[str, str] = {}
        for line in file.read_bytes().splitlines() if file.exists() else ():
            try:
                told = json.loads(line)
                self._known[str(told["key"])] = str(told["text"])
            except (ValueError, KeyError, TypeError):
                continue  # a torn line: its answer is asked for again

    def get(self, key: str) -> str | None:
        """What was answered before."""
        return self._known.get(key)

    def add(self, key: str, text: str, threads: Sequence[tuple[str, str]]) -> None:
        """Keep an answer with the (agent, thread id) that it tells of. Raises OSError."""
        with self._guard():
            self._append(key, text, threads)
        self._known[key] = text

    def _append(self, key: str, text: str, threads: Sequence[tuple[str, str]]) -> None:
        durable.make_folder(self._file.parent)
        line = json.dumps({"key": key, "text": text, "threads": list(threads)}).encode("ascii")
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, b"\n" + line + b"\n")  # a torn line before it ends here
        finally:
            os.close(descriptor)


def study(
    those: Sequence[Held],
    grounds: Mapping[str, str],
    generator: Generator,
    kept: Kept,
    *,
    probe_prompts: Collection[str] = (),
    max_asked: int = 1_000,
    should_stop: Callable[[], bool] = lambda: False,
) -> Studied:
    """Have the model write about each fact, as far as `max_asked` goes. `grounds`: by fact id what its passages say.

    Stops where the model cannot be asked any more: what was studied by then stands.
    """
    desk = _Desk(generator, kept, max_asked, Counter())
    probes = [near.shingles(each) for each in probe_prompts]
    lessons: list[Made] = []
    texts: list[str] = []
    threads: dict[tuple[str, str], None] = {}
    for each in those:
        if desk.is_closed or should_stop():
            break
        evidence = _excerpt(grounds.get(each.fact.id, ""), each.fact.value)
        if not evidence:
            continue
        about = {"evidence": evidence, "fact": each.fact.text, "value": each.fact.value}
        asked = _lines(desk.ask("study_questions", each, **about))
        reverse = _lines(desk.ask("study_reverse", each, **about))[:1]
        for question, is_reverse in [*((one, False) for one in asked[:3]), *((one, True) for one in reverse)]:
            if reason := _objection(question, each, evidence, desk, probes, is_reverse=is_reverse):
                desk.dropped[reason] += 1
            else:
                lessons.append(_lesson(each, question, is_reverse, desk.mark("study_questions")))
        document = " ".join((desk.ask("study_document", each, evidence=evidence, fact=each.fact.text) or "").split())
        if document and (reason := _strange(document, each, evidence)):
            desk.dropped[reason] += 1
        elif document:
            texts.append(document)
            threads |= dict.fromkeys(each.all_threads)
    return Studied(tuple(lessons), tuple(texts), dict(desk.dropped), desk.num_asked, tuple(threads))


@dataclass(slots=True)
class _Desk:
    generator: Generator
    kept: Kept
    max_asked: int
    dropped: Counter[str]
    num_asked: int = 0
    is_closed: bool = False

    def ask(self, name: str, each: Held, **slots: str) -> str | None:
        prompt = prompting.load(name)
        key = _key(each.fact.id, prompt.mark, self.generator.name, slots.get("question", ""), slots.get("evidence", ""))
        known = self.kept.get(key)
        if known is not None:
            return known
        if self.is_closed or self.num_asked >= self.max_asked:
            self.is_closed = True
            return None
        self.num_asked += 1
        said = self.generator(prompt.render(**slots))
        if said is None:
            self.is_closed = True
            return None
        self.kept.add(key, said, each.all_threads)
        return said

    def mark(self, name: str) -> str:
        return prompting.load(name).mark


def _objection(
    question: str,
    each: Held,
    evidence: str,
    desk: _Desk,
    probes: Sequence[frozenset[int]],
    *,
    is_reverse: bool,
) -> str:
    value = folded(each.fact.value)
    if not question.endswith("?") or len(question) > MAX_QUESTION_chars:
        return UNFIT
    if redaction.count(question):
        return SECRET
    if is_reverse and value not in folded(question):
        return UNFIT
    wanted = _said_of(each.fact) - set(terms(question))
    if not wanted if is_reverse else value in folded(question):
        return TOLD
    mine = near.shingles(prompting.recalling(question, each.fact.project))
    if any(near.overlap(mine, probe) >= near.NEARLY for probe in probes):
        return PROBED
    if reason := _strange(question, each, evidence, must_tell=False):
        return reason

    def is_right(said: str) -> bool:
        if not is_reverse:
            return value in folded(said)
        found = wanted & set(terms(said))
        return found == wanted if each.fact.subject else bool(found)

    looked_up = desk.ask("study_answer", each, evidence=evidence, question=question)
    by_heart = desk.ask("study_answer", each, evidence="(nothing)", question=question)
    if looked_up is None or by_heart is None:
        return UNASKED
    if not is_right(looked_up):
        return UNANSWERED
    return TOLD if is_right(by_heart) else ""


def _said_of(fact: Fact) -> set[str]:
    """The terms of what a value was said of: of the subject, all of which an answer must name; without one, of the rest of the
    sentence, such as `tests` and `run`, of which one will do.
    """
    return set(terms(fact.subject or fact.text.replace(fact.value, " ")))


def _strange(text: str, each: Held, evidence: str, *, must_tell: bool = True) -> str:
    if redaction.count(text):
        return SECRET
    if must_tell and folded(each.fact.value) not in folded(text):
        return UNANSWERED
    said = Lesson("brief", "", evidence, text, "brief@", "", "", (), ())
    return STRANGE if lint.ungrounded(said, f"{each.fact.text}\n{each.fact.project}") else ""


def _lesson(each: Held, question: str, is_reverse: bool, mark: str) -> Made:
    fact = each.fact
    lesson = Lesson(
        slice="fact",
        category=fact.category,
        prompt=prompting.recalling(question, fact.project),
        answer=fact.text if is_reverse else fact.value,
        template=prompting.load("fact").mark,
        family=f"{FAMILY}/{mark}",
        memory=fact.id,
        sources=each.sources,
        threads=each.all_threads,
        project=fact.project,
        at_ms=each.at_ms,
        weight=each.weight,
    )
    return made(lesson, question, template_chars=0, kind="studied")


def _excerpt(ground: str, value: str) -> str:
    """The stretch of the passages around the value, cut at line ends."""
    at = ground.find(value)
    if at < 0:
        return ""
    start = max(0, at - MAX_EVIDENCE_chars // 2)
    start = ground.rfind("\n", 0, start) + 1 if start else 0
    end = start + MAX_EVIDENCE_chars
    cut = ground.rfind("\n", at + len(value), end)
    return ground[start : cut if cut > 0 and end < len(ground) else max(end, at + len(value))].strip()


def _lines(said: str | None) -> list[str]:
    lines = [re.sub(r"^\s*(?:[-*•]|\d{1,2}[.)])\s*", "", line).strip() for line in (said or "").splitlines()]
    return list(dict.fromkeys(line for line in lines if line))


def _key(*parts: str) -> str:
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
