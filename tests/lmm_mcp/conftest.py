"""A memory of the bundled sessions and of one more project, read once by the real ingest process."""

import json
import os
import shutil
from pathlib import Path

import pytest

from lmm_mcp import children, samples
from lmm_mcp.paths import Home

ROOT = Path(__file__).resolve().parents[2]
LIGHTHOUSE = "/home/mira/lighthouse"
CANARY = "the lamp of the lighthouse turns every 17 seconds, keeper code ZEBRAFISH"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["legacy", "2026-07-28"])
def era(request) -> str:
    """Every server test speaks both generations of the protocol."""
    return request.param


def lighthouse_session(folder: Path) -> None:
    """Another project of the same user, in the agent's own format."""
    session = "0d9b2f0e-6c55-4b07-9a1e-7d1c5a5f0a11"
    records = [
        {
            "parentUuid": None,
            "isSidechain": False,
            "userType": "external",
            "cwd": LIGHTHOUSE,
            "sessionId": session,
            "version": "2.1.214",
            "gitBranch": "main",
            "type": kind,
            "message": {"role": kind, "content": content},
            "uuid": f"0d9b2f0e-0000-4000-8000-00000000000{number}",
            "timestamp": f"2026-03-20T10:00:0{number}.000Z",
        }
        for number, (kind, content) in enumerate(
            [
                ("user", "how often does the lamp turn? write it into the database documentation"),
                ("assistant", [{"type": "text", "text": f"Documented: {CANARY}."}]),
            ]
        )
    ]
    target = folder / "projects" / "-home-mira-lighthouse" / f"{session}.jsonl"
    target.parent.mkdir(parents=True)
    target.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@pytest.fixture(scope="session")
def harbour_env(tmp_path_factory) -> dict[str, str]:
    """The environment of a user with the bundled sessions, one more project, and a memory that has read them."""
    user = tmp_path_factory.mktemp("harbour")
    shutil.copytree(samples.FOLDER / "claude", user / ".claude")
    shutil.copytree(samples.FOLDER / "codex", user / ".codex")
    lighthouse_session(user / ".claude")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LMM_", "CLAUDE_", "CODEX_"))}
    env |= {"HOME": str(user), "USERPROFILE": str(user), "LMM_HOME": str(user / "lmm"), "PYTHONPATH": str(ROOT)}
    env |= {"LMM_EMBEDDER_NAME": "none"}  # by words alone: a model would take most of the time
    env |= {"CLAUDE_CONFIG_DIR": str(user / ".claude"), "CODEX_HOME": str(user / ".codex")}
    env |= {"LMM_ENGINE_LINGER_S": "2"}  # an engine leaves soon after the test that started it
    home = Home(user / "lmm").ensure()
    child = children.start_ingest(home, env, stay=False, idle_priority=False)
    assert child.wait(90) == 0, (home.logs / children.STDERR_LOG).read_text(encoding="utf-8")
    return env


@pytest.fixture(scope="session")
def harbour(harbour_env) -> Home:
    """The memory of `harbour_env`. Shared by all tests: do not write to it."""
    return Home(Path(harbour_env["LMM_HOME"]))


@pytest.fixture
def own_env(harbour_env, tmp_path) -> dict[str, str]:
    """The same user with a copy of that memory, for tests that write."""
    user = tmp_path / "user"
    shutil.copytree(harbour_env["HOME"], user, ignore=shutil.ignore_patterns("engine*"))  # sockets cannot be copied
    return {
        **harbour_env,
        "HOME": str(user),
        "USERPROFILE": str(user),
        "LMM_HOME": str(user / "lmm"),
        "CLAUDE_CONFIG_DIR": str(user / ".claude"),
        "CODEX_HOME": str(user / ".codex"),
    }
