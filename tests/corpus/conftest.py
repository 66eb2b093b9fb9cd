"""The real corpus as a user's home folder, and a memory that has read it once, by words alone."""

import csv
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest import service
from lmm_mcp.config import Embedder, Settings
from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.domain.event import Event
from lmm_mcp.paths import Home
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

AGENTS = ("claude-code", "codex")
BY_WORDS = Settings(embedder=Embedder(name="none"))


@dataclass(frozen=True)
class Memory:
    """A memory home and the home folder it reads from."""

    home: Home
    user: Path

    @property
    def env(self) -> dict[str, str]:
        return {
            "HOME": str(self.user),
            "CLAUDE_CONFIG_DIR": str(self.user / ".claude"),
            "CODEX_HOME": str(self.user / ".codex"),
            "LMM_HOME": str(self.home.root),
            "LMM_EMBEDDER_NAME": "none",
        }

    def read(self, *paths: Path) -> None:
        assert service.run(self.home, self.env, BY_WORDS, paths, stay=False) == 0

    @property
    def store(self) -> ChunkStore:
        return ChunkStore.open(self.home.store)

    def bytes_read(self, files: Iterable[Path]) -> dict[Path, int]:
        """Of files of which something is kept: file -> bytes consumed."""
        ledger = Ledger.open(self.home.ledger)
        states = {path: ledger.source(path) for path in files}
        assert all(state is not None and state.reader_version for state in states.values())
        found = {path: state.cursor_offset for path, state in states.items() if state.thread_ids}
        ledger.close()
        return found

    def problems(self) -> list[str]:
        ledger = Ledger.open(self.home.ledger)
        found = [row.problem for row in ledger.unreadable()]
        ledger.close()
        return found

    def archived(self) -> dict[tuple[str, str], list[Event]]:
        """(agent, thread id) -> what is archived of it."""
        archive = Archive(self.home.archive)
        found = {}
        for _, thread in archive.threads():
            kept = archive.read(thread.agent, thread.thread_id)
            assert kept is not None
            found[thread.agent, thread.thread_id] = kept[1]
        return found

    def chunks(self) -> list[Chunk]:
        """Every chunk of every thread; none lies outside a thread."""
        store = self.store
        found = [chunk for agent, thread_id in self.archived() for chunk in store.thread(agent, thread_id)]
        assert len(found) == store.count()
        return found


@pytest.fixture(scope="session")
def manifest(corpus: Path) -> list[Mapping[str, str]]:
    """The rows of real Claude Code and Codex files."""
    csv.field_size_limit(sys.maxsize)
    with (corpus / "MANIFEST.tsv").open(encoding="utf-8", newline="") as rows:
        found = [
            row | {"stored": str(corpus / row["stored_path"].split("/", 1)[1])}
            for row in csv.DictReader(rows, delimiter="\t")
        ]
    return [
        row
        for row in found
        if row["agent"] in AGENTS and row["origin"].startswith("real") and Path(row["stored"]).is_file()
    ]


@pytest.fixture(scope="session")
def memory(manifest: Sequence[Mapping[str, str]], tmp_path_factory) -> Memory:
    """The corpus, laid out as the agents do, read into a fresh memory."""
    root = tmp_path_factory.mktemp("corpus")
    for row in manifest:
        if "_growth" not in row["stored_path"] and (native := native_path(row)):
            target = root / "user" / native
            target.parent.mkdir(parents=True, exist_ok=True)
            assert not target.exists(), f"two files of the corpus want to lie at {native}"
            shutil.copyfile(row["stored"], target)
    memory = Memory(Home(root / "lmm").ensure(), root / "user")
    memory.read()
    return memory


@pytest.fixture
def fresh_memory(tmp_path: Path) -> Callable[[str], Memory]:
    def make(name: str) -> Memory:
        return Memory(Home(tmp_path / name / "lmm").ensure(), tmp_path / name / "user")

    return make


def native_path(row: Mapping[str, str]) -> str:
    """Where the agent keeps such a file, under the home folder; '' for what is no session file."""
    if row["native_path"] or row["agent"] != "claude-code":
        return row["native_path"]
    stored = Path(row["stored_path"])
    return (
        f".claude/projects/-corpus-{row['repo'].replace('/', '-')}/{stored.stem}.jsonl"
        if stored.suffix == ".jsonl"
        else ""
    )


@pytest.fixture(scope="session")
def question_files() -> list[Path]:
    """Questions with known answers: the files named by LMM_QUESTIONS, else those in the folder beside the corpus."""
    named = [Path(name) for name in os.environ.get("LMM_QUESTIONS", "").split(os.pathsep) if name]
    beside = Path(__file__).resolve().parents[3] / "shared" / "bench" / "questions"
    files = named or sorted(beside.glob("*.jsonl"))
    if not files:
        pytest.skip("no questions about the corpus are on this machine (LMM_QUESTIONS names their files)")
    return files
