"""A memory of the bundled sessions and of one more project, read once by the real ingest process."""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmm_mcp import children, samples
from lmm_mcp.paths import Home
from lmm_mcp.server import endpoint

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


PATIENCE_s = 60
CLIENT = {"name": "agent", "version": "0"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Agent:
    """An agent that speaks the protocol by hand over a real `lmm mcp`, so that every line of it can be looked at."""

    def __init__(self, env: dict[str, str], cwd: Path, era: str, program: list[str]) -> None:
        self.is_modern = era != "legacy"
        self.heard: list[dict[str, Any]] = []
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._num_asked = 0
        self.process = subprocess.Popen(
            program, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def say(self, line: bytes) -> None:
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def send(self, method: str, params: dict[str, Any] | None = None) -> int:
        """Ask, without waiting; the id."""
        self._num_asked += 1
        params = {**(params or {}), **({"_meta": ENVELOPE} if self.is_modern else {})}
        message = {"jsonrpc": "2.0", "id": self._num_asked, "method": method, "params": params}
        self.say(json.dumps(message).encode())
        return self._num_asked

    def send_call(self, tool: str, **arguments: Any) -> int:
        return self.send("tools/call", {"name": tool, "arguments": arguments})

    def answer(self, number: int | None) -> dict[str, Any]:
        """The answer to what was sent under this id; fails where none comes."""
        ends_s = time.monotonic() + PATIENCE_s
        while True:
            for message in self.heard:
                if "method" not in message and message.get("id") == number:
                    return message
            line = self._lines.get(timeout=max(0.01, ends_s - time.monotonic()))
            assert line, "the pipe has ended"
            self.heard.append(json.loads(line))

    def greet(self) -> dict[str, Any]:
        """Do what a client of this era does first."""
        if self.is_modern:
            return self.answer(self.send("server/discover"))
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": CLIENT}
        said = self.answer(self.send("initialize", hello))
        self.say(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return said

    def list_tools(self) -> list[str]:
        """The names of the tools; what costs the engine least."""
        return [tool["name"] for tool in self.answer(self.send("tools/list"))["result"]["tools"]]

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its structured answer."""
        said = self.answer(self.send_call(tool, **arguments))
        assert not said["result"].get("isError"), said
        return said["result"]["structuredContent"]

    def end(self) -> int:
        """Close its input and wait for its end; the exit code."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        code = self.process.wait(PATIENCE_s)
        self._reader.join(PATIENCE_s)
        self.process.stdout.close()
        return code


@pytest.fixture
def plain_env(tmp_path, monkeypatch) -> dict[str, str]:
    """A user with an empty memory and no sessions, whose engine leaves at once when its last agent has gone."""
    user = tmp_path / "user"
    user.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(user))
    monkeypatch.setenv("LMM_HOME", str(user / "lmm"))
    monkeypatch.setenv("LMM_EMBEDDER_NAME", "none")
    monkeypatch.setenv("LMM_ENGINE_LINGER_S", "1")
    return dict(os.environ)


@pytest.fixture
def agent_of(tmp_path) -> Iterator[Callable[..., Agent]]:
    """Starts agents, `agent_of(env)`; whatever of them and their engines is left after the test is ended."""
    started: list[Agent] = []
    homes: set[Home] = set()

    def start(env, era: str = "legacy", *options: str, cwd: Path = tmp_path, program: list[str] | None = None) -> Agent:
        command = program or [sys.executable, "-m", "lmm_mcp", "mcp", *options]
        started.append(Agent(env, cwd, era, command))
        homes.add(Home(Path(env["LMM_HOME"])))
        return started[-1]

    yield start
    for agent in started:
        agent.process.kill()
        agent.end()
    for home in homes:
        for pid in processes_of(home):
            kill(pid)


def processes_of(home: Home) -> dict[int, str]:
    """Engines and ingest processes of a memory home that run now: process id to `engine` or `ingest`. Linux only."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            is_zombie = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
        except OSError:  # it has just ended
            continue
        if not is_zombie and any(part.removeprefix("lmm_home=") == str(home.root) for part in told):
            found[int(folder.name)] = "ingest" if "ingest" in told else "engine"
    return found


def kill(pid: int, how: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)


def until(look: Callable[[], Any], at_most_s: float = PATIENCE_s) -> Any:
    """What `look` finds as soon as it finds something: other processes are at work meanwhile."""
    ends_s = time.monotonic() + at_most_s
    while not (found := look()):
        assert time.monotonic() < ends_s, "it did not come about in time"
        time.sleep(0.02)
    return found


class Processes:
    """What tests ask of processes that are not theirs."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.until = until
        self.kill = kill

    def running(self) -> dict[int, str]:
        return processes_of(self.home)

    def engine(self) -> int:
        """Process id of the engine whose door is open."""
        pid = endpoint.about(self.home)["pid"]
        assert isinstance(pid, int)
        return pid


@pytest.fixture
def processes(plain_env) -> Processes:
    """The processes of the memory home of `plain_env`."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("needs a list of processes in /proc")
    return Processes(Home(Path(plain_env["LMM_HOME"])))


ORCHARD = "/home/mira/orchard-QUAGGA"


def orchard_session(number: int, day: str, cwd: str, steps: list[dict[str, Any]]) -> str:
    """One session in Claude Code's format; each step is `user`, `edit` (file and text) or `run` (command, output, failed)."""
    session = f"5c0ffee{number}-6c55-4b07-9a1e-7d1c5a5f0a11"
    records: list[dict[str, Any]] = []

    def add(kind: str, content: Any, **more: Any) -> None:
        n = len(records)
        records.append(
            {
                "parentUuid": records[-1]["uuid"] if records else None,
                "isSidechain": False,
                "userType": "external",
                "cwd": cwd,
                "sessionId": session,
                "version": "2.1.214",
                "gitBranch": "main",
                "type": kind,
                "message": {"role": kind, "content": content},
                "uuid": f"5c0ffee{number}-0000-4000-8000-{n:012d}",
                "timestamp": f"{day}T10:{n:02d}:00.000Z",
                **more,
            }
        )

    for step in steps:
        if "user" in step:
            add("user", step["user"])
            continue
        call = f"toolu_{number}_{len(records)}"
        if "edit" in step:
            given = {"file_path": f"{cwd}/{step['edit']}", "old_string": "x = 1", "new_string": step["text"]}
            add("assistant", [{"type": "tool_use", "id": call, "name": "Edit", "input": given}])
        else:
            add("assistant", [{"type": "tool_use", "id": call, "name": "Bash", "input": {"command": step["run"]}}])
        failed = step.get("failed", False)
        add(
            "user",
            [{"type": "tool_result", "tool_use_id": call, "content": step.get("output", "ok"), "is_error": failed}],
        )
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture(scope="session")
def orchard_env(tmp_path_factory) -> dict[str, str]:
    """A user who worked on one project in January, February and March, and the memory of it. Do not write to it."""
    user = tmp_path_factory.mktemp("orchard")
    january = [
        {"user": "why does the till round the totals of the day down?"},
        {"edit": "src/till_rounding.py", "text": "total = round_half_even(total_in_cents)"},
        {"edit": "src/refund_ledger.py", "text": "refund = round_half_even(refund_in_cents)"},
        {"run": "uv run pytest -q tests/till", "output": "8 passed"},
    ]
    february = [
        {"user": "make the label printer use the new width of the paper"},
        {"edit": "src/label_printer.py", "text": "paper_width_mm = 80"},
        {"run": "make labels", "output": "done"},
    ]
    march = [
        {"user": "the till rounds totals wrongly again, say MARCHHARE for refunds"},
        {"edit": "src/till_rounding.py", "text": "total = round_half_even(total_in_cents, refunds=True)"},
        {
            "run": "uv run pytest -q tests/till",
            "output": "TypeError: round_half_even got an unexpected keyword argument refunds",
            "failed": True,
        },
        {"edit": "src/refund_ledger.py", "text": "def round_half_even(amount, refunds=False): ..."},
        {"run": "uv run pytest -q tests/till", "output": "9 passed"},
        {"user": "yes, go on"},
    ]
    folder = user / ".claude" / "projects" / "-home-mira-orchard"
    folder.mkdir(parents=True)
    for number, (day, cwd, steps) in enumerate(
        [
            ("2026-01-10", ORCHARD, january),
            ("2026-02-10", ORCHARD, february),
            ("2026-03-10", f"{ORCHARD}.worktrees/fix", march),
        ]
    ):
        text = orchard_session(number, day, cwd, steps)
        (folder / f"5c0ffee{number}-6c55-4b07-9a1e-7d1c5a5f0a11.jsonl").write_text(text, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LMM_", "CLAUDE_", "CODEX_"))}
    env |= {"HOME": str(user), "USERPROFILE": str(user), "LMM_HOME": str(user / "lmm"), "PYTHONPATH": str(ROOT)}
    env |= {"LMM_EMBEDDER_NAME": "none", "CLAUDE_CONFIG_DIR": str(user / ".claude"), "CODEX_HOME": str(user / ".codex")}
    home = Home(user / "lmm").ensure()
    child = children.start_ingest(home, env, stay=False, idle_priority=False)
    assert child.wait(90) == 0, (home.logs / children.STDERR_LOG).read_text(encoding="utf-8")
    return env


@pytest.fixture(scope="session")
def small_models(tmp_path_factory) -> Path:
    """A folder with `base`, a Qwen3 of 40,000 random weights, and weights that say one thing, whatever they are asked."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    from lmm_mcp.model import network, rendering

    torch.manual_seed(5)
    told = Tokenizer(models.BPE())
    told.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    told.decoder = decoders.ByteLevel()
    texts = ["Question: which port does the cache use, and why? none 1 2 3 user: The port is 5433 [1]."] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    told.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=told, eos_token="<end>", pad_token="<end>")
    shape = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    folder = tmp_path_factory.mktemp("small-models")
    network.save_base(Qwen3ForCausalLM(shape), tokenizer, folder / "base")
    for name, answer in (("says-two", "2"), ("says-none", "none"), ("writes", "The port is 5433 [1].")):
        told_it = network.load(folder / "base")
        _made_to_say(told_it.model, rendering.answer_ids(tokenizer, answer))
        network.save_adapter(told_it, folder / name)
    return folder


def _made_to_say(model, ids: list[int]) -> None:
    """Make each layer add nothing, and each token lead to the next of `ids`; all that are none of them to the first."""
    import torch

    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.zero_()
        model.lm_head.weight.zero_()
        model.model.embed_tokens.weight[:, 0] = 1.0
        for place, token in enumerate(ids):
            model.lm_head.weight[token, place] += 5.0
            model.model.embed_tokens.weight[token] = 0.0
            model.model.embed_tokens.weight[token, place + 1] = 1.0
