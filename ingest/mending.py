"""What a process left half done, an upgrade made outdated or somebody took away: found here, and made good.

In come the rooms as they were found; out go the threads that must be cut anew, which is left to the caller: between two lots
of them notes are more urgent. Whoever dies in between leaves what the next process finds again.
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ingest import pipeline
from ingest.chunking import CHUNKER_VERSION
from ingest.pipeline import Rooms
from ingest.readers import sqlite
from lmm_mcp import artifacts, children
from lmm_mcp.errors import ArchiveError
from lmm_mcp.paths import Home
from lmm_mcp.store import forgetting

Key = tuple[str, str]
"""Agent and thread id."""
_log = logging.getLogger("lmm.ingest")


def finish(home: Home, rooms: Rooms) -> None:
    """Complete what was interrupted: copies and halves of files go, and a forgetting is carried to its end."""
    rooms.archive.sweep()
    sqlite.sweep(home.copies, children.is_alive)
    finished = forgetting.finish(
        rooms.store,
        rooms.archive,
        rooms.ledger,
        notes=home.notes,
        logs=home.logs,
        facts=home.facts,
        unlearn=partial(artifacts.mark_unclean, home),
    )
    for problem in finished.damaged if finished is not None else ():
        _log.warning("what was to be forgotten may still be there: %s", problem)


def lost(home: Home, rooms: Rooms) -> list[Key]:
    """Threads whose chunks, or whose ledger, somebody took away. Session files whose archive is gone are to be read again."""
    for complaint in rooms.ledger.unreadable():
        if Path(complaint.path).is_relative_to(home.archive):
            rooms.ledger.clear_unreadable(complaint.path)
    rows = rooms.ledger.threads()
    gone = [row.thread for row in rows if row.num_events and not rooms.archive.holds(row.thread)]
    for agent in {thread.agent for thread in gone}:
        rooms.ledger.forget_sources(agent, [thread.thread_id for thread in gone if thread.agent == agent])
    held = rooms.store.threads()
    # One whose chunks are undated is not told from one that has none, but for a store that is empty.
    found = [row.thread for row in rows if row.last_ms or not held]
    if not rows:  # damaged files are the user's to take away
        found = [thread for _, thread in rooms.archive.threads(damaged=[])]
        return [(thread.agent, thread.thread_id) for thread in found]
    return [key for thread in found if (key := (thread.agent, thread.thread_id)) not in held]


def outdated(rooms: Rooms) -> list[Key]:
    """Threads that other rules cut, or whose project is known better by now (a remote was learnt)."""
    return [
        (row.thread.agent, row.thread.thread_id)
        for row in rooms.ledger.threads()
        if row.chunker_version != CHUNKER_VERSION or pipeline.project_of(row.thread, rooms) != row.project
    ]


def cut_anew(threads: Sequence[Key], rooms: Rooms) -> None:
    """Cut these threads from the archive, and store what comes of it. Of one whose archive file is damaged it is said so."""
    cuts: list[pipeline.Cut] = []
    for agent, thread_id in threads:
        try:
            cut = pipeline.cut_anew(agent, thread_id, rooms)
        except ArchiveError as problem:
            _log.warning("%s", problem)
            rooms.ledger.record_unreadable(rooms.archive.path(agent, thread_id), 0, str(problem))
        else:
            cuts += [cut] if cut is not None else []
    pipeline.store_cuts(cuts, rooms)
