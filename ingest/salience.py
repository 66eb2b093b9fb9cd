"""Passages of one thread in, how much each is worth remembering out, by features that need no model; each with its reasons.

Salience ranks and promotes and never decides what exists. Weights are set by hand and go through a sigmoid; raise
SALIENCE_VERSION when anything here changes: threads are then derived anew.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ingest import cues
from ingest.procedures import procedures
from ingest.repairs import repairs
from ingest.session import ToolCall, Turn
from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.domain.fact import Fact, Salience
from lmm_mcp.recall import habits
from lmm_mcp.store.frequencies import Frequencies

SALIENCE_VERSION = 1
BIAS = -2.5
WEIGHTS: Mapping[str, float] = {
    "pinned": 6.0,
    "correction": 3.0,
    "told again": 2.5,
    "error and fix": 2.0,
    "new names": 1.5,
    "supports a fact": 1.2,
    "outcome": 1.0,
    "effort": 0.7,
    "noise": -3.0,
}
"""Each feature is 0 to 1."""
MOMENTUM = 0.3
"""What follows a salient passage is worth more, too: this share of its score, seven tenths of that for each further one."""
_REACH = 5
_FADES = 0.7
_SALIENT = 0.6
_MAX_NAMES = 60
_LONG_TURN_steps = 60
_NAME = re.compile(r"\b[A-Za-z_][\w-]*(?:[./:]{1,2}\w[\w-]*)+|\b[A-Za-z]+_\w+|\b[a-z]+[A-Z]\w+|\b[A-Z][a-z]+[A-Z]\w+")
_NOISE = re.compile(
    r"^\s*(?:[\d.,]+ ?%|[#=>.\-█▏▎▍▌▋▊▉░▒▓]{6,}|(?:Downloading|Downloaded|Fetching|Fetched|Compiling|Resolving|Unpacking|Installing|Installed|Requirement already|Collecting|Using cached)\b)"
    r"|node_modules/|\bresolved https?://|\bintegrity\b.{0,4}sha\d|[A-Fa-f0-9]{40,}|\(unchanged\)|\bpackage-lock\.json\b|\byarn\.lock\b"
)
_APPROVED = re.compile(
    r"^\W*(?:(?:great|perfect|nice|awesome|excellent|thanks?|thank you|works|it works|lgtm|looks good|good job|exactly)\b|完美|很好|谢谢|可以了|搞定)",
    re.IGNORECASE,
)
_COMMITTED = re.compile(r"\bgit\b.{0,60}\bcommit\b|\bgh pr (?:create|merge)\b")


def weigh(
    turns: Sequence[Turn],
    chunks: Sequence[Chunk],
    observations: Sequence[Fact],
    *,
    frequencies: Frequencies,
    is_told_again: Callable[[Fact], bool],
) -> Iterator[Salience]:
    """The salience of each chunk, in order.

    `frequencies`: of the whole memory: names that it knows are not new. `is_told_again`: whether the user had said the
    same in another session, which means that memory failed them.
    """
    by_event = _features(turns, observations, is_told_again)
    before: list[float] = []
    for chunk in chunks:
        features: dict[str, float] = {"new names": _novelty(chunk, frequencies), "noise": _noise(chunk)}
        for event_id in chunk.event_ids:
            for name, value in by_event.get(event_id, {}).items():
                features[name] = max(features.get(name, 0.0), value)
        reasons = {name: WEIGHTS[name] * value for name, value in features.items() if value > 0.01}
        own = 1.0 / (1.0 + math.exp(-(BIAS + sum(reasons.values()))))
        pull = max(
            (MOMENTUM * score * _FADES**k for k, score in enumerate(reversed(before[-_REACH:])) if score >= _SALIENT),
            default=0.0,
        )
        before.append(own)
        if pull:
            reasons["follows what matters"] = pull
        ranked = sorted(
            ((name, round(added, 3)) for name, added in reasons.items()), key=lambda one: (-abs(one[1]), one[0])
        )
        yield Salience(chunk.id, round(min(1.0, own + pull * (1.0 - own)), 4), tuple(ranked))


def _features(
    turns: Sequence[Turn], observations: Iterable[Fact], is_told_again: Callable[[Fact], bool]
) -> dict[str, dict[str, float]]:
    """What single events are worth, by their ids."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for fact in observations:
        by_user = any(each.role == "user" for each in fact.evidence)
        again = by_user and is_told_again(fact)
        for each in fact.evidence:
            worth = found[each.span.event_id]
            worth["supports a fact"] = 1.0
            if again and each.role == "user":
                worth["told again"] = 1.0
            if fact.relation == "correction":
                worth["correction"] = 1.0
            if fact.relation == "standing rule" and each.role == "user":
                worth["pinned"] = 1.0
    for number, turn in enumerate(turns):
        _of_turn(turn, turns[number + 1] if number + 1 < len(turns) else None, found)
    calls = [step for turn in turns for step in turn.steps if isinstance(step, ToolCall)]
    for repair in repairs(calls):
        found[repair.error_event.id]["error and fix"] = 1.0
        found[repair.fix_event.id]["error and fix"] = 1.0
    return found


def _of_turn(turn: Turn, following: Turn | None, found: dict[str, dict[str, float]]) -> None:
    effort = min(1.0, math.log1p(len(turn.steps)) / math.log(_LONG_TURN_steps))
    if turn.prompt is not None:
        found[turn.prompt.id]["effort"] = effort
        if turn.thread.agent == "notes" or (
            not turn.thread.is_subagent and len(turn.prompt.text) < 1_500 and cues.RULE.search(turn.prompt.text)
        ):
            found[turn.prompt.id]["pinned"] = 1.0
    last_said = None
    for step in turn.steps:
        if isinstance(step, ToolCall):
            if _succeeded(step):
                found[step.call.id]["outcome"] = 1.0
        elif step.kind == "reply":
            last_said = step
    if last_said is not None:
        found[last_said.id]["effort"] = effort  # what came of it stands at the end
        if following is not None and following.prompt is not None and _APPROVED.match(following.prompt.text):
            found[last_said.id]["outcome"] = 1.0


def _succeeded(step: ToolCall) -> bool:
    if not step.call.command or habits.outcome_of(step.result) is not True:
        return False
    if _COMMITTED.search(step.call.command):
        return True
    return any(relation == "test command" for relation, *_ in procedures(step.call.command, folder=step.call.cwd))


def _novelty(chunk: Chunk, frequencies: Frequencies) -> float:
    """How rare the names in a passage are: 1 where no other passage knows them."""
    names = list(dict.fromkeys(name.lower() for line in chunk.lines for name in _NAME.findall(line.text)))[:_MAX_NAMES]
    if not names or not frequencies.num_chunks:
        return 0.0
    most = math.log1p((frequencies.num_chunks - 0.5) / 1.5)
    idf = frequencies.idf(names)
    # A few names may be rare by chance: full marks from five on.
    return sum(value / most for value in idf.values()) / max(len(names), 5)


def _noise(chunk: Chunk) -> float:
    """The share of its lines that a program printed to pass the time."""
    if not chunk.lines:
        return 1.0
    return sum(_NOISE.search(line.text[:400]) is not None for line in chunk.lines) / len(chunk.lines)
