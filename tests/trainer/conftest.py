"""A memory of an invented bakery's two projects, read by the real ingest process, for what is made of a memory."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ingest import service
from lmm_mcp.config import Embedder, Settings
from lmm_mcp.domain.fact import Fact
from lmm_mcp.paths import Home
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.facts import FactStore
from lmm_mcp.store.ledger import Ledger
from trainer.base import small_base
from trainer.base_texts import items

OVEN, SHOP = "/home/wren/oven", "/home/wren/shopfront"
NOON_OF_MARCH_ms = 1_772_366_400_000


@dataclass(frozen=True)
class Bakery:
    """What is open of the memory."""

    home: Home
    store: ChunkStore
    ledger: Ledger
    archive: Archive
    facts: list[Fact]
    recaller: Recaller


def session(number: int, day: str, cwd: str, steps: list[dict[str, Any]]) -> str:
    """One session in Claude Code's format; a step is `user`, `says`, `edit` (file and text) or `run` (command, output, failed)."""
    name = f"ba4e000{number}-6c55-4b07-9a1e-7d1c5a5f0a11"
    records: list[dict[str, Any]] = []

    def add(kind: str, content: Any) -> None:
        n = len(records)
        records.append(
            {
                "parentUuid": records[-1]["uuid"] if records else None,
                "isSidechain": False,
                "userType": "external",
                "cwd": cwd,
                "sessionId": name,
                "version": "2.1.214",
                "gitBranch": "main",
                "type": kind,
                "message": {"role": kind, "content": content},
                "uuid": f"ba4e000{number}-0000-4000-8000-{n:012d}",
                "timestamp": f"{day}T10:{n:02d}:00.000Z",
            }
        )

    for step in steps:
        if "user" in step:
            add("user", step["user"])
            continue
        if "says" in step:
            add("assistant", [{"type": "text", "text": step["says"]}])
            continue
        call = f"toolu_{number}_{len(records)}"
        if "edit" in step:
            given = {"file_path": f"{cwd}/{step['edit']}", "old_string": "x = 1", "new_string": step["text"]}
            add("assistant", [{"type": "tool_use", "id": call, "name": "Edit", "input": given}])
        else:
            add("assistant", [{"type": "tool_use", "id": call, "name": "Bash", "input": {"command": step["run"]}}])
        result = {"type": "tool_result", "tool_use_id": call, "content": step.get("output", "ok")}
        add("user", [{**result, "is_error": step.get("failed", False)}])
    return "".join(json.dumps(record) + "\n" for record in records)


SESSIONS = [
    (
        *("2026-01-10", OVEN),
        [
            {"user": "the crust of the rye loaf burns; the oven_curve overshoots at the end, please mend it"},
            {"says": "The overshoot comes from `oven_curve`, which heats on for 40 seconds after the target."},
            {"edit": "src/oven_curve.py", "text": "overshoot_seconds = clamp_heat(40)"},
            {"edit": "src/heat_sensor.py", "text": "def clamp_heat(seconds): return min(seconds, 12)"},
            {"run": "uv run pytest -q", "output": "8 passed"},
            {"user": "let's keep the proofing chamber at 27 degrees from now on, because the yeast is lazy"},
            {"says": "Noted: the proofing chamber stays at 27 degrees."},
        ],
    ),
    (
        *("2026-01-20", OVEN),
        [
            {"user": "which humidity does the steam valve need for baguettes?"},
            {"says": "I set `steam_humidity` to 78 in the valve's table."},
            {"edit": "src/steam_valve.py", "text": "steam_humidity = 78"},
            {"run": "uv run pytest -q", "output": "9 passed"},
        ],
    ),
    (
        *("2026-02-02", SHOP),
        [
            {"user": "the shop window must list the loaves of the day; the dev server listens on port 5511"},
            {"edit": "web/loaf_list.ts", "text": "export const loafLimit = 24"},
            {"run": "pnpm test", "output": "ok"},
            {"says": "The list of loaves shows `loafLimit` entries now."},
        ],
    ),
    (
        *("2026-02-10", OVEN),
        [
            {"user": "the rye crust burns again when the oven is full, please look at the curve of the heat"},
            {"edit": "src/oven_curve.py", "text": "overshoot_seconds = clamp_heat(20, is_full=True)"},
            {
                "run": "uv run pytest -q",
                "output": "TypeError: clamp_heat got an unexpected keyword argument is_full",
                "failed": True,
            },
            {"edit": "src/heat_sensor.py", "text": "def clamp_heat(seconds, is_full=False): ..."},
            {"run": "uv run pytest -q", "output": "10 passed"},
            {"says": "The full oven is clamped to 20 seconds."},
        ],
    ),
    (
        *("2026-02-20", SHOP),
        [
            {"user": "show fewer loaves in the window of the shop, the list is too long for small screens"},
            {"edit": "web/loaf_list.ts", "text": "export const loafLimit = 12"},
            {"run": "pnpm test", "output": "ok"},
            {"says": "`loafLimit` is 12 now, and the tests pass."},
        ],
    ),
    (
        *("2026-04-02", OVEN),
        [
            {
                "user": "after the update the rye crust burns once more; what did the curve of the heat look like? MARCHHARE"
            },
            {"edit": "src/oven_curve.py", "text": "overshoot_seconds = clamp_heat(15)"},
            {"run": "uv run pytest -q", "output": "11 passed"},
        ],
    ),
]


@pytest.fixture(scope="session")
def bakery(tmp_path_factory: pytest.TempPathFactory) -> Bakery:
    """Shared by all tests: do not write to it, but for its artifacts."""
    user: Path = tmp_path_factory.mktemp("bakery")
    folder = user / "claude" / "projects" / "p"
    folder.mkdir(parents=True)
    for number, (day, cwd, steps) in enumerate(SESSIONS):
        (folder / f"ba4e000{number}-6c55-4b07-9a1e-7d1c5a5f0a11.jsonl").write_text(
            session(number, day, cwd, steps), encoding="utf-8"
        )
    home = Home(user / "lmm").ensure()
    env = {"HOME": str(user), "CLAUDE_CONFIG_DIR": str(user / "claude"), "CODEX_HOME": str(user / "codex")}
    settings = Settings(embedder=Embedder(name="none"))
    assert service.run(home, env, settings, (), stay=False) == 0
    assert service.run(home, env, settings, (), stay=False, derives=True) == 0
    store, facts = ChunkStore.open(home.store), FactStore.open(home.facts)
    return Bakery(home, store, Ledger.open(home.ledger), Archive(home.archive), facts.facts(), Recaller(store, None))


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of random weights."""
    return small_base(tmp_path_factory.mktemp("base") / "small", [each.prompt for each in items(3, 200)])


@pytest.fixture
def home(bakery: Bakery, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A copy of the bakery's memory with that base, for trainings in this process and in others."""
    there = Home(tmp_path / "lmm")
    shutil.copytree(bakery.home.root, there.root)
    shutil.rmtree(there.artifacts, ignore_errors=True)
    shutil.copytree(base_folder, there.artifacts / "bases" / "small")
    monkeypatch.setenv("LMM_HOME", str(there.root))
    monkeypatch.setenv("LMM_EMBEDDER_NAME", "none")
    for name in ("HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nobody"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = os.umask(0o077)  # as the program sets it
    yield there
    os.umask(before)
