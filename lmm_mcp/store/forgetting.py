"""Forgetting for good: out of archive, chunks, vectors, facts, ledger, notes, logs, what was trained, and notes between processes.

`plan` (in forgetting_plan.py) says what would go and touches nothing; `carry_out` does it. The caller holds the write lock.

What keeps it safe: tombstones (hashes of ids and of titles) and the ids of the threads concerned are written before
anything is deleted, and all the rest is derived from them. Whatever dies in between is completed by the next `carry_out`,
whatever that one is about, or by `finish`, which the writer calls when it starts. All chunks of a thread that loses an
event are deleted, since the header of any of them may speak of it; `Forgotten.to_cut` names the threads of which
something is left, to be cut anew. An archive file that cannot be read is named in `Forgotten.damaged` and the rest goes on.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.errors import ArchiveError
from lmm_mcp.store import lines
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.facts import REPOSITORY, FactStore
from lmm_mcp.store.forgetting_plan import ForgetPlan, Key, ThreadPlan, plan, sessions_called
from lmm_mcp.store.ledger import Ledger

__all__ = [
    "ForgetPlan",
    "Forgotten",
    "ThreadPlan",
    "carry_out",
    "finish",
    "is_unfinished",
    "plan",
    "sessions_called",
    "without_forgotten",
]

_UNFINISHED = "forgetting"
"""Name in the ledger under which the threads of an unfinished forgetting stand: ids only."""
Unlearn = Callable[[Sequence[Key]], int]
"""Told of the threads that lose something, once before it goes and once when it has gone: marks what was trained on them.
Returns how many memory models that concerns."""
_OURS = frozenset({".lock", ".wanted"})
"""Files between processes that say nothing, by suffix."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went."""

    num_events: int
    num_threads: int
    """Threads that disappeared."""
    num_chunks: int
    """Chunks deleted, with those that are only to be cut anew."""
    to_cut: tuple[Key, ...]
    """(agent, thread id) of the threads of which something is left."""
    damaged: tuple[str, ...] = ()
    """Archive files that could not be read or rewritten, each with the next step."""
    num_models: int = 0
    """Memory models that were trained on something of it, and are not served from now on."""


def _nothing_trained(_: Sequence[Key]) -> int:
    return 0


def carry_out(
    what: ForgetPlan,
    store: ChunkStore,
    archive: Archive,
    ledger: Ledger,
    *,
    notes: Path,
    logs: Path,
    locks: Path | None = None,
    facts: Path | None = None,
    unlearn: Unlearn = _nothing_trained,
) -> Forgotten:
    """Forget what was planned, and whatever an interrupted forgetting left. May be repeated at any point.

    notes: folder of the inbox of notes. logs: folder of log files. locks: folder of what processes tell one another.
    facts: file of what was derived. Raises StoreError, OSError.
    """
    was_interrupted = is_unfinished(ledger)
    needles = _needles(what)
    repositories = _repositories_concerned(what, facts)
    if locks is not None:  # before all else: whoever completes this later would heed what it finds there
        _drop_messages(locks, needles)
    with ledger.transaction():
        pending = dict.fromkeys((*_unfinished(ledger), *repositories))
        for each in what.threads:
            _bury(each, ledger)
            pending[each.thread.agent, each.thread.thread_id] = None
        ledger.forget_projects(what.whole_projects)
        if what.match and what.is_match_alone:
            ledger.bury("notes", lines.notes_holding(notes, what.match))  # also those that nobody has read yet
            wanted = what.match.casefold()
            ledger.forget_names(lambda name: wanted in name.casefold())
        _remember(ledger, pending)
    known = None if was_interrupted else needles
    done = _finish(store, archive, ledger, notes=notes, logs=logs, facts=facts, needles=known, unlearn=unlearn)
    return dataclasses.replace(done, damaged=tuple(dict.fromkeys((*what.damaged, *done.damaged))))


def is_unfinished(ledger: Ledger) -> bool:
    """Whether a forgetting was interrupted."""
    return ledger.meta(_UNFINISHED) is not None


def finish(
    store: ChunkStore,
    archive: Archive,
    ledger: Ledger,
    *,
    notes: Path,
    logs: Path,
    facts: Path | None = None,
    unlearn: Unlearn = _nothing_trained,
) -> Forgotten | None:
    """Complete an interrupted forgetting; None if there is none. Logs are deleted whole: what to look for is forgotten."""
    if not is_unfinished(ledger):
        return None
    return _finish(store, archive, ledger, notes=notes, logs=logs, facts=facts, needles=None, unlearn=unlearn)


def without_forgotten(thread: Thread, ledger: Ledger, left: Iterable[Event] = ()) -> Thread:
    """What may still be said of a thread: no title, branch or folder that was forgotten.

    left: what is kept of it; its first branch and folder stand in for forgotten ones.
    """
    of = (thread.agent, thread.thread_id)
    no_title = ledger.is_title_buried(*of) or ledger.is_text_buried(thread.title)
    title, branch, cwd = "" if no_title else thread.title, thread.branch, thread.cwd
    if branch and ledger.is_text_buried(branch, *of):
        branch = next((event.branch for event in left if event.branch), "")
    if cwd and ledger.is_text_buried(cwd, *of):
        cwd = next((event.cwd for event in left if event.cwd), "")
    if (title, branch, cwd) == (thread.title, thread.branch, thread.cwd):
        return thread
    return dataclasses.replace(thread, title=title, branch=branch, cwd=cwd)


def _repositories_concerned(what: ForgetPlan, facts: Path | None) -> list[Key]:
    """Projects whose own files told what is to go; they may be read again, like all that lies outside of the memory."""
    if facts is None or not facts.exists():
        return []
    derived = FactStore.open(facts)
    try:
        return derived.repositories_about(what.whole_projects, what.match if what.is_match_alone else None)
    finally:
        derived.close()


def _bury(each: ThreadPlan, ledger: Ledger) -> None:
    """Write the tombstones of one thread: from here on nothing of it comes back."""
    agent, thread_id = each.thread.agent, each.thread.thread_id
    ledger.bury(agent, each.event_ids)
    for title in each.titles:
        ledger.bury_text(title)
    for place in each.places:
        ledger.bury_text(place, agent, thread_id)
    if each.titles or each.loses_title:
        ledger.bury_title(agent, thread_id)
    if not each.num_left:
        ledger.bury_thread(agent, thread_id, each.last_ms)
        if each.is_unread:
            ledger.bury_claimed(agent, thread_id)


def _finish(
    store: ChunkStore,
    archive: Archive,
    ledger: Ledger,
    *,
    notes: Path,
    logs: Path,
    facts: Path | None,
    needles: Sequence[str] | None,
    unlearn: Unlearn,
) -> Forgotten:
    concerned = _unfinished(ledger)
    num_models = unlearn(concerned)  # first of all, so that no model speaks of it a moment longer
    derived = None if facts is None or not facts.exists() else FactStore.open(facts, create=True)
    if derived is not None:
        derived.forget(concerned)
    pending = [key for key in concerned if key[0] != REPOSITORY]
    lines.drop_notes(notes, lambda ids: ledger.buried("notes", ids))
    lines.drop_log_lines(logs, needles)
    num_events = num_chunks = 0
    gone: list[Key] = []
    left: list[Thread] = []
    damaged: dict[Key, str] = {}
    last_ms = {(row.thread.agent, row.thread.thread_id): row.last_ms for row in ledger.threads()}
    for key in pending:
        chunk_ids = [chunk.id for chunk in store.thread(*key)]
        store.delete(chunk_ids)
        num_chunks += len(chunk_ids)
        try:
            num_dropped, head = _drop_from_archive(archive, ledger, key)
        except ArchiveError as problem:
            until_ms = ledger.buried_until(*key)
            if until_ms is None or until_ms < last_ms.get(key, 0):
                damaged[key] = f"{problem} Then forget again: what was to go could not be cut out of that file."
                continue
            num_dropped, head = 0, None  # all of it was to go, so nobody has to read it
            archive.remove(*key)
        num_events += num_dropped
        if head is None:
            gone.append(key)
        else:
            left.append(head)
    _drop_from_ledger(ledger, pending, gone, left)
    num_models = max(num_models, unlearn(concerned))  # once more: a training may have read the store until now
    # Which threads it was stands nowhere any more before the files are written anew; only that it is not done yet.
    _remember(ledger, damaged)
    archive.sweep()
    store.purge()
    if derived is not None:
        derived.purge()
        derived.close()
    ledger.purge()
    if not damaged:
        ledger.clear_meta(_UNFINISHED)
    # Also what an earlier one left that was interrupted before anybody cut it.
    to_cut = [(row.thread.agent, row.thread.thread_id) for row in ledger.threads() if not row.chunker_version]
    return Forgotten(num_events, len(gone), num_chunks, tuple(to_cut), tuple(damaged.values()), num_models)


def _drop_from_archive(archive: Archive, ledger: Ledger, key: Key) -> tuple[int, Thread | None]:
    """Rewrite one thread without what is buried; how many events went, and what is left to say of it, None for nothing."""
    found = archive.read(*key)
    if found is None:
        return 0, None
    thread, events = found
    gone = ledger.buried(thread.agent, [event.id for event in events])
    left = [event for event in events if event.id not in gone]
    head = without_forgotten(thread, ledger, left)
    num_dropped = archive.rewrite(*key, lambda event: event.id not in gone, thread=head)
    if not left:
        archive.remove(*key)
    return num_dropped, head if left else None


def _drop_from_ledger(ledger: Ledger, pending: Iterable[Key], gone: Iterable[Key], left: Iterable[Thread]) -> None:
    concerned: dict[str, set[str]] = {}
    for agent, thread_id in pending:
        concerned.setdefault(agent, set()).add(thread_id)
    with ledger.transaction():
        for agent, thread_ids in concerned.items():
            # What their files' cursors remember goes with them; the files are read anew and found buried.
            ledger.forget_sources(agent, thread_ids)
            ledger.forget_threads(agent, [thread_id for owner, thread_id in gone if owner == agent])
            ledger.forget_buried(agent)
        for thread in left:
            ledger.revise(thread)


def _drop_messages(folder: Path, needles: Sequence[str]) -> None:
    """Delete what one process left for another, where it names what is forgotten: requests, and how far reading is."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file() and path.suffix not in _OURS and lines.holds(path.read_bytes(), needles):
            path.unlink(missing_ok=True)


def _needles(what: ForgetPlan) -> list[str]:
    """What must not stand in a log any more."""
    gone = [each.thread for each in what.threads if not each.num_left]
    ids = {name for thread in gone for name in (thread.session_id, thread.thread_id)}
    titles = {title for each in what.threads for title in each.titles}
    return [*filter(None, (*sorted(ids | titles), what.match, *what.whole_projects))]


def _unfinished(ledger: Ledger) -> list[Key]:
    """(agent, thread id) of the threads that an unfinished forgetting concerns."""
    return [(row[0], row[1]) for row in json.loads(ledger.meta(_UNFINISHED) or "[]")]


def _remember(ledger: Ledger, pending: Iterable[Key]) -> None:
    ledger.set_meta(_UNFINISHED, json.dumps(list(pending)))
