"""Which thread a message belongs to, when several files repeat it.

Resumes and forks copy history under a new session id with the same message ids, and seldom say where from. A message
belongs to the thread where it first appeared. That is settled from the threads themselves, so that the order in which
files are read does not matter: of two threads that share messages, the one whose unshared messages begin earlier is the
original, and one that holds nothing but shared messages is the stem the other grew from.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Settled:
    """What a thread may keep of what it brought."""

    events: tuple[Event, ...]
    robbed: tuple[Thread, ...]
    """Threads that lost messages to this one: they are to be cut anew."""


def settle(thread: Thread, events: Sequence[Event], archive: Archive, ledger: Ledger) -> Settled:
    """Decide who owns the messages of `events`, take from other threads what is not theirs, and leave them what is."""
    owners = ledger.owners(thread.agent, [event.id for event in events])
    elsewhere: dict[str, set[str]] = {}
    for event_id, owner in owners.items():
        if owner != thread.thread_id:
            elsewhere.setdefault(owner, set()).add(event_id)
    robbed: list[Thread] = []
    given_up: set[str] = set()
    for owner, shared in sorted(elsewhere.items()):
        found = archive.read(thread.agent, owner)
        if found is None:
            ledger.release(thread.agent, sorted(shared))
            continue
        other, theirs = found
        mine_unshared = _first_ms(event for event in events if event.id not in shared)
        their_unshared = _first_ms(event for event in theirs if event.id not in shared)
        if _is_original(thread, other, mine_unshared, their_unshared):
            ledger.release(thread.agent, sorted(shared))
            archive.rewrite(thread.agent, owner, _not_in(frozenset(shared)))
            robbed.append(other)
        else:
            given_up |= shared
    return Settled(tuple(event for event in events if event.id not in given_up), tuple(robbed))


def _is_original(mine: Thread, other: Thread, mine_unshared_ms: int | None, their_unshared_ms: int | None) -> bool:
    if mine.forked_from and mine.forked_from == other.session_id:
        return False
    if other.forked_from and other.forked_from == mine.session_id:
        return True
    if mine_unshared_ms is None and their_unshared_ms is None:
        return mine.thread_id < other.thread_id
    if mine_unshared_ms is None or their_unshared_ms is None:
        return mine_unshared_ms is None
    return (mine_unshared_ms, mine.thread_id) < (their_unshared_ms, other.thread_id)


def _not_in(taken: frozenset[str]) -> Callable[[Event], bool]:
    return lambda event: event.id not in taken


def _first_ms(events: Iterable[Event]) -> int | None:
    times = [event.at_ms for event in events if event.at_ms]
    return min(times) if times else None
