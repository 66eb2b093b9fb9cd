"""The user's own future as the ruler: the history is cut at a time, and what came later is posed to the memory of before.

Three kinds of questions: later prompts; errors, by the text of a failed command that was mended afterwards; and edits, by the
name of the file that was changed. What is needed is what was then done and already stood in the memory before the cut
(`needs`); a figure is the share of it within the first tokens of an answer. Only sessions that began after the cut are asked
about, so that no question is answered by its own session; nothing later than the cut may be used.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lmm_mcp.domain.recall import CHARS_PER_TOKEN
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation import history, needs
from lmm_mcp.evaluation.history import Act, Session, Turn
from lmm_mcp.evaluation.needs import Known, Used
from lmm_mcp.evaluation.questions import Answered, Ask, Asked, answers
from lmm_mcp.evaluation.refind import MAX_PROMPT_chars, is_question
from lmm_mcp.evaluation.runs import Row
from lmm_mcp.recall.habits import plain_command
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.ledger import Ledger

SHARE_after = 0.2
"""Of the prompts: so many lie after the cut where none is named."""
BUDGETS_tokens = (250, 1000)
KINDS = ("prompt", "error", "edit")
MAX_ERROR_lines = 6
MAX_ERROR_chars = 600
MENDED_WITHIN_acts = 80
ABOUT_A_FILE = "What should I know before I change {file}?"

TOO_SHORT = "too short to be a question"
NO_HISTORY = "of projects without a session before the cut"
NOTHING_KNOWN = "needed nothing that stood in the memory before the cut"
NOT_MENDED = "of commands that were not seen to succeed afterwards"
_WRONG = re.compile(
    r"error|exception|fail|fatal|panic|denied|refused|not found|cannot|can't|undefined|unexpected|invalid|missing",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Posed:
    """One question with what was needed."""

    asked: Asked
    """Its `project` is a key, not a folder, and it is asked at the cut."""
    session: str
    needed: tuple[str, ...]

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return self.asked.groups[0]


@dataclass(frozen=True, slots=True)
class Proof:
    """All questions of a history that is cut."""

    cut_ms: int
    """The memory holds what is not later than this."""
    begins_ms: int
    ends_ms: int
    """Times of the first and the last prompt."""
    posed: tuple[Posed, ...]
    left_out: Mapping[str, int]
    """What was not asked, and why."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A question of which it is not known yet whether the memory could have told anything."""

    id: str
    kind: str
    text: str
    project: str
    session: str
    use: Used


def cut_of(archive: Archive, sessions: Sequence[Session]) -> int:
    """The time before which all but a fifth of the prompts lie. Raises BadInput for a history that cannot be cut."""
    begins = sorted(session.begins_ms for session in sessions if session.begins_ms for _ in _prompts(archive, session))
    cut_ms = begins[int(len(begins) * (1 - SHARE_after))] - 1 if begins else 0
    if not begins or cut_ms < begins[0]:
        raise BadInput(
            f"{counted(len(begins), 'dated prompt')} in {counted(len({*begins}), 'session')} cannot be cut into before and after: "
            f"it takes two sessions or more, and {SHARE_after:.0%} of the prompts in later ones than the first; "
            "let more come together."
        )
    return cut_ms


def proof(ledger: Ledger, archive: Archive, cut_ms: int | None = None) -> Proof:
    """Pose what came after the cut. Walks through the whole archive. Raises BadInput, and ArchiveError on damage."""
    sessions = [session for session in history.sessions(ledger) if session.begins_ms]
    cut_ms = cut_of(archive, sessions) if cut_ms is None else cut_ms
    folders = history.roots(ledger)
    before = {session.project for session in sessions if session.begins_ms <= cut_ms}
    left_out: Counter[str] = Counter()
    drafts: list[Draft] = []
    for session in sessions:
        if session.begins_ms > cut_ms:
            turns = history.turns(archive, session, folders.get(session.project, ()))
            if session.project in before:
                drafts += drafts_of(session, turns, left_out)
            else:
                left_out[NO_HISTORY] += len(turns)
    known = _known(archive, sessions, cut_ms, drafts, folders)
    posed = []
    files: dict[str, set[str]] = {project: set(each.files) for project, each in known.items()}
    for draft in drafts:
        files[draft.project].update(draft.use.files)
    names = {project: history.names_of(sorted(each)) for project, each in files.items()}
    for draft in drafts:
        items = needs.needed(draft.text, draft.use, known[draft.project], names[draft.project])
        if items:
            asked = Asked(draft.id, draft.text, draft.project, history.iso_ms(cut_ms), groups=(draft.kind,))
            posed.append(Posed(asked, draft.session, items))
        else:
            left_out[NOTHING_KNOWN] += 1
    last = max((row.last_ms for session in sessions for row in session.rows), default=0)
    return Proof(cut_ms, min((each.begins_ms for each in sessions), default=0), last, tuple(posed), dict(left_out))


def chosen(posed: Iterable[Posed], limit: int) -> list[Posed]:
    """As many of the questions, evenly of all kinds and sessions as far as may be; the same ones every time."""
    return history.spread(posed, limit, ids=lambda each: each.asked.id, groups=lambda each: (each.kind, each.session))


def run(posed: Sequence[Posed], ask: Ask) -> tuple[Row, ...]:
    """Ask and judge every question."""
    by_id = {each.asked.id: each for each in posed}
    return tuple(
        Row(
            asked.id,
            asked.groups,
            judge(by_id[asked.id].needed, answered),
            round(ms, 2),
            history.lot(by_id[asked.id].session),
        )
        for asked, answered, ms in answers([each.asked for each in posed], ask)
    )


def judge(needed: Sequence[str], answered: Answered) -> dict[str, float]:
    """`share@N`: the share of the needed items that stand in the first N tokens of the answer."""
    text = "" if answered.abstained else answered.text
    return {f"share@{budget}": needs.share(needed, text[: budget * CHARS_PER_TOKEN]) for budget in BUDGETS_tokens}


def silence(_: Asked) -> Answered:
    """The arm that says nothing: what an agent without a memory has."""
    return Answered("", (), abstained=True)


def _prompts(archive: Archive, session: Session) -> Iterator[int]:
    for row in session.rows:
        kept = None if row.thread.is_subagent else archive.read(row.thread.agent, row.thread.thread_id)
        yield from (event.at_ms for event in (kept[1] if kept else ()) if event.kind == "prompt" and event.at_ms)


def _known(
    archive: Archive,
    sessions: Iterable[Session],
    cut_ms: int,
    drafts: Iterable[Draft],
    folders: Mapping[str, Sequence[str]],
) -> dict[str, Known]:
    """Of every project that is asked about what its memory held at the cut."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        wanted[draft.project].update(draft.use.names)
    known = {project: Known() for project in wanted}
    for session in sessions:
        if session.project not in known or session.begins_ms > cut_ms:
            continue
        for row in session.rows:
            kept = archive.read(row.thread.agent, row.thread.thread_id)
            for event in kept[1] if kept else ():
                if 0 < event.at_ms <= cut_ms and not event.ours:
                    of_project = folders.get(session.project, ())
                    known[session.project].learn(event, row.thread.cwd, of_project, wanted[session.project])
    return known


def drafts_of(session: Session, turns: Sequence[Turn], left_out: Counter[str]) -> Iterator[Draft]:
    """What a session would have asked: its prompts, the files it changed, and the errors that it mended."""
    name = f"{session.agent} {session.id}"
    changed: set[str] = set()
    for turn in turns:
        if is_question(turn.prompt):
            text = turn.prompt[:MAX_PROMPT_chars]
            yield Draft(f"{turn.id}-p", "prompt", text, session.project, name, needs.used(turn.acts))
        else:
            left_out[TOO_SHORT] += 1
        for n, file in enumerate(sorted(turn.files - changed)):
            text = ABOUT_A_FILE.format(file=file)
            yield Draft(f"{turn.id}-f{n}", "edit", text, session.project, name, _around(turn.acts, file))
        changed |= turn.files
    yield from _errors(session, name, [(turn.id, act) for turn in turns for act in turn.acts], left_out)


def _around(acts: Sequence[Act], file: str) -> Used:
    """What a change of `file` used: the names it brought, the other files of the turn, and the commands run after it."""
    at = next(n for n, act in enumerate(acts) if file in act.files and act.worked is not False)
    own = needs.used([act for act in acts if file in act.files])
    whole, after = needs.used(acts), needs.used(acts[at:])
    return Used(tuple(each for each in whole.files if each != file), after.commands, own.names)


def _errors(session: Session, name: str, acts: Sequence[tuple[str, Act]], left_out: Counter[str]) -> Iterator[Draft]:
    told: set[str] = set()
    for n, (turn_id, act) in enumerate(acts):
        head = head_of(act.command)
        text = error_text(act.said)
        if act.worked is not False or not head or head in told or not is_question(text):
            continue
        told.add(head)
        following = [later for _, later in acts[n + 1 : n + 1 + MENDED_WITHIN_acts]]
        mended = next((m for m, later in enumerate(following) if later.worked and head_of(later.command) == head), None)
        if mended is None:
            left_out[NOT_MENDED] += 1
            continue
        use = needs.used(following[: mended + 1])
        said = {plain_command(act.command)}
        use = Used(use.files, tuple(each for each in use.commands if each not in said), use.names)
        yield Draft(f"{turn_id}-e{n}", "error", text, session.project, name, use)


def head_of(command: str) -> str:
    """What a command is about: its first words without flags; '' for one that only looks around.

    >>> head_of("cd shop && uv run pytest -q tests/test_till.py"), head_of("ls -la")
    ('uv run pytest', '')
    """
    return " ".join([word for word in plain_command(command).split() if not word.startswith("-")][:3])


def error_text(said: str) -> str:
    r"""What an agent would ask with: the lines of an output that look like errors, else its last ones.

    >>> error_text("compiling\nTypeError: till is undefined\ndone")
    'TypeError: till is undefined'
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    wrong = [line for line in lines if _WRONG.search(line)][:MAX_ERROR_lines]
    return "\n".join(wrong or lines[-3:])[:MAX_ERROR_chars]
