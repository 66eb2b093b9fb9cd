"""The whole loop with the real Claude Code and Codex, each against a scripted model on loopback: no account, no network.

    python benchmarks/real_clients.py [--keep FOLDER]

`lmm install` into an empty home; the first client's model calls `recall`, runs a command and says a fact; the client writes its
own session file, which the ingest process of the engine reads; the second client's model recalls the fact in the same
project. Then `lmm uninstall`. In both orders. The clients are found by LMM_CLAUDE and LMM_CODEX, or on PATH (with `node` for those
that need it); what is not found is printed as skipped.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).resolve().parent))

from scripted_model import ScriptedModel, Step  # noqa: E402

LMM = Path(sys.executable).with_name("lmm")
FACT = "The tide gauge listens on port 5477, because 5432 belongs to the old harbour database."
ASKED_FIRST = "Which port does the tide gauge listen on? (asked as quokkaword)"
ASKED_SECOND = "tide gauge port and the reason for it (asked as numbatword)"
SAID_SECOND = "Understood: I shall document the gauge in the bandicootword chapter."
PROMPT_FIRST = "Choose a port for the tide gauge of the harbour and write it down."
PROMPT_SECOND = "Add the tide gauge to the handbook of the harbour."
WAIT_s = 60.0


class Broken(AssertionError):
    """A promise that did not hold."""


@dataclass(frozen=True)
class Client:
    """A client on this machine."""

    name: str
    program: str


@dataclass(frozen=True)
class Ran:
    """One session of a client."""

    requests: list[dict[str, Any]]
    seconds: float
    output: str


@dataclass
class Receipt:
    """What was seen in one order of the two clients."""

    order: tuple[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    hook_tokens: int = 0
    eras: dict[str, str] = field(default_factory=dict)
    """Client to the version of MCP that it speaks."""


def found(env: Mapping[str, str]) -> dict[str, Client]:
    """The clients that are here, by name."""
    clients = {}
    for name, variable, program in (("claude-code", "LMM_CLAUDE", "claude"), ("codex", "LMM_CODEX", "codex")):
        path = env.get(variable) or shutil.which(program, path=env.get("PATH"))
        if path and Path(path).exists():
            clients[name] = Client(name, str(Path(path).absolute()))
    return clients


def environment(home: Path) -> dict[str, str]:
    """A user with nothing but a home: no settings of whoever runs this are seen."""
    path = os.pathsep.join([str(LMM.parent), *(os.environ.get("PATH", "").split(os.pathsep))])
    return {
        "HOME": str(home),
        "PATH": path,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "LMM_EMBEDDER_NAME": "none",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ANTHROPIC_API_KEY": "none",
        "SCRIPTED_KEY": "none",
        "IS_SANDBOX": "1",
        **({"PYTHONDONTWRITEBYTECODE": "1"} if "PYTHONDONTWRITEBYTECODE" in os.environ else {}),
    }


def talk(
    client: Client, project: Path, env: Mapping[str, str], prompt: str, steps: Sequence[Step], *, resumes: str = ""
) -> Ran:
    """Let the client have one session in `project`, or go on with one, in which its model follows `steps`."""
    with ScriptedModel(steps) as model:
        url = f"http://127.0.0.1:{model.port}"
        if client.name == "claude-code":
            command = [client.program, "-p", prompt, "--model", "claude-sonnet-4-5", "--output-format", "json"]
            command += ["--allowedTools", "mcp__lmm__recall,mcp__lmm__expand,Bash"]
            command += ["--resume", resumes] if resumes else []
            more = {"ANTHROPIC_BASE_URL": url}
        else:
            provider = f'{{name="scripted", base_url="{url}/v1", wire_api="responses", env_key="SCRIPTED_KEY", request_max_retries=0, stream_max_retries=0}}'
            settings = ['model="scripted"', 'model_provider="scripted"', f"model_providers.scripted={provider}"]
            settings += ['approval_policy="never"', "analytics.enabled=false", "check_for_update_on_startup=false"]
            command = [
                client.program,
                "exec",
                "--json",
                "--skip-git-repo-check",
                "--dangerously-bypass-approvals-and-sandbox",
            ]
            command += [word for setting in settings for word in ("-c", setting)] + [prompt]
            more = {}
        started_s = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=project,
            env={**env, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=WAIT_s * 2,
        )
        seconds = time.perf_counter() - started_s
        requests = model.conversation()
    if done.returncode != 0 or (not requests and not prompt.startswith("/")):
        raise Broken(f"{client.name} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return Ran(requests, seconds, done.stdout)


def lmm(env: Mapping[str, str], *arguments: str, cwd: Path | None = None) -> str:
    """Run a command of ours; what it printed."""
    done = subprocess.run(
        [str(LMM), *arguments], env=dict(env), cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=WAIT_s
    )
    if done.returncode != 0:
        raise Broken(f"lmm {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def until_recalled(env: Mapping[str, str], project: Path, words: str) -> float:
    """Wait until what a client wrote can be recalled; the seconds that took."""
    started_s = time.perf_counter()
    while words not in lmm(env, "recall", words, cwd=project):
        if time.perf_counter() - started_s > WAIT_s:
            raise Broken(f"{words!r} cannot be recalled after {WAIT_s:.0f} s")
        time.sleep(0.2)
    return time.perf_counter() - started_s


def everything_remembered(env: Mapping[str, str]) -> list[tuple[str, str]]:
    """Agent and text of every chunk in the store."""
    program = (
        "import json,sys\nfrom pathlib import Path\nfrom lmm_mcp.store.chunks import ChunkStore\n"
        "from lmm_mcp.store.search import Scope\nstore=ChunkStore.open(Path(sys.argv[1])/'store')\n"
        "found=[c for agent,thread in sorted(store.threads()) for c in store.thread(agent,thread)]\n"
        "print(json.dumps([(c.agent, c.header+chr(10)+c.text_of()) for c in found]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(env["HOME"]) / ".lmm")],
        env=dict(env),
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return [(agent, text) for agent, text in json.loads(done.stdout)]


def snapshot(home: Path) -> dict[str, bytes]:
    """The configuration files of both agents that are there."""
    names = (".claude.json", ".claude/settings.json", ".codex/config.toml")
    return {name: (home / name).read_bytes() for name in names if (home / name).exists()}


def demand(holds: bool, promise: str, seen: str = "") -> None:
    """Stop where a promise does not hold."""
    if not holds:
        raise Broken(f"{promise}{': ' + seen[-1500:] if seen else ''}")


def loop(first: Client, second: Client, home: Path) -> Receipt:
    """The loop of the module's first lines, in one order. Raises Broken."""
    receipt = Receipt((first.name, second.name))
    env = environment(home)
    project = _project(home)
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text('# mine\nmodel_reasoning_effort = "low"\n', encoding="utf-8")
    before = snapshot(home)
    lmm(env, "install", "claude-code", "codex")
    connected = snapshot(home)
    lmm(env, "install", "claude-code", "codex")
    demand(snapshot(home) == connected, "installing twice changes nothing")
    overheard = home / "overheard"
    _listen_in(home, overheard)
    try:
        _first_session(first, project, env, receipt)
        receipt.eras[first.name] = _era(overheard)
        _second_session(first, second, project, env, receipt)
        receipt.eras[second.name] = _era(overheard)
    finally:
        _stop_listening(home)
        subprocess.run([str(LMM), "stop"], env=env, capture_output=True, timeout=WAIT_s, check=False)
    lmm(env, "uninstall", "claude-code", "codex")
    after = snapshot(home)
    demand(after.get(".codex/config.toml") == before[".codex/config.toml"], "Codex' file is what it was, to the byte")
    demand(".claude/settings.json" not in after, "the settings that were made for Claude Code are gone")
    demand(b"lmm" not in after.get(".claude.json", b""), "nothing of ours is left in Claude Code's own file")
    return receipt


def _shell(client: Client, command: str) -> Step:
    """A step that runs a command."""
    if client.name == "claude-code":
        return Step(tool="Bash", arguments={"command": command})
    return Step(tool="exec_command", arguments={"cmd": command})


def _first_look(client: Client) -> list[Step]:
    """What comes before the first recall: Codex asks its model before its MCP servers have answered."""
    return (
        []
        if client.name == "claude-code"
        else [
            _shell(
                client, "for n in $(seq 60); do [ -e ~/.lmm/locks/engine.json ] && sleep 2 && break; sleep 0.5; done"
            )
        ]
    )


def _listen_in(home: Path, overheard: Path) -> None:
    """Put a program of the same name between client and server that writes down what the client says."""
    between = home / "between" / "lmm"
    between.parent.mkdir()
    between.write_text(
        f"#!/bin/sh\n[ \"$1\" = mcp ] || exec '{LMM}' \"$@\"\ntee '{overheard}' | '{LMM}' mcp\n", encoding="utf-8"
    )
    between.chmod(0o755)
    _exchange(home, str(LMM), str(between))


def _stop_listening(home: Path) -> None:
    _exchange(home, str(home / "between" / "lmm"), str(LMM))


def _exchange(home: Path, old: str, new: str) -> None:
    for name in snapshot(home):
        file = home / name
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def _era(overheard: Path) -> str:
    versions = re.findall(r'rotocolVersion"\s*:\s*"([^"]+)"', overheard.read_text(encoding="utf-8"))
    return versions[-1] if versions else "unknown"


def compaction(client: Client, home: Path) -> int:
    """A session of Claude Code that is compacted knows afterwards what it was about; the size of what the hook told, in tokens."""
    env = environment(home)
    project = _project(home)
    lmm(env, "install", client.name)
    try:
        ran = talk(client, project, env, PROMPT_FIRST, [Step(text=FACT)])
        session = json.loads(ran.output)["session_id"]
        until_recalled(env, project, "tide gauge listens on port 5477")
        talk(
            client, project, env, "/compact", [Step(text="<summary>A port was chosen.</summary>")] * 3, resumes=session
        )
        ran = talk(client, project, env, PROMPT_SECOND, [Step(text=SAID_SECOND)] * 9, resumes=session)
    finally:
        subprocess.run([str(LMM), "stop"], env=env, capture_output=True, timeout=WAIT_s, check=False)
    hook = _hook_text(ran.requests[-1])
    demand("the session that was just compacted:" in hook, "the hook tells of the compacted session first", hook)
    demand(FACT[:50] in hook, "what it was left with is told", hook)
    return -(-len(hook) // 4)


def _project(home: Path) -> Path:
    """A repository without a remote."""
    project = home / "work" / "harbour"
    (project / ".git").mkdir(parents=True)
    (project / ".git" / "config").write_text("[core]\n\tbare = false\n", encoding="utf-8")
    (project / ".git" / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
    return project


def _first_session(client: Client, project: Path, env: Mapping[str, str], receipt: Receipt) -> None:
    steps = [
        *_first_look(client),
        Step(tool="recall", arguments={"query": ASKED_FIRST}),
        _shell(client, "printf 'port = 5477\\n' > gauge.toml"),
        Step(text=f"{FACT} It stands in gauge.toml."),
    ]
    ran = talk(client, project, env, PROMPT_FIRST, steps)
    receipt.seconds[f"{client.name} session 1"] = ran.seconds
    answer = _result_of_recall(ran)
    # The watcher may be so fast that this very session is known by now.
    knows_nothing = "Nothing relevant is remembered" in answer or f"user: {PROMPT_FIRST}" in answer
    demand(knows_nothing, "recall answers, and an empty memory knows nothing", answer)
    demand(
        "lmm-brief" not in json.dumps(ran.requests[0]["messages" if "messages" in ran.requests[0] else "input"]),
        "a hook that knows nothing is silent",
    )
    demand((project / "gauge.toml").read_text(encoding="utf-8") == "port = 5477\n", "the command was run")
    receipt.seconds["until recallable 1"] = until_recalled(env, project, "tide gauge listens on port 5477")


def _second_session(first: Client, second: Client, project: Path, env: Mapping[str, str], receipt: Receipt) -> None:
    steps = [*_first_look(second), Step(tool="recall", arguments={"query": ASKED_SECOND}), Step(text=SAID_SECOND)]
    ran = talk(second, project, env, PROMPT_SECOND, steps)
    receipt.seconds[f"{second.name} session 2"] = ran.seconds
    opening = json.dumps(ran.requests[0], ensure_ascii=False)
    if second.name == "claude-code":
        hook = _hook_text(ran.requests[0])
        receipt.hook_tokens = -(-len(hook) // 4)
        demand(
            PROMPT_FIRST[:40] in hook, "the hook's text arrives with the first request, and tells what was worked on"
        )
        demand("mcp__lmm__recall" in opening, "the model sees recall itself, not only its name")
    answer = _result_of_recall(ran)
    demand("port 5477" in answer, "the fact comes back", answer)
    cited = re.findall(r"(\S+) session (\S+) \[c\d+\] ([0-9a-f]{16})", answer)
    demand(any(agent == first.name for agent, _, _ in cited), f"it is cited as {first.name}'s")
    shown = [lmm(env, "show", chunk, cwd=project) for agent, _, chunk in cited if agent == first.name]
    demand(any("port 5477" in text for text in shown), "the citation leads to where it was said")
    receipt.seconds["until recallable 2"] = until_recalled(env, project, "bandicootword chapter")
    remembered = everything_remembered(env)
    texts = "\n".join(text for _, text in remembered)
    demand("quokkaword" not in texts and "numbatword" not in texts, "no question to this memory is remembered")
    demand("lmm-brief" not in texts and "Left here by earlier sessions" not in texts, "no brief is remembered")
    tellers = {agent for agent, text in remembered if "old harbour database" in text}
    demand(tellers == {first.name}, "the fact is known from the session in which it was said, and from no other")


def _hook_text(request: Mapping[str, Any]) -> str:
    for said in request["messages"]:
        blocks = said["content"] if isinstance(said["content"], list) else [{"type": "text", "text": said["content"]}]
        for block in blocks:
            inner = re.search(r"<lmm-brief.*?</lmm-brief>", block.get("text", ""), re.DOTALL)
            if inner:
                return inner[0]
    return ""


def _result_of_recall(ran: Ran) -> str:
    """What the tool answered, as the model was sent it."""
    last = ran.requests[-1]
    if "messages" in last:
        blocks = [block for said in last["messages"] if isinstance(said["content"], list) for block in said["content"]]
        results = [block["content"] for block in blocks if block.get("type") == "tool_result"]
    else:
        results = [item["output"] for item in last["input"] if item.get("type") == "function_call_output"]
    return (
        "\n".join(json.dumps(result, ensure_ascii=False) for result in results).replace("\\n", "\n").replace('\\"', '"')
    )


@contextmanager
def a_home(keep: Path | None, name: str) -> Iterator[Path]:
    """A folder for one loop, gone afterwards unless it is to be kept."""
    if keep is not None:
        place = keep / name
        place.mkdir(parents=True)
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="lmm-clients-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def main() -> int:
    """Run both orders, as far as the clients are here; 1 if a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="keep the homes in this folder, to look at them")
    keep = parser.parse_args().keep
    clients = found(os.environ)
    failed = False
    for names in (("claude-code", "codex"), ("codex", "claude-code")):
        title = " -> ".join(names)
        if missing := [name for name in names if name not in clients]:
            print(f"{title}: skipped, {' and '.join(missing)} not found (LMM_CLAUDE, LMM_CODEX, PATH)")
            continue
        with a_home(keep, "-".join(names)) as home:
            try:
                receipt = loop(clients[names[0]], clients[names[1]], home)
            except (Broken, subprocess.SubprocessError) as problem:
                print(f"{title}: BROKEN: {problem}")
                failed = True
                continue
        times = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in receipt.seconds.items())
        hook = f"; the hook told {receipt.hook_tokens} tokens" if receipt.hook_tokens else ""
        eras = ", ".join(f"{name} speaks MCP {era}" for name, era in receipt.eras.items())
        print(
            f"{title}: the fact came back with its citation, nothing of a recall was remembered ({times}{hook}; {eras})"
        )
    if claude := clients.get("claude-code"):
        with a_home(keep, "compaction") as home:
            try:
                print(f"claude-code: a compacted session is told what it was about ({compaction(claude, home)} tokens)")
            except (Broken, subprocess.SubprocessError) as problem:
                print(f"claude-code, compaction: BROKEN: {problem}")
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
