"""LoCoMo-Plus (arXiv 2602.10715): what somebody says now, and the earlier remark that explains it, without shared words.

Each of its pairs has a cue (a remark and its answer), a trigger (what is said later) and the time between them. The cue is
put into a talk of LoCoMo, the trigger is the question, and the turns of the cue are what must be found. As in the
benchmark's own code:

- pair n goes into talk n modulo the number of talks;
- A is the talk's first speaker, B its second;
- the trigger is said a week after the talk's last session, the cue so much earlier as `time_gap` says, as a session of its
  own; months have 30 days, years 365, and a gap without a number (`several months later`) is none.

There each pair has a copy of the talk to itself. Embedding 401 copies takes hours, so here the pairs of one talk share it,
some forty of them: `turns@N` strikes the cues of the others from the ranking, as if they were not there, and `crowded@10`
leaves them in. They still take places among the candidates, so that `turns@N` is, if anything, too low.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation import locomo
from lmm_mcp.evaluation.conversations import Conversation, Figures, Found, Posed, Session, Suite, Turn, records, share

DEPTHS = (5, 10, 20)
CROWDED_DEPTH = 10
ASKED_AFTER = timedelta(days=7)
_NUMBERS = {
    word: n for n, word in enumerate("one two three four five six seven eight nine ten eleven twelve".split(), 1)
} | {"a": 1, "an": 1}
_UNITS_days = {"week": 7, "month": 30, "year": 365}
_GAP = re.compile(rf"\b(\d+|{'|'.join(_NUMBERS)})\s+({'|'.join(_UNITS_days)})s?\b", re.IGNORECASE)
_SAID = re.compile(r"^\s*([AB])\s*:\s*(.*\S)", re.MULTILINE)


def read(path: Path, talks_path: Path) -> Suite:
    """Read the pairs, and the file of LoCoMo into whose talks they go. Raises BadInput for what is neither."""
    samples = records(talks_path)
    try:
        talks = [(locomo.conversation(each), each["conversation"]) for each in samples]
        speakers = [(str(about["speaker_a"]), str(about["speaker_b"])) for _, about in talks]
    except locomo.ODDITIES as problem:
        raise locomo.no_locomo(talks_path, problem) from problem
    cues: defaultdict[int, list[Session]] = defaultdict(list)
    asked: list[tuple[int, Posed]] = []
    left_out: Counter[str] = Counter()
    try:
        for number, pair in enumerate(records(path)):
            at = number % len(talks)
            talk = talks[at][0]
            asked_ms = talk.sessions[-1].at_ms + _ms(ASKED_AFTER)
            cue = _cue(f"{talk.id}:pair_{number}", pair, speakers[at], asked_ms - _ms(gap(str(pair["time_gap"]))))
            trigger = " ".join(said for _, said in _SAID.findall(pair["trigger_query"]))
            if not cue.turns or not trigger:
                left_out["they have no cue or no trigger"] += 1
                continue
            cues[at].append(cue)
            gold, groups = frozenset(turn.id for turn in cue.turns), (str(pair["relation_type"]),)
            asked.append((at, Posed(cue.id, trigger, talk.id, gold, frozenset({cue.id}), groups, asked_ms)))
    except locomo.ODDITIES as problem:
        raise BadInput(
            f"{path} is no file of LoCoMo-Plus ({type(problem).__name__}: {problem}); name `locomo_plus.json` of its repository."
        ) from problem
    all_cues = {at: frozenset(turn.id for each in found for turn in each.turns) for at, found in cues.items()}
    questions = tuple(replace(posed, others=all_cues[at] - posed.gold_turns) for at, posed in asked)
    filled = tuple(
        Conversation(talk.id, tuple(sorted((*talk.sessions, *cues[at]), key=lambda each: each.at_ms)))
        for at, (talk, _) in enumerate(talks)
    )
    return Suite("locomo-plus", filled, questions, judge, left_out)


def judge(posed: Posed, found: Found) -> Figures:
    """`turns@N`: the share of the cue's turns among the first N, those of other pairs struck; `crowded@10`: not struck."""
    alone = [turn for turn in found.turns if turn not in posed.others]
    figures = {f"turns@{depth}": share(posed.gold_turns, alone, depth) for depth in DEPTHS}
    return figures | {f"crowded@{CROWDED_DEPTH}": share(posed.gold_turns, found.turns, CROWDED_DEPTH)}


def gap(told: str) -> timedelta:
    """How long before the trigger the cue was said.

    >>> gap("about six weeks later").days, gap("a year later").days, gap("several months later").days
    (42, 365, 0)
    """
    found = _GAP.search(told)
    if found is None:
        return timedelta()
    number, unit = found[1].lower(), found[2].lower()
    num_units = int(number) if number.isdigit() else _NUMBERS[number]
    return timedelta(days=num_units * _UNITS_days[unit])


def _cue(name: str, pair: Mapping[str, Any], speakers: tuple[str, str], at_ms: int) -> Session:
    turns = [
        Turn(f"{name}:{n}", speakers[who == "B"], said, "reply" if who == "B" else "prompt")
        for n, (who, said) in enumerate(_SAID.findall(pair["cue_dialogue"]))
    ]
    return Session(name, at_ms, tuple(turns))


def _ms(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)
