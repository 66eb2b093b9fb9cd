"""From session files to facts through the real service: when it is derived, resumed, forgotten, excluded and made anew."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest import deriving, rebuilding, service
from lmm_mcp import children, notes, samples
from lmm_mcp.config import Embedder, Lessons, Sessions, Settings
from lmm_mcp.domain.fact import Fact
from lmm_mcp.errors import StoreError
from lmm_mcp.paths import Home
from lmm_mcp.store import forgetting
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.facts import REPOSITORY, FactStore
from lmm_mcp.store.ledger import Ledger

WORDS_ONLY = Embedder(name="none")


class Machine:
    """A machine with Claude Code's sessions and a memory home."""

    def __init__(self, root: Path) -> None:
        self.root, self.claude = root, root / "claude"
        (self.claude / "projects" / "p").mkdir(parents=True)
        self.home = Home(root / "lmm").ensure()
        self.env = {"HOME": str(root), "CLAUDE_CONFIG_DIR": str(self.claude), "CODEX_HOME": str(root / "codex")}

    def write(self, session: str, *said: tuple[str, str], cwd: str = "/work/harbour", day: int = 1) -> None:
        path = self.claude / "projects" / "p" / f"{session}.jsonl"
        start = len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0
        with path.open("a", encoding="utf-8") as out:
            for n, (role, text) in enumerate(said, start):
                out.write(json.dumps(record(session, n, role, text, cwd, day)) + "\n")

    def read(self, settings: Settings | None = None) -> None:
        assert service.run(self.home, self.env, settings or Settings(embedder=WORDS_ONLY), (), stay=False) == 0

    def derive(self, **settings: object) -> None:
        these = Settings(embedder=WORDS_ONLY, **settings)  # type: ignore[arg-type]
        assert service.run(self.home, self.env, these, (), stay=False, derives=True) == 0

    def facts(self) -> list[Fact]:
        store = FactStore.open(self.home.facts)
        try:
            return store.facts()
        finally:
            store.close()

    def values(self, relation: str) -> set[str]:
        return {fact.value for fact in self.facts() if fact.relation == relation and fact.holds}

    def states(self) -> dict[tuple[str, str], str]:
        store = FactStore.open(self.home.facts)
        try:
            return store.states()
        finally:
            store.close()

    def forget(self, **conditions: str) -> None:
        rooms = (
            ChunkStore.open(self.home.store, create=True),
            Archive(self.home.archive),
            Ledger.open(self.home.ledger),
        )
        what = forgetting.plan(*rooms, **conditions)  # type: ignore[arg-type]
        folders = {"notes": self.home.notes, "logs": self.home.logs, "facts": self.home.facts}
        forgetting.carry_out(what, *rooms, **folders)  # type: ignore[arg-type]
        rooms[2].close()


def record(session: str, n: int, role: str, text: str, cwd: str, day: int) -> dict[str, object]:
    content = text if role == "user" else [{"type": "text", "text": text}]
    return {
        "type": role,
        "uuid": f"{session}-{n}",
        "parentUuid": None,
        "sessionId": session,
        "timestamp": f"2026-03-{day:02}T10:{n:02}:00.000Z",
        "cwd": cwd,
        "gitBranch": "main",
        "message": {"id": f"m-{session}-{n}", "role": role, "content": content},
    }


def until(holds: Callable[[], bool], *, at_most_s: float = 60.0) -> None:
    """Wait for a condition that another process brings about."""
    end = time.monotonic() + at_most_s
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


PNPM, NPM = ("user", "From now on we use pnpm here."), ("user", "We use npm here.")
RULE = ("user", "Always ask before you touch the zebrafish table.")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_import_alone_derives_nothing_and_whoever_asks_gets_everything(machine):
    machine.write("s1", PNPM, ("assistant", "Root cause: the lock file `pnpm-lock.yaml` was stale."))
    machine.read()
    assert not machine.home.facts.exists()
    machine.derive()
    assert machine.values("uses") == {"pnpm"}
    assert machine.values("root cause") == {"the lock file `pnpm-lock.yaml` was stale."}


def test_every_value_stands_in_its_evidence_and_every_passage_is_weighed(tmp_path):
    machine = Machine(tmp_path)
    shutil.copytree(samples.FOLDER / "claude", machine.claude, dirs_exist_ok=True)
    shutil.copytree(samples.FOLDER / "codex", tmp_path / "codex")
    machine.read()
    machine.derive()
    facts, archive = machine.facts(), Archive(machine.home.archive)
    assert len(facts) > 1
    for fact in facts:
        spans = []
        for each in fact.evidence:
            events = {event.id: event for event in archive.read(each.agent, each.thread_id)[1]}
            spans.append(events[each.span.event_id].text[each.span.start : each.span.end])
        assert any(fact.value in span for span in spans), fact
    rows, store = Ledger.open(machine.home.ledger).threads(), ChunkStore.open(machine.home.store)
    ids = [chunk.id for row in rows for chunk in store.thread(row.thread.agent, row.thread.thread_id)]
    derived = FactStore.open(machine.home.facts)
    weighed = derived.salience(ids)
    derived.close()
    assert len(ids) == len(weighed) > 3
    assert all(0.0 <= each.score <= 1.0 for each in weighed.values())


def test_what_did_not_change_is_not_derived_again(machine, monkeypatch):
    machine.write("s1", PNPM)
    machine.write("s2", NPM)
    machine.read()
    machine.derive()
    done = []
    real = deriving.derive
    monkeypatch.setattr(deriving, "derive", lambda row, *rest: done.append(row.thread.thread_id) or real(row, *rest))
    machine.derive()
    assert done == []
    machine.write("s2", RULE)
    machine.read()
    machine.derive()
    assert done == ["s2"]
    monkeypatch.setattr(deriving, "FACTS_VERSION", 99)
    machine.derive()
    assert sorted(done) == ["s1", "s2", "s2"]


def test_a_later_session_replaces_what_an_earlier_one_said_whenever_it_is_read(machine):
    machine.write("s2", ("user", "The redis port is 6380 from today."), day=9)
    machine.read()
    machine.derive()
    machine.write("s1", ("user", "The redis port is 6379 as ever."), day=2)
    machine.read()
    machine.derive()
    assert machine.values("port") == {"6380"}
    assert {fact.value for fact in machine.facts() if fact.relation == "port"} == {"6379", "6380"}


def test_what_is_forgotten_leaves_facts_and_salience_and_what_it_had_replaced_holds_again(machine):
    machine.write("s1", ("user", "The redis port is 6379 as ever."), ("user", "We use pnpm here."), day=2)
    machine.write("s2", ("user", "The redis port is 6380 from today."), ("user", "We use pnpm here."), day=9)
    machine.read()
    machine.derive()
    machine.forget(session="s2")
    assert machine.values("port") == {"6379"}
    (pnpm,) = [fact for fact in machine.facts() if fact.value == "pnpm"]
    assert {each.session_id for each in pnpm.evidence} == {"s1"}
    assert set(machine.states()) == {("claude-code", "s1")}
    machine.read()
    machine.derive()
    assert machine.values("port") == {"6379"}


def test_of_a_session_that_loses_a_message_the_rest_is_derived_again(machine):
    machine.write("s1", PNPM, ("assistant", "Good."), RULE)
    machine.read()
    machine.derive()
    assert any("zebrafish" in value for value in machine.values("standing rule"))
    machine.forget(match="zebrafish")
    assert machine.facts() == []
    machine.read()
    machine.derive()
    assert machine.values("uses") == {"pnpm"}
    assert not [path for path in machine.home.root.rglob("facts*") if b"zebrafish" in path.read_bytes()]


def test_what_is_excluded_by_now_is_no_fact_any_more(machine):
    machine.write("s1", PNPM, cwd="/work/secret")
    machine.write("s2", RULE)
    machine.read()
    machine.derive()
    assert machine.values("uses") == {"pnpm"}
    machine.derive(sessions=Sessions(exclude_paths=("/work/secret",)))
    assert set(machine.states()) == {("claude-code", "s2")}
    assert not machine.values("uses")


def test_a_note_becomes_a_fact_of_its_project(machine):
    notes.remember(
        machine.home, "Always deploy on Tuesdays.", project="/work/harbour", cwd="", now_ms=1_772_000_000_000
    )
    machine.read()
    machine.derive()
    (fact,) = machine.facts()
    assert (fact.project, fact.relation, fact.evidence[0].role) == ("/work/harbour", "standing rule", "note")


def test_a_damaged_archive_file_keeps_nothing_else_from_being_derived(machine):
    machine.write("s1", PNPM)
    machine.write("s2", RULE)
    machine.read()
    Archive(machine.home.archive).path("claude-code", "s2").write_bytes(b"this is no archive" * 9)
    machine.derive()
    assert machine.values("uses") == {"pnpm"}


def test_a_session_that_nobody_can_make_sense_of_keeps_nothing_else_from_being_derived(machine, monkeypatch):
    machine.write("s1", PNPM)
    machine.write("s2", RULE)
    machine.read()
    real = deriving.pair_turns

    def odd(thread, events):
        if thread.thread_id == "s2":
            raise KeyError("a mistake of ours")
        return real(thread, events)

    monkeypatch.setattr(deriving, "pair_turns", odd)
    machine.derive()
    assert machine.values("uses") == {"pnpm"}
    assert set(machine.states()) == {("claude-code", "s1"), ("claude-code", "s2")}


def test_a_store_of_facts_that_cannot_be_written_keeps_no_session_from_being_read(machine):
    machine.write("s1", PNPM)
    machine.home.facts.mkdir()
    child = children.start_ingest(machine.home, {**os.environ, **machine.env, "LMM_EMBEDDER_NAME": "none"}, stay=True)
    try:
        log = machine.home.logs / "ingest.log"
        until(lambda: log.exists() and "derived later" in log.read_text(encoding="utf-8"))
        machine.write("s2", RULE)
        children.hand_over(machine.home, [])
        until(lambda: ChunkStore.open(machine.home.store).count() == 2)
        assert child.poll() is None
    finally:
        child.stop()


def test_a_rebuilt_store_has_its_facts_made_anew(machine):
    machine.write("s1", PNPM)
    machine.read()
    machine.derive()
    before = machine.facts()
    machine.home.facts.write_bytes(b"this is no database" * 99)
    for end in ("-wal", "-shm"):
        machine.home.facts.with_name(machine.home.facts.name + end).unlink(missing_ok=True)
    assert machine.facts() == []
    assert rebuilding.rebuild(machine.home, Settings(embedder=WORDS_ONLY)) == 0
    assert machine.facts() == before


KILLED = """
import os, signal, sys
from pathlib import Path
from ingest import service
from lmm_mcp.config import Embedder, Settings
from lmm_mcp.paths import Home
from lmm_mcp.store.facts import FactStore

real, left = FactStore.replace, [int(sys.argv[2])]

def dies(self, derived):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    real(self, derived)

FactStore.replace = dies
service.run(Home(Path(sys.argv[1])), dict(os.environ), Settings(embedder=Embedder(name="none")), (), stay=False, derives=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_whoever_is_killed_again_and_again_ends_with_the_same_facts(machine, tmp_path):
    for n in range(3):
        machine.write(f"s{n}", ("user", f"The redis port is {6379 + n} from today."), RULE, day=n + 1)
    machine.read()
    whole = tmp_path / "whole"
    shutil.copytree(machine.home.root, whole)
    for num_done in (0, 1):
        command = [sys.executable, "-P", "-c", KILLED, str(machine.home.root), str(num_done)]
        dead = subprocess.run(command, env={**os.environ, **machine.env}, capture_output=True, timeout=60, check=False)
        assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert len(machine.states()) == 1
    machine.derive()
    killed = machine.facts()
    machine.home = Home(whole)
    machine.derive()
    assert killed == machine.facts()
    assert len(killed) == 4


def test_whoever_waits_gets_all_that_is_archived_derived_by_a_child(machine):
    machine.write("s1", PNPM)
    env = {**os.environ, **machine.env, "LMM_EMBEDDER_NAME": "none"}
    machine.read()
    children.derive(machine.home, env)
    assert machine.values("uses") == {"pnpm"}
    assert not list(machine.home.handover.glob("*.json"))


def test_a_process_that_stays_is_asked_to_derive_and_leaves_a_session_alone_that_is_being_written(machine):
    env = {**os.environ, **machine.env, "LMM_EMBEDDER_NAME": "none"}
    child = children.start_ingest(machine.home, env, stay=True)
    try:
        machine.write("s1", PNPM)
        children.hand_over(machine.home, [])
        until(lambda: ChunkStore.exists(machine.home.store) and ChunkStore.open(machine.home.store).count() == 1)
        assert not machine.facts()
        children.derive(machine.home, env)
        assert machine.values("uses") == {"pnpm"}
        assert child.poll() is None
    finally:
        child.stop()
    assert not list(machine.home.handover.glob("*.json"))


def test_a_process_that_stays_derives_by_itself_what_has_come_to_rest(machine):
    machine.write("s1", PNPM)
    machine.read()
    path = Archive(machine.home.archive).path("claude-code", "s1")
    os.utime(path, (1_772_000_000, 1_772_000_000))
    env = {**os.environ, **machine.env, "LMM_EMBEDDER_NAME": "none"}
    child = children.start_ingest(machine.home, env, stay=True)
    try:
        until(lambda: machine.values("uses") == {"pnpm"})
    finally:
        child.stop()


def test_a_full_disk_limit_is_told_to_whoever_waits(machine):
    machine.write("s1", PNPM)
    machine.read()
    (machine.home.root / "large").write_bytes(b"\0" * 3_000_000)
    env = {**os.environ, **machine.env, "LMM_EMBEDDER_NAME": "none", "LMM_LIMITS_DISK_MB": "1"}
    with pytest.raises(StoreError, match="disk"):
        children.derive(machine.home, env)
    assert not machine.facts()


# A project's own files


def repository(root: Path) -> Path:
    shop = root / "shop"
    (shop / "src").mkdir(parents=True)
    (shop / "node_modules" / "x").mkdir(parents=True)
    files = {
        "package.json": '{\n  "packageManager": "pnpm@9.1.0",\n  "scripts": {\n    "test": "vitest run"\n  }\n}\n',
        "README.md": "# Shop\n\nA small shop that sells ropes and tackle to harbours.\n",
        "src/cart.ts": "export function totalOf(cart) {}\nfunction hidden() {}\nexport class Cart {}\n",
        ".env": "SECRET=zebrafish\n",
        "src/.env.ts": "export const zebrafish = 1\n",
        "node_modules/x/index.ts": "export function zebrafish() {}\n",
        "src/keys.py": "def zebrafish_of(): pass\n",
    }
    for name, text in files.items():
        (shop / name).write_text(text, encoding="utf-8")
    outside = root / "outside.py"
    outside.write_text("def zebrafish(): pass\n", encoding="utf-8")
    (shop / "src" / "linked.py").symlink_to(outside)
    (shop / "linked").symlink_to(root / "outside_folder", target_is_directory=True)
    (shop / "src" / "keys.py").unlink()
    return shop


def test_a_projects_own_files_are_read_only_where_the_user_named_it_and_never_its_secrets(machine):
    shop = repository(machine.root)
    machine.write("s1", RULE, cwd=str(shop))
    machine.read()
    machine.derive()
    assert {fact.relation for fact in machine.facts()} == {"standing rule"}
    machine.derive(lessons=Lessons(repositories=(str(shop),)))
    own = [fact for fact in machine.facts() if fact.evidence[0].agent == REPOSITORY]
    found = {(fact.relation, fact.subject, fact.value) for fact in own}
    assert found == {
        ("package manager", "javascript", "pnpm"),
        ("script", "test", "vitest run"),
        ("description", "", "A small shop that sells ropes and tackle to harbours."),
        ("defines", "src/cart.ts", "totalOf"),
        ("defines", "src/cart.ts", "Cart"),
    }
    assert {fact.category for fact in own} == {"codebase structure"}
    assert {fact.project for fact in own} == {machine.facts()[0].project}
    machine.derive()
    assert {fact.relation for fact in machine.facts()} == {"standing rule"}


def test_a_repository_that_changed_is_read_again_and_one_that_is_excluded_or_gone_is_dropped(machine):
    shop = repository(machine.root)
    machine.write("s1", RULE, cwd=str(shop))
    machine.read()
    everywhere = Lessons(repositories=("*",))
    machine.derive(lessons=everywhere)
    assert machine.values("script") == {"vitest run"}
    (shop / "package.json").write_text('{\n  "scripts": {\n    "test": "jest --ci"\n  }\n}\n', encoding="utf-8")
    machine.derive(lessons=everywhere)
    assert machine.values("script") == {"jest --ci"}
    machine.derive(lessons=everywhere, sessions=Sessions(exclude_paths=(str(shop),)))
    assert not machine.facts()
    machine.derive(lessons=everywhere)
    shutil.rmtree(shop)
    machine.derive(lessons=everywhere)
    assert {key[0] for key in machine.states()} == {"claude-code"}


def test_secrets_in_a_projects_files_are_cut_before_anything_is_looked_for(machine):
    shop = repository(machine.root)
    token = "ghp_" + "a1B2" * 9
    readme = f"# Shop\n\nThe deployment of this shop uses the token {token} for everything.\n"
    (shop / "README.md").write_text(readme, encoding="utf-8")
    machine.write("s1", RULE, cwd=str(shop))
    machine.read()
    machine.derive(lessons=Lessons(repositories=("*",)))
    assert not [path for path in machine.home.root.rglob("facts*") if token.encode() in path.read_bytes()]


def test_forgetting_a_project_takes_what_its_files_said_with_it(machine):
    shop = repository(machine.root)
    machine.write("s1", RULE, cwd=str(shop))
    machine.write("s2", PNPM)
    machine.read()
    machine.derive(lessons=Lessons(repositories=("*",)))
    (key,) = {fact.project for fact in machine.facts() if fact.relation == "script"}
    machine.forget(project=key)
    assert set(machine.states()) == {("claude-code", "s2")}
