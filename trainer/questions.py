"""Questions whose answers nobody had to label: what was asked in a session, and what was then used.

Each prompt, mended error and changed file is posed twice. Once as it would have been asked before its session began: then
the memory holds what came earlier, and what of it was needed is known from what was then done. And once afterwards, when the
memory holds the session itself. Nothing later than a time is looked at, neither to ask nor to answer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lmm_mcp.evaluation import history, needs, proving
from lmm_mcp.evaluation.history import Session
from lmm_mcp.evaluation.needs import Known
from lmm_mcp.evaluation.proving import Draft
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.ledger import Ledger

KINDS = proving.KINDS


@dataclass(frozen=True, slots=True)
class Need:
    """One question with what its asker then used."""

    id: str
    kind: str
    """One of `KINDS`."""
    text: str
    """As it was asked; of a file its name alone."""
    project: str
    until_ms: int
    """Nothing later than this may answer."""
    items: tuple[str, ...]
    """Files, commands and names that were used, stood in the memory by then, and not in the question itself."""
    session: tuple[str, str]
    """(agent, session id) of the asker."""
    at_ms: int
    """When the session ended: no training before that may know of the question."""
    threads: tuple[tuple[str, str], ...] = ()
    """(agent, thread id) of the session and its sub-agents."""
    is_retold: bool = False
    """Posed after its session, so that the session itself may answer."""


def needs_of(ledger: Ledger, archive: Archive, until_ms: int) -> list[Need]:
    """Pose all that was asked in sessions that ended by `until_ms`, in the order of time. Walks through the archive twice.

    Raises ArchiveError on damage.
    """
    folders = history.roots(ledger)
    by_project: dict[str, list[Session]] = defaultdict(list)
    for session in history.sessions(ledger):
        if session.begins_ms and _ends_ms(session) <= until_ms:
            by_project[session.project].append(session)
    found = [
        need
        for project, sessions in by_project.items()
        for need in _of_project(archive, sessions, folders.get(project, ()))
    ]
    return sorted(found, key=lambda each: (each.until_ms, each.id))


def _of_project(archive: Archive, sessions: Sequence[Session], folders: Sequence[str]) -> Iterator[Need]:
    left_out: Counter[str] = Counter()
    drafts = {
        session.agent + session.id: list(proving.drafts_of(session, history.turns(archive, session, folders), left_out))
        for session in sessions
    }
    posed = [draft for each in drafts.values() for draft in each]
    wanted = {name for draft in posed for name in draft.use.names}
    learnt = sorted(_learnt(archive, sessions, folders, wanted), key=lambda each: each[0])
    names = history.names_of(sorted({file for _, each in learnt for file in each.files}))
    moments = [(session.begins_ms - 1, session, False) for session in sessions]
    moments += [(_ends_ms(session), session, True) for session in sessions]
    known, at = Known(), 0
    for until_ms, session, is_retold in sorted(moments, key=lambda each: (each[0], each[2], each[1].id)):
        while at < len(learnt) and learnt[at][0] <= until_ms:
            _add(known, learnt[at][1])
            at += 1
        for draft in drafts[session.agent + session.id]:
            if items := needs.needed(draft.text, draft.use, known, names):
                mark = f"{draft.id}-again" if is_retold else draft.id
                yield Need(
                    id=mark,
                    kind=draft.kind,
                    text=_text(draft),
                    project=session.project,
                    until_ms=until_ms,
                    items=items,
                    session=(session.agent, session.id),
                    at_ms=_ends_ms(session),
                    threads=tuple(sorted((row.thread.agent, row.thread.thread_id) for row in session.rows)),
                    is_retold=is_retold,
                )


def _learnt(
    archive: Archive, sessions: Iterable[Session], folders: Sequence[str], wanted: set[str]
) -> Iterator[tuple[int, Known]]:
    """What each event adds to what is known, with its time."""
    for session in sessions:
        for row in session.rows:
            kept = archive.read(row.thread.agent, row.thread.thread_id)
            for event in kept[1] if kept else ():
                if event.at_ms > 0 and not event.ours:
                    one = Known()
                    one.learn(event, row.thread.cwd, folders, wanted)
                    yield event.at_ms, one


def _add(known: Known, one: Known) -> None:
    known.files |= one.files
    known.commands |= one.commands
    known.names += one.names
    known.num_events += one.num_events


def _text(draft: Draft) -> str:
    if draft.kind != "edit":
        return draft.text
    before, after = proving.ABOUT_A_FILE.split("{file}")
    return draft.text.removeprefix(before).removesuffix(after)


def _ends_ms(session: Session) -> int:
    return max((row.last_ms for row in session.rows), default=0)
