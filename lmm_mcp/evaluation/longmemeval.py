"""LongMemEval (Wu et al., ICLR 2025): its file in (`longmemeval_s`, `_m` or `_oracle`), a suite out.

Each question has a haystack of its own: dated sessions of a user and an assistant, some of which hold the answer
(`answer_session_ids`), in turns marked `has_answer`. So each question is a talk, and sessions that several haystacks share
are remembered once for each. Both sides of a session are remembered; the benchmark's own baselines index the user's alone.
Questions whose right answer is that nobody knows (`..._abs`) are left out, as they are there.
"""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation.conversations import (
    Conversation,
    Figures,
    Found,
    Posed,
    Session,
    Suite,
    Turn,
    ndcg,
    records,
    spread,
)

ANY_DEPTHS = (1, 5, 10)
ALL_DEPTHS = (5, 10)
NDCG_DEPTH = 10
_KINDS: Mapping[str, Literal["prompt", "reply"]] = {"user": "prompt", "assistant": "reply"}
_UNANSWERABLE = "_abs"
_MOMENT = re.compile(r"(\d{4})/(\d\d?)/(\d\d?)\D+(\d\d?):(\d\d)")


def read(path: Path, limit: int | None = None) -> Suite:
    """Read the file, with the haystacks of at most `limit` questions, spread evenly. Raises BadInput for what is none."""
    entries = records(path)
    try:
        asked = [entry for entry in entries if not str(entry["question_id"]).endswith(_UNANSWERABLE)]
        left_out = Counter(
            {"nobody knows their answer": len(entries) - len(asked)} if len(asked) < len(entries) else {}
        )
        talks, questions = [], []
        for entry in asked if limit is None else spread(asked, limit):
            talk, posed = _taken_apart(entry)
            if not posed.gold_sessions:
                left_out["their haystack does not hold the answer"] += 1
                continue
            talks.append(talk)
            questions.append(posed)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BadInput(
            f"{path} is no file of LongMemEval ({type(problem).__name__}: {problem}); name one such as `longmemeval_s.json`."
        ) from problem
    return Suite("longmemeval", tuple(talks), tuple(questions), judge, left_out)


def judge(posed: Posed, found: Found) -> Figures:
    """For `sessions` and `turns`: whether any, or all, of those with the answer are among the first N, and NDCG@10.

    A question of which only the sessions are marked has no figures for turns.
    """
    figures: dict[str, float] = {}
    for name, gold, ranked in (
        ("sessions", posed.gold_sessions, found.sessions),
        ("turns", posed.gold_turns, found.turns),
    ):
        if gold:
            figures |= {f"{name} any@{depth}": float(not gold.isdisjoint(ranked[:depth])) for depth in ANY_DEPTHS}
            figures |= {f"{name} all@{depth}": float(gold <= set(ranked[:depth])) for depth in ALL_DEPTHS}
            figures[f"{name} ndcg@{NDCG_DEPTH}"] = ndcg(gold, ranked, NDCG_DEPTH)
    return figures


def _taken_apart(entry: Mapping[str, Any]) -> tuple[Conversation, Posed]:
    name = str(entry["question_id"])
    wanted = {str(each) for each in entry["answer_session_ids"]}
    sessions, gold_sessions, gold_turns = [], set(), set()
    parts = zip(entry["haystack_session_ids"], entry["haystack_dates"], entry["haystack_sessions"], strict=True)
    for number, (session_id, date, said) in enumerate(parts):
        own_name = f"{name}:{number}:{session_id}"  # a haystack may hold a session twice
        turns = []
        for n, turn in enumerate(said):
            if turn["content"].strip():
                turns.append(Turn(f"{own_name}:{n}", "", turn["content"], _KINDS[turn["role"]]))
                if turn.get("has_answer"):
                    gold_turns.add(turns[-1].id)
        if turns:
            sessions.append(Session(own_name, _at_ms(date), tuple(turns)))
            if str(session_id) in wanted:
                gold_sessions.add(own_name)
    return Conversation(name, tuple(sessions)), Posed(
        name,
        str(entry["question"]),
        name,
        frozenset(gold_turns),
        frozenset(gold_sessions),
        (str(entry["question_type"]),),
        _at_ms(entry["question_date"]),
    )


def _at_ms(text: str) -> int:
    found = _MOMENT.search(text)
    if found is None:
        raise ValueError(f"{text!r} is no date such as 2023/05/20 (Sat) 02:21")
    year, month, day, hour, minute = map(int, found.groups())
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp() * 1000)
