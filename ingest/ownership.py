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
class Robbed:
    """A thread that loses messages to the one that is being read."""

    thread: Thread
    event_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Settled:
    """What a thread may keep of what it brought."""

    events: tuple[Event, ...]
    robbed: tuple[Robbed, ...]
    unclaimed: tuple[str, ...]
    """Ids of those events that the ledger does not yet call the thread's. An archive may hold them already, from before
    somebody died."""


def settle(
    thread: Thread, events: Sequence[Event], archived: Sequence[Event], archive: Archive, ledger: Ledger
) -> Settled:
    """Decide who owns the messages of `events`. Nothing is changed by this; `take` does it.

    `archived`: what is kept of the thread already.
    """
    owners = ledger.owners(thread.agent, [event.id for event in events])
    elsewhere: dict[str, set[str]] = {}
    for event_id, owner in owners.items():
        if owner != thread.thread_id:
            elsewhere.setdefault(owner, set()).add(event_id)
    robbed: list[Robbed] = []
    given_up: set[str] = set()
    for owner, shared in sorted(elsewhere.items()):
        found = archive.read(thread.agent, owner)
        if found is None:
            continue  # nothing is kept of that one: whoever comes may have them
        other, theirs = found
        mine_unshared = _first_ms(event for event in (*archived, *events) if event.id not in shared)
        their_unshared = _first_ms(event for event in theirs if event.id not in shared)
        if _is_original(thread, other, mine_unshared, their_unshared):
            robbed.append(Robbed(other, frozenset(shared)))
        else:
            given_up |= shared
    mine = tuple(event for event in events if event.id not in given_up)
    unclaimed = (event.id for event in mine if owners.get(event.id) != thread.thread_id)
    return Settled(mine, tuple(robbed), tuple(unclaimed))


def take(thread: Thread, settled: Settled, archive: Archive, ledger: Ledger) -> None:
    """Give the thread its events, which its own archive holds already, and take from others what is not theirs.

    The ledger is told last, and in one: who dies in between decides the same again. It also notes that the others are to
    be cut anew, so that this is made up for if their new cut is lost.
    """
    if settled.robbed:
        archive.flush()  # no message may be in no archive for a moment, even if the machine dies now
    for other in settled.robbed:
        archive.rewrite(thread.agent, other.thread.thread_id, _not_in(other.event_ids))
    with ledger.transaction():
        for other in settled.robbed:
            ledger.revise(other.thread)
        ledger.claim(thread.agent, thread.thread_id, settled.unclaimed)


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
