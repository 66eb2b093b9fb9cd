"""The corpus of all agents as one home folder, read by the ingest process, and both counts of what is in it."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest import service
from ingest.readers.registry import by_agent
from ingest.session import Item, Reader, ReadTo, SourceFile, Unreadable
from lmm_mcp.config import Embedder, Settings
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.paths import Home
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger
from tests.corpus import scan_databases, scan_documents, scan_lines
from tests.corpus.places import IMPORTS, WORK, Laid, copied
from tests.corpus.said import Said, Tally, tally

SCANNERS = scan_lines.SCANNERS | scan_documents.SCANNERS | scan_databases.SCANNERS
NOT_COUNTED = {("specstory", "result")}
"""What its format leaves without bounds that could be counted."""
BY_WORDS = Settings(embedder=Embedder(name="none"))
Told = dict[tuple[str, str], list[Event]]
"""(agent, thread id) -> its events."""


@dataclass(frozen=True)
class Everything:
    """A home folder with sessions, and the memory that reads them."""

    home: Home
    user: Path
    files: tuple[Laid, ...]

    @classmethod
    def laid_out(cls, root: Path, files: Iterable[Laid]) -> "Everything":
        """Nothing is copied or read yet; `files` lie in `root / "user"`."""
        return cls(Home(root / "lmm").ensure(), root / "user", tuple(files))

    def read_in_steps(self) -> None:
        """Lay out the states of sessions that grew, one after the other, and then everything as it was at last."""
        for step in sorted({file.step for file in self.files if file.step}):
            copied([file for file in self.files if file.step == step])
            self.read()
        copied([file for file in self.files if not file.step])
        self.read()

    def read(self) -> None:
        """Read what is new: where agents keep their sessions, then what the user names."""
        assert service.run(self.home, {"HOME": str(self.user)}, BY_WORDS, (), stay=False) == 0
        named = [folder for name in (IMPORTS, WORK) if (folder := self.user / name).exists()]
        if named:
            assert service.run(self.home, {"HOME": str(self.user)}, BY_WORDS, named, stay=False) == 0

    def sessions(self, agent: str = "") -> Iterator[Laid]:
        """Files that hold sessions, without those beside them; of a session that grew its last state."""
        lasting = {file.path: file for file in sorted(self.files, key=lambda file: file.step or 1000)}
        for file in lasting.values():
            if not file.is_side_file and agent in ("", file.agent):
                yield file

    def said(self, agent: str, *, also_before: bool = True) -> Iterator[Said]:
        """What the independent scanner finds. `also_before`: in earlier states of sessions that grew, too."""
        yield from SCANNERS[agent](
            file.stored if file.step and file.path.read_bytes() != file.stored.read_bytes() else file.path
            for file in self.files
            if file.agent == agent and is_scanned(file) and (also_before or not file.step)
        )

    def archived(self) -> Told:
        """All that is kept."""
        archive = Archive(self.home.archive)
        found: Told = {}
        for _, thread in archive.threads():
            kept = archive.read(thread.agent, thread.thread_id)
            assert kept is not None
            found[thread.agent, thread.thread_id] = kept[1]
        return found

    def tally(self, agent: str, archived: Told) -> Tally:
        """Both counts of an agent's messages, compared."""
        mine = [(name, event) for (its, name), events in archived.items() if its == agent for event in events]
        return tally(self.said(agent), [each for each in mine if (agent, each[1].kind) not in NOT_COUNTED])

    def contents(self) -> dict[str, str]:
        """Id -> hash of the content of every chunk."""
        store = ChunkStore.open(self.home.store)
        return {
            chunk.id: chunk.content_hash for agent, thread in self.archived() for chunk in store.thread(agent, thread)
        }

    def problems(self) -> list[tuple[Path, str]]:
        """What could not be understood, and where."""
        ledger = Ledger.open(self.home.ledger)
        found = [(Path(row.path.partition("#")[0]), row.problem) for row in ledger.unreadable()]
        ledger.close()
        return found

    def touch(self) -> None:
        """Give every file a time at which it was not looked at yet."""
        for path in self.user.rglob("*"):
            os.utime(path)


def is_scanned(file: Laid) -> bool:
    """Whether a scanner is to be given the file; of a folder of events, each event."""
    return "/events/" in file.path.as_posix() if file.agent == "openhands" else not file.is_side_file


def read_directly(file: Laid) -> Told:
    """What the agent's reader alone says of a file, slice after slice; later versions of an event take the place of earlier."""
    reader, found = by_agent(file.agent), dict[tuple[str, str], dict[str, Event]]()
    for source in reader.sources(file.path):
        assert isinstance(source, SourceFile), source
        thread = ""
        for item in _whole(reader, source):
            if isinstance(item, Thread):
                thread = item.thread_id
            elif isinstance(item, Event):
                found.setdefault((file.agent, thread), {})[item.id] = item
            else:
                assert isinstance(item, Unreadable)
    return {name: list(events.values()) for name, events in found.items()}


def joined(several: Iterable[Told]) -> Told:
    """What several files say, each message once: in the thread that said it first."""
    seen: set[tuple[str, str]] = set()
    found: Told = defaultdict(list)
    for told in several:
        for (agent, thread), events in told.items():
            found[agent, thread] += [event for event in events if (agent, event.id) not in seen]
            seen |= {(agent, event.id) for event in events}
    return found


def _whole(reader: Reader, source: SourceFile) -> Iterator[Item]:
    cursor, has_more = source.start, True
    while has_more:
        *items, end = reader.read(source.path, cursor)
        assert isinstance(end, ReadTo)
        cursor, has_more = end.cursor, end.has_more
        yield from items
