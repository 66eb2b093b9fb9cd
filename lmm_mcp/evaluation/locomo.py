"""LoCoMo (Maharana et al., ACL 2024): its file in, a suite out.

Ten talks of some twenty to thirty dated sessions each, with questions that name the turns holding their answer as `D3:11`.
An image that was shared is remembered by the caption that the file has of it. Evidence is read leniently (`D8:6; D9:17`
names two turns, `D30:05` is `D30:5`); of the turns named, those that exist count, and a question of which none exists is
left out.
"""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation.conversations import Conversation, Figures, Found, Posed, Session, Suite, Turn, records, share

CATEGORIES: Mapping[int, str] = {
    1: "multi-hop",
    2: "temporal",
    3: "open-domain",
    4: "single-hop",
    5: "adversarial",
}
"""By the codes of the file; checked against the counts of the paper's Table 5."""
ANSWERABLE = "1-4"
"""Group of all but the adversarial ones."""
TURN_DEPTHS = (5, 10, 20)
SESSION_DEPTHS = (5, 10)
ODDITIES = (KeyError, ValueError, TypeError, AttributeError, IndexError)
"""What comes of a file of another shape."""
_EVIDENCE = re.compile(r"D:?(\d+):(\d+)")
_SESSION = re.compile(r"session_(\d+)")


def read(path: Path) -> Suite:
    """Read the file. Raises BadInput for what is none."""
    talks, questions = [], []
    left_out: Counter[str] = Counter()
    for sample in records(path):
        try:
            talk = conversation(sample)
            asked = sample["qa"]
            for number, each in enumerate(asked):
                gold = _gold(talk, each["evidence"])
                if not gold:
                    left_out["their evidence names no turn"] += 1
                    continue
                code = int(each["category"])
                groups = (f"{code} {CATEGORIES.get(code, 'other')}", *((ANSWERABLE,) if code != 5 else ()))
                sessions = frozenset(part.id for part in talk.sessions for turn in part.turns if turn.id in gold)
                questions.append(Posed(f"{talk.id}:q{number}", str(each["question"]), talk.id, gold, sessions, groups))
            talks.append(talk)
        except ODDITIES as problem:
            raise no_locomo(path, problem) from problem
    return Suite("locomo", tuple(talks), tuple(questions), judge, left_out)


def conversation(sample: Mapping[str, Any]) -> Conversation:
    """One talk. The first speaker is taken for the person, the second for the agent. Raises KeyError and ValueError."""
    talk, name = sample["conversation"], str(sample["sample_id"])
    numbers = sorted(int(found[1]) for key in talk if (found := _SESSION.fullmatch(key)))
    sessions = []
    for number in numbers:
        turns = tuple(
            Turn(
                f"{name}:{turn['dia_id']}",
                turn["speaker"],
                _said(turn),
                "prompt" if turn["speaker"] == talk["speaker_a"] else "reply",
            )
            for turn in talk[f"session_{number}"]
        )
        if turns:
            sessions.append(Session(f"{name}:session_{number}", _at_ms(talk[f"session_{number}_date_time"]), turns))
    return Conversation(name, tuple(sessions))


def judge(posed: Posed, found: Found) -> Figures:
    """`turns@N`, `sessions@N`: the share of the turns, and of the sessions, of the evidence among the first N."""
    return {f"turns@{depth}": share(posed.gold_turns, found.turns, depth) for depth in TURN_DEPTHS} | {
        f"sessions@{depth}": share(posed.gold_sessions, found.sessions, depth) for depth in SESSION_DEPTHS
    }


def _said(turn: Mapping[str, Any]) -> str:
    caption = turn.get("blip_caption")
    return f"{turn['text']} [shares {caption}]" if caption else str(turn["text"])


def _gold(talk: Conversation, evidence: list[str]) -> frozenset[str]:
    known = {turn.id for part in talk.sessions for turn in part.turns}
    named = (f"{talk.id}:D{int(found[1])}:{int(found[2])}" for each in evidence for found in _EVIDENCE.finditer(each))
    return frozenset(turn for turn in named if turn in known)


def _at_ms(text: str) -> int:
    return int(datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC).timestamp() * 1000)


def no_locomo(path: Path, problem: object) -> BadInput:
    """Say of a file that it is not what it should be."""
    told = f"{type(problem).__name__}: {problem}" if isinstance(problem, Exception) else problem
    return BadInput(f"{path} is no file of LoCoMo ({told}); name `locomo10.json` of its repository.")
