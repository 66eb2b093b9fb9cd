"""Another model is wanted: what is remembered is embedded anew beside what is served, whatever happens in between."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from ingest import service, vectors
from lmm_mcp import artifacts, embedder_fetch, embedding, minilm_graph
from lmm_mcp.artifacts.sources import Sources
from lmm_mcp.config import Embedder, Settings
from lmm_mcp.domain.recall import Brief
from lmm_mcp.paths import Home
from lmm_mcp.recall import candidates
from lmm_mcp.server import status
from lmm_mcp.server.desk import Desk
from lmm_mcp.store import forgetting, forgetting_plan
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
DIM, WIDE = 24, 32
WORDS = "tide ferry harbour lamp crane rope buoy signal berth pilot anchor chart".split()
FIRST, SECOND, THIRD = "acme/first", "acme/second", "acme/third"
NUM_SESSIONS = 6


class Machine:
    """A user with sessions, a memory home and three small models."""

    def __init__(self, root: Path, small_bert: Callable[..., dict[str, np.ndarray]]) -> None:
        self._tensors = partial(small_bert, num_words=len(WORDS) + 1, layers=1, dim=DIM, wide=WIDE)
        self.folder = root / "claude" / "projects" / "p"
        self.folder.mkdir(parents=True)
        self.home = Home(root / "lmm").ensure()
        self.env = {"HOME": str(root), "CLAUDE_CONFIG_DIR": str(root / "claude"), "CODEX_HOME": str(root / "codex")}
        for n, name in enumerate((FIRST, SECOND, THIRD), 1):
            self.make_model(name, n)

    def make_model(self, name: str, seed: int) -> Path:
        """A small model, made ready to serve."""
        folder = embedding.folder_of(self.home, name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(minilm_graph.build(self._tensors(seed)).SerializeToString())
        tokens = Tokenizer(WordLevel({"[UNK]": 0, **{word: n for n, word in enumerate(WORDS, 1)}}, unk_token="[UNK]"))
        tokens.pre_tokenizer = Whitespace()
        tokens.save(str(folder / "tokenizer.json"))
        size = (folder / "model.onnx").stat().st_size
        embedding.write_card(folder, embedding.Card(name, f"weights {seed}", DIM, 60, "graph", size))
        return folder

    def say(self, session: str, text: str) -> None:
        record = {"type": "user", "uuid": f"u-{session}", "parentUuid": None, "sessionId": session,
                  "timestamp": "2026-03-01T10:00:00Z", "cwd": "/work/harbour", "gitBranch": "main",
                  "message": {"id": f"m-{session}", "role": "user", "content": text}}  # fmt: skip
        (self.folder / f"{session}.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")

    def want(self, name: str) -> None:
        self.env["LMM_EMBEDDER_NAME"] = name

    def read(self) -> None:
        settings = Settings(embedder=Embedder(name=self.env["LMM_EMBEDDER_NAME"], num_threads=1))
        assert service.run(self.home, self.env, settings, (), stay=False) == 0

    def read_and_die(self, num: int) -> None:
        """Read in a process that is killed after it has made so many slices of the next vectors."""
        code = [sys.executable, "-c", DYING, str(ROOT), str(self.home.root), str(num)]
        assert subprocess.run(code, env=os.environ | self.env, check=False).returncode == -signal.SIGKILL

    @property
    def store(self) -> ChunkStore:
        return ChunkStore.open(self.home.store)

    @property
    def served(self) -> str:
        made_by = self.store.embedder
        return made_by.name if made_by else ""

    def ids(self) -> set[str]:
        rows = Ledger.open(self.home.ledger).threads()
        return {each.id for row in rows for each in self.store.thread(row.thread.agent, row.thread.thread_id)}

    def same(self, name: str) -> bool:
        """Whether each passage has the vectors, of whole and windows, that this model alone makes of it."""
        model = embedding.load_named(self.home, name, num_threads=1)
        assert isinstance(model, embedding.OnnxEmbedder)
        store, ids = self.store, sorted(self.ids())
        made = vectors._made(model, store.get(ids))
        kept = store.windows(ids)
        wholes = {each: vectors.windows.mean(made[each]) for each in ids}
        return store.num_unembedded() == 0 and all(
            np.allclose(kept[each], made[each], atol=0.02)
            and {hit.chunk_id: hit.score for hit in store.nearest(wholes[each], candidates.Scope(), 99)}[each] > 0.999
            for each in ids
        )


DYING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from ingest import service, vectors
from lmm_mcp.config import Embedder, Settings
from lmm_mcp.paths import Home
from lmm_mcp.store.chunks import ChunkStore

vectors.SLICE = 1
real, left = ChunkStore.add_vectors, int(sys.argv[3])

def add(*args, to_next=False, **named):
    global left
    real(*args, to_next=to_next, **named)
    left -= to_next
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

ChunkStore.add_vectors = add
settings = Settings(embedder=Embedder(name=os.environ["LMM_EMBEDDER_NAME"], num_threads=1))
service.run(Home(Path(sys.argv[2])), dict(os.environ), settings, (), stay=False)
"""


@pytest.fixture
def machine(small_bert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One that was read with the first model, a passage at a time from now on."""
    monkeypatch.setattr(vectors, "SLICE", 1)
    made = Machine(tmp_path, small_bert)
    for n in range(NUM_SESSIONS):
        made.say(f"s{n}", f"The {WORDS[n]} is at the {WORDS[n + 1]} near the {WORDS[n + 3]}.")
    made.want(FIRST)
    made.read()
    assert made.served == FIRST
    assert made.same(FIRST)
    made.want(SECOND)
    return made


def during(monkeypatch: pytest.MonkeyPatch, look: Callable[[int], None]) -> None:
    """Have somebody look after each slice of the next vectors, with their number."""
    real, num = ChunkStore.add_vectors, iter(range(1, 1_000))

    def add(self: ChunkStore, *args: Any, to_next: bool = False, **named: Any) -> None:
        real(self, *args, to_next=to_next, **named)
        if to_next:
            look(next(num))

    monkeypatch.setattr(ChunkStore, "add_vectors", add)


def test_who_asks_is_answered_with_the_old_vectors_until_the_new_ones_serve(machine, monkeypatch):
    desk, seen = Desk(machine.home, machine.env), []

    def look(num: int) -> None:
        found = desk.recall("where is the ferry and the harbour", project="/work/harbour")
        assert isinstance(found, Brief)
        assert desk.by_words_only() == ""
        now = status.take(desk)
        assert (now.vectors_of, now.embedder, now.next_vectors_of) == (FIRST, FIRST, SECOND)
        assert f"embedded anew: {num} of {NUM_SESSIONS} passages ({SECOND})" in "\n".join(status.lines(now))
        seen.append((desk.embedder().name, now.num_embedded, now.num_embedded_next))

    during(monkeypatch, look)
    machine.read()
    assert seen == [(FIRST, NUM_SESSIONS, num) for num in range(1, NUM_SESSIONS + 1)]
    assert machine.served == SECOND
    assert machine.same(SECOND)
    assert desk.embedder().name == SECOND
    assert isinstance(desk.recall("where is the ferry and the harbour", project="/work/harbour"), Brief)
    now = status.take(desk)
    assert (now.vectors_of, now.embedder, now.next_vectors_of) == (SECOND, SECOND, "")


def test_a_question_during_which_other_vectors_come_to_serve_is_asked_once_more(machine, monkeypatch):
    desk, asked = Desk(machine.home, machine.env), []
    machine.want(SECOND)
    writer = ChunkStore.open(machine.home.store, create=True)
    model = embedding.load_named(machine.home, SECOND, num_threads=1)
    writer.set_embedder(model.name, model.version, model.dim)
    while chunks := writer.unembedded(9, of_next=True):
        made = vectors._made(model, chunks)
        writer.add_vectors([(each, 0, rows[0]) for each, rows in made.items()], made, to_next=True)
    real = candidates.embed_query

    def slowly(embedder, question):
        vector_D = real(embedder, question)
        if not asked:
            assert writer.serve_next()
        asked.append(embedder.name)
        return vector_D

    monkeypatch.setattr(candidates, "embed_query", slowly)
    assert isinstance(desk.recall("where is the ferry and the harbour", project="/work/harbour"), Brief)
    assert asked == [FIRST, SECOND]


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("num", [1, 4, NUM_SESSIONS])
def test_a_process_that_is_killed_is_gone_on_with(machine, monkeypatch, num):
    machine.read_and_die(num)
    assert machine.served == FIRST
    assert machine.same(FIRST)
    made = []
    during(monkeypatch, made.append)
    machine.read()
    assert len(made) == NUM_SESSIONS - num  # what was made before is not made again
    assert machine.served == SECOND
    assert machine.same(SECOND)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_what_is_forgotten_and_what_is_new_in_between_reaches_both(machine, monkeypatch):
    machine.read_and_die(3)
    store, ledger = ChunkStore.open(machine.home.store, create=True), Ledger.open(machine.home.ledger)
    archive = Archive(machine.home.archive)
    what = forgetting_plan.plan(store, archive, ledger, session="s5")
    gone = {each.id for each in store.thread("claude-code", "s5")}
    forgetting.carry_out(what, store, archive, ledger, notes=machine.home.notes, logs=machine.home.logs)
    ledger.close()
    (machine.folder / "s5.jsonl").unlink()
    machine.say("s9", "The pilot is at the anchor near the chart.")
    seen = []
    during(monkeypatch, lambda _: seen.append(machine.store.num_unembedded()))
    machine.read()
    assert len(gone) == 1
    assert seen
    assert set(seen) == {0}  # the new session had its old vectors before it got new ones
    assert not gone & machine.ids()
    assert len(machine.ids()) == NUM_SESSIONS
    assert machine.served == SECOND
    assert machine.same(SECOND)
    held = b"".join(path.read_bytes() for path in machine.home.store.rglob("*.lance") if path.is_file())
    assert gone.pop().encode() not in held


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("mind", [FIRST, THIRD])
def test_a_mind_may_be_changed_in_between(machine, monkeypatch, mind):
    machine.read_and_die(3)
    machine.want(mind)
    made = []
    during(monkeypatch, made.append)
    machine.read()
    assert len(made) == (0 if mind == FIRST else NUM_SESSIONS)
    assert (machine.served, machine.store.next_embedder) == (mind, None)
    assert machine.same(mind)


def test_a_model_whose_files_are_gone_or_others_can_no_longer_be_asked_and_is_replaced(machine):
    shutil.rmtree(embedding.folder_of(machine.home, FIRST))
    desk = Desk(machine.home, machine.env)
    assert "acme/first is not on this machine" in desk.by_words_only()
    assert isinstance(desk.recall("where is the ferry and the harbour", project="/work/harbour"), Brief)
    machine.read()
    assert machine.served == SECOND
    assert machine.same(SECOND)
    assert desk.by_words_only() == ""
    machine.make_model(SECOND, 7)  # over the old files
    assert "another by now" in Desk(machine.home, machine.env).by_words_only()
    machine.read()
    assert machine.same(SECOND)
    assert Desk(machine.home, machine.env).by_words_only() == ""


def test_another_revision_of_the_same_model_is_embedded_with_while_the_old_one_serves(machine, monkeypatch):
    machine.want(FIRST)
    folder, other = embedding.folder_of(machine.home, FIRST), machine.make_model("acme/other", 9)
    before = machine.store.embedder
    monkeypatch.setattr(embedder_fetch, "_try_out", lambda _: None)

    def fill(made: Path) -> embedding.Card:
        for name in ("model.onnx", "tokenizer.json"):
            shutil.copyfile(other / name, made / name)
        return replace(embedding.read_card(other), name=FIRST)

    embedder_fetch._install(folder, fill)
    desk, seen = Desk(machine.home, machine.env), []
    during(monkeypatch, lambda _: seen.append((machine.store.embedder, desk.embedder().version, desk.by_words_only())))
    machine.read()
    assert seen == [(before, before.version, "")] * NUM_SESSIONS
    assert machine.store.embedder == replace(before, version=embedding.read_card(folder).version) != before
    assert machine.same(FIRST)
    assert not list(machine.home.models.glob("*@*"))


def test_the_old_model_serves_and_embeds_while_the_wanted_one_is_not_there(machine):
    machine.want("acme/nowhere")
    machine.say("s9", "The pilot is at the anchor near the chart.")
    machine.read()
    assert machine.served == FIRST
    assert machine.same(FIRST)
    desk = Desk(machine.home, machine.env)
    assert (desk.by_words_only(), desk.embedder().name) == ("", FIRST)
    told = "\n".join(status.lines(status.take(desk)))
    assert f"searched with {FIRST}: the model acme/nowhere is not on this machine yet" in told


def test_a_fitted_model_that_was_kept_serves_until_something_it_learned_is_forgotten(machine):
    machine.env.pop("LMM_EMBEDDER_NAME")
    machine.want(embedding.MINILM)
    machine.make_model(embedding.MINILM, 11)
    machine.read()
    assert machine.served == embedding.MINILM
    name = "personal/minilm-0"
    folder = machine.make_model(name, 12)
    artifacts.write_sources(folder, Sources.of([("claude-code", "s1")], (), as_of=artifacts.forgettings(machine.home)))
    machine.read()
    assert machine.served == embedding.MINILM  # nobody has kept it
    embedding.keep_personal(machine.home, name)
    machine.read()
    assert machine.served == name
    assert machine.same(name)
    desk = Desk(machine.home, machine.env)
    assert desk.embedder().name == name
    artifacts.mark_unclean(machine.home, [("claude-code", "s1")])
    assert "forgotten" in Desk(machine.home, machine.env).by_words_only()
    machine.read()
    assert machine.served == embedding.MINILM
    assert machine.same(embedding.MINILM)
    assert not folder.exists()
    assert desk.embedder().name == embedding.MINILM


def test_a_wanted_model_that_is_damaged_changes_nothing(machine):
    with (embedding.folder_of(machine.home, SECOND) / "model.onnx").open("r+b") as file:
        file.truncate(100)
    machine.read()
    assert (machine.served, machine.store.next_embedder) == (FIRST, None)
    assert machine.same(FIRST)
    assert Desk(machine.home, machine.env).by_words_only() == ""
