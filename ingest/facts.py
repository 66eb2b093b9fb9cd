"""Turns of one thread in, observations out: facts as this thread alone supports them. Deterministic, without a model.

Raise FACTS_VERSION when anything here, or in the files it calls, changes what is observed: threads are then derived anew.
Whoever is quoted keeps their own voice: what a tool prints is its output's and never the user's word, a sub-agent's task was given
by an agent, and what stands in our own fence was dropped before it came here.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from ingest import edits, manifests, statements
from ingest.agreements import Agreement, Listener
from ingest.procedures import NOT_THERE, procedures, version_printed
from ingest.repairs import repairs
from ingest.session import ToolCall, Turn
from ingest.statements import Statement
from lmm_mcp.domain.chunk import Span
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.domain.fact import Evidence, Fact
from lmm_mcp.domain.relations import RELATIONS, said
from lmm_mcp.recall import habits

FACTS_VERSION = 3
_MARK = "[REDACTED:"
_MAX_EVIDENCE = 8
"""Of one thread: who says it fifty times says it once."""


def observe(thread: Thread, turns: Sequence[Turn], *, project: str) -> list[Fact]:
    """All that a thread says about its project, each statement once, with the places where it says so."""
    return merged(chain.from_iterable(observe_by_turn(thread, turns, project=project)))


def observe_by_turn(thread: Thread, turns: Sequence[Turn], *, project: str) -> Iterator[list[Fact]]:
    """What each turn says, one after another, and at last what only all of them together do."""
    voice = _Voice(thread, project)
    for number, turn in enumerate(turns):
        yield list(_from_turn(turn, voice, is_first=number == 0))
    calls = [step for turn in turns for step in turn.steps if isinstance(step, ToolCall)]
    yield [*voice.repaired(calls), *_routine(calls, voice)]
    last = next((step for turn in turns[-1:] for step in reversed(turn.steps) if isinstance(step, Event)), None)
    if last is not None and last.kind == "reply":
        yield list(voice.tell(statements.left_open(last.text), last, "agent"))


def merged(facts: Iterable[Fact]) -> list[Fact]:
    """Each statement once, without those that a secret was cut out of."""
    found: dict[str, Fact] = {}
    for fact in facts:
        if _MARK in fact.value or _MARK in fact.subject or not fact.value.strip():
            continue
        old = found.get(fact.id)
        found[fact.id] = fact if old is None else _joined(old, fact)
    return list(found.values())


def _from_turn(turn: Turn, voice: "_Voice", *, is_first: bool) -> Iterator[Fact]:
    if turn.prompt is not None:
        yield from _from_prompt(turn.prompt, voice, is_first=is_first)
    for step in turn.steps:
        if isinstance(step, ToolCall):
            yield from _from_call(step, voice)
        elif step.kind in ("reply", "summary"):
            role = "agent" if step.kind == "reply" else "summary"
            yield from voice.tell(statements.by_agent(step.text), step, role)
            voice.listener.hear(step, by_person=False)


def _from_prompt(prompt: Event, voice: "_Voice", *, is_first: bool) -> Iterator[Fact]:
    if voice.thread.agent == "notes":
        yield from voice.tell(statements.by_note(prompt.text), prompt, "note")
    elif voice.thread.is_subagent:  # its task was written by an agent
        yield from voice.tell(statements.by_agent(prompt.text), prompt, "agent")
    else:
        taken_back = None if is_first else statements.correction(prompt.text)
        if taken_back is not None:
            yield from voice.tell([taken_back], prompt, "user")
        agreed = voice.listener.hear(prompt, by_person=True) if statements.is_typed(prompt.text) else []
        yield from (voice.agreed(each, prompt) for each in agreed)
        taken = {each.said.start for each in agreed} | ({taken_back.start} if taken_back is not None else set())
        told = statements.by_person(prompt.text)
        # What such a sentence says of tools is told nevertheless.
        yield from voice.tell(
            (each for each in told if each.relation != "decision" or each.start not in taken), prompt, "user"
        )


def _from_call(step: ToolCall, voice: "_Voice") -> Iterator[Fact]:
    call, result = step.call, step.result
    if call.command and result is not None:
        if habits.outcome_of(result) is True and not NOT_THERE.search(result.text[:2_000]):
            folder = call.cwd or voice.thread.cwd
            for relation, value, subject in procedures(call.command, folder=folder):
                yield from voice.see(relation, value, subject, call, "command")
            if (printed := version_printed(call.command, result.text)) is not None:
                subject, value, at = printed
                yield voice.fact("runtime version", subject, value, [(result, at, at + len(value), "output")])
        if any(relation == "run command" for relation, *_ in procedures(call.command, folder="")):
            yield from voice.tell(statements.ports(result.text), result, "output")
    elif call.paths and len(call.paths) == 1 and not _is_foreign(call.paths[0]):
        name = call.paths[0].replace("\\", "/").rsplit("/", 1)[-1]
        shown = result if result is not None and result.failed is not True else None
        if name.lower() in manifests.NAMES and shown is not None and _is_top(call.paths[0], voice.thread):
            for each in manifests.laid_down(name, shown.text):
                yield voice.fact(each.relation, each.subject, each.value, [(shown, each.start, each.end, "file")])
    if call.paths and not (result is not None and result.failed):
        for change in edits.changed(call):
            for value, at in ((change.old, change.old_start), (change.new, change.new_start)):
                yield voice.fact("setting", change.subject, value, [(call, at, at + len(value), "edit")])


_MIN_RUNS = 2
_SPECIFIC = re.compile(
    r"""[\d"'`$|;<>(){}*?~=]|/\S+/| -- |:\S*-\S*-|^(?:tmux|git|gh|curl|wget|ssh|scp|brew|apt|sudo|docker (?:exec|logs|ps|inspect))\b"""
)
"""What stands in commands that are about one thing of the day: names, numbers, messages, addresses."""


def _routine(calls: Sequence[ToolCall], voice: "_Voice") -> Iterator[Fact]:
    """Commands without arguments of the day that a session ran again and again, always with success."""
    runs: dict[str, list[tuple[bool | None, Event]]] = {}
    for step in calls:
        line = habits.plain_command(step.call.command) if step.call.command else ""
        if 6 <= len(line) <= 80 and " " in line and not _SPECIFIC.search(line) and "&&" not in line:
            runs.setdefault(line, []).append((habits.outcome_of(step.result), step.call))
    for line, found in runs.items():
        is_known = any(True for _ in procedures(line, folder=""))
        if len(found) >= _MIN_RUNS and not is_known and all(succeeded is True for succeeded, _ in found):
            yield from voice.see("routine command", line, "", found[-1][1], "command")


def _is_foreign(path: str) -> bool:
    return any(part in path for part in ("node_modules", "site-packages", "/vendor/", "/.venv/", "/tmp/"))  # noqa: S108 - compared with, not written to


def _is_top(path: str, thread: Thread) -> bool:
    """Whether a file lies in the folder that the thread works in: that of a part of it says nothing of the whole."""
    folder, _, name = path.replace("\\", "/").rpartition("/")
    return bool(name) and folder in ("", ".", thread.cwd.replace("\\", "/").rstrip("/"))


class _Voice:
    """Makes facts of what one thread says."""

    def __init__(self, thread: Thread, project: str) -> None:
        self.thread, self._project = thread, project
        self.listener = Listener()

    def tell(self, told: Iterable[Statement], event: Event, role: str) -> Iterator[Fact]:
        """Facts of statements of one event."""
        for each in told:
            yield self.fact(each.relation, each.subject, each.value, [(event, each.start, each.end, role)])

    def see(self, relation: str, value: str, subject: str, event: Event, role: str) -> Iterator[Fact]:
        """A fact of a value that stands somewhere in the text of an event; none where it does not."""
        at = event.text.find(value)
        if at >= 0:
            yield self.fact(relation, subject, value, [(event, at, at + len(value), role)])

    def agreed(self, each: Agreement, prompt: Event) -> Fact:
        """The decision for one of two, with both places."""
        weighed, said = each.weighed, each.said
        role = "user" if weighed.event.kind == "prompt" else "agent"
        places = [
            (weighed.event, weighed.start, weighed.end, role),
            (prompt, said.start, said.start + len(said.text), "user"),
        ]
        text = f"{RELATIONS['decision'].sentence.format(value=said.text)} (The alternative was {each.alternative}.)"
        return self.fact("decision", "", said.text, places, text=text)

    def repaired(self, calls: Sequence[ToolCall]) -> Iterator[Fact]:
        """Facts of errors and what mended them: the error's line is the subject."""
        for each in repairs(calls):
            places = [
                (each.error_event, each.error_at, each.error_at + len(each.error), "error"),
                (each.fix_event, each.fix_at, each.fix_at + len(each.fix), each.fix_role),
            ]
            text = f"`{each.error}` was fixed in {each.file} by `{each.fix}`." if each.file else ""
            yield self.fact("error fix", each.error, each.fix, places, text=text)

    def fact(
        self, relation: str, subject: str, value: str, places: Sequence[tuple[Event, int, int, str]], *, text: str = ""
    ) -> Fact:
        """One observation with its evidence: (event, start, end, role) for each."""
        about = RELATIONS[relation]
        evidence = tuple(
            Evidence(
                self.thread.agent,
                self.thread.thread_id,
                self.thread.session_id,
                Span(event.id, start, end),
                role,
                event.at_ms,
            )
            for event, start, end, role in places
        )
        return Fact(
            self._project,
            about.category,
            relation,
            subject,
            value,
            text or said(relation, value, subject),
            evidence,
            min((each.at_ms for each in evidence if each.at_ms), default=0),
            volatility=about.volatility,
        )


def _joined(old: Fact, new: Fact) -> Fact:
    evidence = tuple(dict.fromkeys((*old.evidence, *new.evidence)))
    # The latest must stay: it says until when the value held.
    return replace(old, evidence=(*evidence[: _MAX_EVIDENCE - 1], *evidence[_MAX_EVIDENCE - 1 :][-1:]))
