"""The store of facts: one thread at a time, all or nothing, and nothing lost by losing it."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lmm_mcp.domain.chunk import Span
from lmm_mcp.domain.fact import Evidence, Fact, Salience
from lmm_mcp.store.facts import REPOSITORY, Derived, FactStore


def fact(value: str, thread: str = "s1", *, relation: str = "uses", role: str = "user", project: str = "shop") -> Fact:
    evidence = (Evidence("codex", thread, thread, Span(f"{thread}-e1", 2, 9), role, 1_000),)
    return Fact(
        project, "project fact", relation, "", value, f"{value} is used here.", evidence, 1_000, volatility="slow"
    )


def derived(
    thread: str, *facts: Fact, state: str = "1", salience: tuple[Salience, ...] = (), project: str = "shop"
) -> Derived:
    return Derived("codex", thread, thread, project, state, facts, salience)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "facts.sqlite"


@pytest.fixture
def store(path: Path):
    store = FactStore.open(path, create=True)
    yield store
    store.close()


def test_what_was_derived_comes_back_as_it_went_in(store):
    weights = (Salience("a" * 16, 0.75, (("pinned", 6.0), ("effort", 0.2))),)
    store.replace(derived("s1", fact("pnpm"), salience=weights))
    assert store.observations() == [fact("pnpm")]
    assert store.salience(["a" * 16, "b" * 16]) == {"a" * 16: weights[0]}
    assert store.states() == {("codex", "s1"): "1"}


def test_a_thread_derived_again_leaves_nothing_of_before(store):
    store.replace(derived("s1", fact("npm"), salience=(Salience("a" * 16, 0.5, ()),)))
    store.replace(derived("s1", fact("pnpm"), state="2"))
    assert [each.value for each in store.facts()] == ["pnpm"]
    assert not store.salience(["a" * 16])
    assert store.states() == {("codex", "s1"): "2"}


def test_a_fact_that_two_threads_support_keeps_the_evidence_of_the_one_that_is_left(store):
    store.replace(derived("s1", fact("pnpm", "s1"), fact("npm", "s1")))
    store.replace(derived("s2", fact("pnpm", "s2")))
    assert store.forget([("codex", "s1"), ("codex", "unknown")]) == 1
    (left,) = store.facts()
    assert (left.value, [each.thread_id for each in left.evidence]) == ("pnpm", ["s2"])


def test_facts_are_asked_by_project_and_for_those_that_hold(store):
    store.replace(derived("s1", fact("pnpm")))
    store.replace(derived("s2", fact("npm", "s2", project="mill"), project="mill"))
    assert [each.value for each in store.facts("mill")] == ["npm"]
    store.replace(derived("s3", fact("pnpm", "s3", relation="avoids")))
    assert {each.relation for each in store.facts("shop", holding_only=True)} <= {"avoids", "uses"}
    assert len(store.facts("shop", holding_only=True)) == 1


def test_only_the_users_word_in_another_session_counts_as_told_before(store):
    store.replace(derived("s1", fact("pnpm")))
    store.replace(derived("s2", fact("npm", "s2", role="agent")))
    assert store.is_told_elsewhere(fact("pnpm", "s9"), "s9")
    assert not store.is_told_elsewhere(fact("pnpm"), "s1")
    assert not store.is_told_elsewhere(fact("npm", "s9"), "s9")
    assert not store.is_told_elsewhere(fact("pnpm", "s9", project="mill"), "s9")


def test_the_file_is_the_users_alone(store, path):
    store.replace(derived("s1", fact("pnpm")))
    if os.name == "posix":
        modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.glob("facts.sqlite*")}
        assert modes == {0o600}


def test_after_a_purge_no_byte_of_what_was_forgotten_is_left(store, path):
    store.replace(derived("s1", fact("zebrafish"), salience=(Salience("a" * 16, 0.5, (("zebrafish", 1.0),)),)))
    store.forget([("codex", "s1")])
    store.purge()
    assert not any(b"zebrafish" in each.read_bytes() for each in path.parent.glob("facts.sqlite*"))


@pytest.mark.parametrize(
    "content", [b"", b"no database at all", "newer"], ids=["empty", "damaged", "of another version"]
)
def test_a_file_of_no_use_is_empty_to_readers_and_made_anew_by_the_writer(path, content):
    path.parent.mkdir(parents=True)
    if content == "newer":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    reader = FactStore.open(path)
    assert reader.facts() == []
    reader.close()
    assert path.read_bytes() == before
    writer = FactStore.open(path, create=True)
    writer.replace(derived("s1", fact("pnpm")))
    writer.close()
    again = FactStore.open(path)
    assert len(again.facts()) == 1
    again.close()


def test_a_reader_makes_no_file(path):
    reader = FactStore.open(path)
    assert (reader.facts(), reader.num_derived(), path.exists()) == ([], 0, False)
    reader.close()


def test_whoever_reads_meanwhile_sees_a_thread_whole_or_not_at_all(store, path):
    seen: set[int] = set()
    reader = FactStore.open(path)
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            seen.add(len(reader.observations()))

    thread = threading.Thread(target=read)
    thread.start()
    for n in range(30):
        store.replace(derived("s1", *(fact(f"tool{n}-{k}") for k in range(20)), state=str(n)))
    is_over.set()
    thread.join()
    reader.close()
    assert seen <= {0, 20}


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_fact_store import derived, fact
from lmm_mcp.store import facts
from lmm_mcp.store.facts import FactStore

store = FactStore.open(Path(sys.argv[1]), create=True)
store.replace(derived("s1", fact("npm")))
real, calls = facts._row, []

def dies(each):
    calls.append(each)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(each)

facts._row = dies
store.replace(derived("s1", fact("pnpm"), fact("bun"), fact("yarn"), state="2"))
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_whoever_dies_while_writing_leaves_what_was_there_before(path):
    command = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)]
    dead = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert dead.returncode == -9, dead.stderr
    store = FactStore.open(path, create=True)
    assert ([each.value for each in store.facts()], store.states()) == (["npm"], {("codex", "s1"): "1"})
    store.close()


def test_repositories_are_found_by_project_and_by_what_they_say(store):
    store.replace(Derived(REPOSITORY, "shop", "shop", "shop", "1", (fact("zebrafish"),)))
    store.replace(Derived(REPOSITORY, "mill", "mill", "mill", "1", (fact("wheat"),)))
    assert store.repositories_about([], "ZEBRA") == [(REPOSITORY, "shop")]
    assert store.repositories_about(["mill"]) == [(REPOSITORY, "mill")]
    assert store.repositories_about([]) == []
