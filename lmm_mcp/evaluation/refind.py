"""A ruler out of any user's own store, without a label: does a prompt find the earlier work on the files it then changed?

Every prompt is a question, asked before its session began. What was changed in its turn says what should have been found:
earlier passages and sessions of the same project in which the same files were changed. Nothing later is used, neither to
answer nor to judge. Whether that work was also of use, nobody says: the figures compare ways of recall, no more.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from lmm_mcp.domain.event import ThreadId
from lmm_mcp.domain.recall import CHARS_PER_TOKEN
from lmm_mcp.evaluation import history
from lmm_mcp.evaluation.history import Session, Turn
from lmm_mcp.evaluation.questions import Answered, Ask, Asked, answers
from lmm_mcp.evaluation.runs import Row
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger
from lmm_mcp.store.terms import terms

MIN_PROMPT_chars = 20
MIN_PROMPT_terms = 3
MAX_PROMPT_chars = 2000
"""What is longer was pasted for the most part; an agent would ask for the essence."""
MAX_SHARE_of_turns = 0.15
"""Files changed in more of their project's turns than this (change logs, plans) join what has nothing to do with each other."""
MIN_COMMON_turns = 4
"""In so few turns no file counts as common."""
TOP_PASSAGES = 10
TOP_SESSIONS = (1, 5)
BUDGETS_tokens = (250, 1000)

TOO_SHORT = "too short to be a question"
NOTHING_CHANGED = "changed no file that tells anything"
NOTHING_EARLIER = "no earlier work on the files it changed"
UNDATED = "of sessions whose beginning is unknown"
NAMING, NAMING_NONE = "names a file", "names none"
_Edit = tuple[str, ThreadId, str]
"""Agent, thread and event."""


@dataclass(frozen=True, slots=True)
class Sought:
    """One question and what it should find."""

    asked: Asked
    """Its `project` is a key, not a folder, and it is asked just before its session began."""
    until_ms: int
    """When it is asked."""
    session: str
    """Whose prompt it is, as agent and id."""
    files: frozenset[str]
    """Those that were then changed and had been before."""
    sessions: frozenset[str]
    """That had changed one of them."""
    edits: frozenset[_Edit]
    """The calls by which they did."""


@dataclass(frozen=True, slots=True)
class Suite:
    """All questions of a store, and why other prompts are none."""

    sought: tuple[Sought, ...]
    left_out: Mapping[str, int]
    names: Mapping[str, Mapping[str, str]]
    """How a brief must name each file of each project."""


def suite(ledger: Ledger, archive: Archive) -> Suite:
    """Make the questions of a store: a walk through its whole archive. Raises ArchiveError on damage."""
    folders = history.roots(ledger)
    left_out: Counter[str] = Counter()
    found: dict[str, list[tuple[Session, list[Turn]]]] = defaultdict(list)
    for session in history.sessions(ledger):
        asked = [_slim(turn) for turn in history.turns(archive, session, folders.get(session.project, ()))]
        if session.begins_ms:
            found[session.project].append((session, asked))
        elif asked:
            left_out[UNDATED] += len(asked)
    sought: list[Sought] = []
    names = {}
    for project, work in found.items():
        files = Counter(file for _, asked in work for turn in asked for file in turn.files)
        num_turns = sum(bool(turn.files) for _, asked in work for turn in asked)
        common = {file for file, num in files.items() if num > max(MIN_COMMON_turns, MAX_SHARE_of_turns * num_turns)}
        names[project] = history.names_of(files)
        sought += _sought(project, work, common, names[project], left_out)
    return Suite(tuple(sought), dict(left_out), names)


def chosen(whole: Suite, limit: int) -> Suite:
    """As many of the questions, as evenly as may be from all sessions; the same ones every time."""
    kept = history.spread(whole.sought, limit, ids=lambda each: each.asked.id, groups=lambda each: each.session)
    return replace(whole, sought=tuple(kept))


def run(whole: Suite, store: ChunkStore, ask: Ask) -> list[Row]:
    """Ask and judge every question."""
    by_id = {each.asked.id: each for each in whole.sought}
    right = passages(whole.sought, store)
    rows = []
    for asked, answered, ms in answers([each.asked for each in whole.sought], ask):
        sought = by_id[asked.id]
        figures = judge(sought, answered, right[asked.id], whole.names[sought.asked.project or ""])
        rows.append(Row(asked.id, asked.groups, figures, round(ms, 2), history.lot(sought.session)))
    return rows


def passages(sought: Iterable[Sought], store: ChunkStore) -> dict[str, frozenset[str]]:
    """Of every question the passages that hold one of the changes it should find."""
    holding: dict[tuple[str, ThreadId], dict[str, list[tuple[str, int]]]] = {}
    found = {}
    for each in sought:
        ids = set()
        for agent, thread_id, event_id in each.edits:
            if (agent, thread_id) not in holding:
                by_event: dict[str, list[tuple[str, int]]] = defaultdict(list)
                for chunk in store.thread(agent, thread_id):
                    for event in chunk.event_ids:
                        by_event[event].append((chunk.id, chunk.last_ms))
                holding[agent, thread_id] = by_event
            held = holding[agent, thread_id].get(event_id, ())
            ids |= {chunk_id for chunk_id, last_ms in held if 0 < last_ms <= each.until_ms}
        found[each.asked.id] = frozenset(ids)
    return found


def judge(sought: Sought, answered: Answered, right: Collection[str], names: Mapping[str, str]) -> dict[str, float]:
    """The figures of one answer, each 0 to 1.

    `hit@K`: whether one of the first K cited sessions had changed the files. `mrr`: one over the rank of the first that had.
    `recall@10`: the share of the passages that hold such a change among the first ten cited, of ten where there are more.
    `files@N`: the share of the files that stand in the first N tokens. `mute`: silent though there was something.
    """
    text = "" if answered.abstained else answered.text
    ranks = [n for n, session in enumerate(answered.sessions, 1) if session in sought.sessions and text]
    figures = {"mute": float(not text.strip())}
    figures |= {f"hit@{top}": float(bool(ranks) and ranks[0] <= top) for top in TOP_SESSIONS}
    figures["mrr"] = 1 / ranks[0] if ranks else 0.0
    if right and (answered.passages or not text):
        cited = set(answered.passages[:TOP_PASSAGES]) if text else set()
        figures[f"recall@{TOP_PASSAGES}"] = len(cited & set(right)) / min(TOP_PASSAGES, len(right))
    for budget in BUDGETS_tokens:
        seen = text[: budget * CHARS_PER_TOKEN]
        there = [history.stands_in(names.get(file, file), seen) for file in sought.files]
        figures[f"files@{budget}"] = sum(there) / len(there)
    return figures


def is_question(prompt: str) -> bool:
    """Whether a prompt says enough to find anything by.

    >>> is_question("yes, go on"), is_question("why does the till round the total down?")
    (False, True)
    """
    if len(prompt) < MIN_PROMPT_chars:
        return False
    return len(set(terms(prompt[:MAX_PROMPT_chars]))) >= MIN_PROMPT_terms


def _slim(turn: Turn) -> Turn:
    """The same without what is not needed here, so that a long history fits into memory."""
    acts = tuple(replace(act, text="", said="") for act in turn.acts if act.files and act.worked is not False)
    return replace(turn, prompt=turn.prompt[:MAX_PROMPT_chars], acts=acts)


def _sought(
    project: str,
    work: Iterable[tuple[Session, list[Turn]]],
    common: Collection[str],
    names: Mapping[str, str],
    left_out: Counter[str],
) -> Iterable[Sought]:
    work = list(work)
    earlier: dict[str, list[tuple[int, str, _Edit]]] = defaultdict(list)
    for session, asked in work:
        for act in (act for turn in asked for act in turn.acts if act.at_ms):
            for file in act.files:
                earlier[file].append((act.at_ms, session.id, (session.agent, act.thread_id, act.event_id)))
    for session, asked in work:
        until_ms = session.begins_ms - 1
        for turn in asked:
            telling = turn.files - set(common)
            before = {file: [edit for edit in earlier[file] if edit[0] <= until_ms] for file in telling}
            known = frozenset(file for file, edits in before.items() if edits)
            if not is_question(turn.prompt):
                left_out[TOO_SHORT] += 1
            elif not telling:
                left_out[NOTHING_CHANGED] += 1
            elif not known:
                left_out[NOTHING_EARLIER] += 1
            else:
                edits = [edit for file in known for edit in before[file]]
                named = any(history.stands_in(names[file], turn.prompt) for file in known)
                yield Sought(
                    Asked(
                        turn.id,
                        turn.prompt,
                        project,
                        history.iso_ms(until_ms),
                        groups=(NAMING if named else NAMING_NONE,),
                    ),
                    until_ms,
                    f"{session.agent} {session.id}",
                    known,
                    frozenset(session_id for _, session_id, _ in edits),
                    frozenset(edit for _, _, edit in edits),
                )
