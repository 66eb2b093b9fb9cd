"""Invented sessions: from a short transcript to the files that the agents write, and suites of questions about them.

A transcript is text. `== name date time agent branch` begins a session, and blank lines part its steps:

    > what the user says                 prose of the agent
    $ a command                          @ the file that is edited
    | what it printed                    - a line that goes
    ! the same, and it failed            + a line that comes

Files are written as Claude Code and Codex write theirs and read by the real ingest walk, questions are asked through the
tool that serves agents, and judged as `lmm bench questions` judges them.
"""

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingest import service
from lmm_mcp import config, embedder_fetch
from lmm_mcp.evaluation import arms, judging, questions, runs
from lmm_mcp.paths import Home
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.inprocess import tool_caller

BUDGET_tokens = 1000
QUESTIONS = "questions.jsonl"
BEFORE = "before"
"""Category of the questions that want what held earlier."""
BY_WORDS, BY_MODEL = "by words alone", "with MiniLM"
ARMS: Mapping[str, Sequence[str]] = {
    BY_WORDS: ("recall", "bm25"),
    BY_MODEL: ("recall", "vectors", "passages"),
}
"""What is asked: `bm25` is the same with a model, and without one `passages` is `bm25` and nothing is found by vectors."""
FIGURES = ("cover@250", "cover@1000", "hit@1", "hit@5", "mute", "stale", "marked", "quiet")
_MARKED = re.compile(r"\[c\d+\] [^:]*?\((?:superseded\)|(?P<old>[^()]*?) is superseded by )")
_BETWEEN_STEPS, _BEFORE_PROMPTS = timedelta(seconds=20), timedelta(minutes=3)


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    line: str
    output: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    path: str
    lines: tuple[str, ...]
    """Each begins with `+`, `-` or a blank."""

    def side(self, signs: str) -> str:
        return "\n".join(line[1:] for line in self.lines if line[0] in signs)


Step = Prompt | Reply | Command | Edit


@dataclass(frozen=True, slots=True)
class Session:
    """`name` is unique in its suite, and its id is made from it."""

    name: str
    cwd: str
    at: datetime
    steps: tuple[Step, ...]
    agent: str = "claude-code"
    branch: str = "main"

    @property
    def id(self) -> str:
        return named(self.name)

    @property
    def text(self) -> str:
        """All that was said and shown, step by step."""
        return "\n".join(
            "\n".join(
                (f"$ {step.line}", step.output)
                if isinstance(step, Command)
                else (step.path, *step.lines)
                if isinstance(step, Edit)
                else (step.text,)
            )
            for step in self.steps
        )


def named(name: str) -> str:
    """The id that is made from a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"invented/{name}"))


# Transcripts ----------------------------------------------------------------------------------------------------------


def transcript(text: str) -> list[Session]:
    """Read a transcript; its first line is the working directory of all its sessions. Raises ValueError."""
    cwd, *parts = re.split(r"^== ", text, flags=re.MULTILINE)
    sessions = []
    for part in parts:
        head, _, body = part.partition("\n")
        name, day, time, agent, branch = head.split()
        steps = tuple(_step(block) for block in re.split(r"\n\s*\n", body.strip("\n")))
        at = datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=UTC)
        sessions.append(Session(name, cwd.strip(), at, steps, agent, branch))
    return sessions


def _step(block: str) -> Step:
    first, *rest = block.split("\n")
    match first[:2]:
        case "> ":
            return Prompt("\n".join(line[2:] for line in (first, *rest)))
        case "$ ":
            signs = {line[:1] for line in rest}
            if not rest or signs not in ({"|"}, {"!"}):
                raise ValueError(f"what a command printed begins with | or !: {block!r}")
            return Command(first[2:], "\n".join(line[2:] for line in rest), failed=signs == {"!"})
        case "@ ":
            if not rest or any(line[:1] not in ("+", "-", " ") for line in rest):
                raise ValueError(f"the lines of an edit begin with +, - or a blank: {block!r}")
            return Edit(first[2:], tuple(line[0] + line[2:] for line in rest))
    if any(line[:1] in ("|", "!") for line in (first, *rest)):
        raise ValueError(f"an output without its command: {block!r}")
    return Reply(block)


# Session files --------------------------------------------------------------------------------------------------------


def write(session: Session, folder: Path) -> Path:
    """Write a session file below `folder`, in `claude/` or `codex/`, where its agent would."""
    if session.agent == "codex":
        name = f"rollout-{session.at:%Y-%m-%dT%H-%M-%S}-{session.id}.jsonl"
        target, records = folder / "codex" / "sessions" / f"{session.at:%Y/%m/%d}" / name, _codex(session)
    else:
        place = re.sub(r"[^a-zA-Z0-9]", "-", session.cwd)
        target, records = folder / "claude" / "projects" / place / f"{session.id}.jsonl", _claude(session)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")
    return target


def _timed(session: Session) -> Iterator[tuple[str, str, Step]]:
    """Each step with its id and time."""
    at = session.at
    for number, step in enumerate(session.steps):
        at += _BEFORE_PROMPTS if isinstance(step, Prompt) else _BETWEEN_STEPS
        yield named(f"{session.name}/{number}"), f"{at:%Y-%m-%dT%H:%M:%S}.000Z", step


def _claude(session: Session) -> Iterator[dict[str, Any]]:
    parent = None
    for this, at, step in _timed(session):
        call = f"toolu_{this.replace('-', '')[:20]}"
        match step:
            case Prompt():
                said: list[tuple[str, Any]] = [("user", step.text)]
            case Reply():
                said = [("assistant", [{"type": "text", "text": step.text}])]
            case Command():
                output = f"Exit code 1\n{step.output}" if step.failed else step.output
                asked: dict[str, Any] = {"name": "Bash", "input": {"command": step.line}}
                result = {"content": output, "is_error": step.failed}
            case Edit():
                path = f"{session.cwd}/{step.path}"
                changes = {"file_path": path, "old_string": step.side("- "), "new_string": step.side("+ ")}
                written = {"file_path": path, "content": step.side("+ ")}
                asked = (
                    {"name": "Edit", "input": changes} if changes["old_string"] else {"name": "Write", "input": written}
                )
                result = {"content": f"The file {path} has been updated successfully."}
        if isinstance(step, Command | Edit):
            said = [
                ("assistant", [{"type": "tool_use", "id": call, **asked}]),
                ("user", [{"type": "tool_result", "tool_use_id": call, **result}]),
            ]
        for part, (kind, content) in enumerate(said):
            own = named(f"{this}/{part}")
            message: dict[str, Any] = {"role": kind, "content": content}
            if kind == "assistant":
                message |= {"id": f"msg_{this[:8]}", "type": "message", "model": "claude-sonnet-4-5"}
            yield {
                "parentUuid": parent,
                "isSidechain": False,
                "userType": "external",
                "cwd": session.cwd,
                "sessionId": session.id,
                "version": "2.1.214",
                "gitBranch": session.branch,
                "type": kind,
                "message": message,
                "uuid": own,
                "timestamp": at,
            }
            parent = own


def _codex(session: Session) -> Iterator[dict[str, Any]]:
    began = f"{session.at:%Y-%m-%dT%H:%M:%S}.000Z"
    about: dict[str, Any] = {"id": session.id, "timestamp": began, "cwd": session.cwd, "originator": "codex-tui"}
    about |= {"cli_version": "0.142.0", "source": "cli", "model_provider": "openai", "git": {"branch": session.branch}}
    yield {"timestamp": began, "type": "session_meta", "payload": about}
    for this, at, step in _timed(session):
        call = f"call_{this.replace('-', '')[:20]}"
        shown: dict[str, Any] | None = None
        match step:
            case Prompt():
                content = [{"type": "input_text", "text": step.text}]
                items: list[dict[str, Any]] = [{"type": "message", "role": "user", "content": content}]
                shown = {"type": "user_message", "message": step.text, "images": []}
            case Reply():
                content = [{"type": "output_text", "text": step.text}]
                items = [{"type": "message", "id": f"msg_{this[:12]}", "role": "assistant", "content": content}]
                shown = {"type": "agent_message", "message": step.text}
            case Command():
                arguments = json.dumps({"cmd": step.line, "workdir": session.cwd})
                output = f"Wall time: 1.2 seconds\nProcess exited with code {int(step.failed)}\nOutput:\n{step.output}"
                items = [
                    {"type": "function_call", "name": "exec_command", "arguments": arguments, "call_id": call},
                    {"type": "function_call_output", "call_id": call, "output": output},
                ]
            case Edit():
                is_new = all(line[0] == "+" for line in step.lines)
                head = f"*** Add File: {step.path}" if is_new else f"*** Update File: {step.path}\n@@"
                patch = "\n".join(("*** Begin Patch", head, *step.lines, "*** End Patch"))
                output = f"Exit code: 0\nWall time: 0.1 seconds\nOutput:\nSuccess. Updated the following files:\nM {step.path}\n"
                items = [
                    {"type": "custom_tool_call", "name": "apply_patch", "input": patch, "call_id": call},
                    {"type": "custom_tool_call_output", "call_id": call, "output": output},
                ]
        for item in items:
            yield {"timestamp": at, "type": "response_item", "payload": item}
        if shown is not None:
            yield {"timestamp": at, "type": "event_msg", "payload": shown}


# Suites ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Remembered:
    """A memory home that has read the sessions, with the environment it is asked in and the questions about it."""

    home: Home
    env: Mapping[str, str]
    asked: Sequence[questions.Asked]


def remembered(
    folder: Path, sessions: Iterable[Session], asked: Iterable[Mapping[str, Any]], *, with_model: bool
) -> Remembered:
    """Write sessions and questions below `folder` and read the sessions into `folder/lmm`."""
    home = Home(folder / "lmm").ensure()
    env = {"HOME": str(folder), "CLAUDE_CONFIG_DIR": str(folder / "claude"), "CODEX_HOME": str(folder / "codex")}
    settings = config.Settings()
    if with_model:
        embedder_fetch.install_bundled(home)
    else:
        env["LMM_EMBEDDER_NAME"] = "none"
        settings = replace(settings, embedder=config.Embedder(name="none"))
    for session in sessions:
        write(session, folder)
    suite = folder / QUESTIONS
    suite.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in asked), encoding="utf-8")
    service.run(home, env, settings, (), stay=False)
    service.run(home, env, settings, (), stay=False, derives=True)
    return Remembered(home, env, questions.read([suite]))


def measured(memory: Remembered, suite: str, label: str, names: Sequence[str] = ()) -> Iterator[runs.Run]:
    """Ask everything of each arm. `label`: of ARMS, which also says what is asked where `names` does not."""
    env = {**memory.env, **({"LMM_EMBEDDER_NAME": "none"} if label == BY_WORDS else {})}
    desk = Desk(memory.home, env)
    if (store := desk.store()) is None:
        raise RuntimeError("nothing was read")

    def scope_of(asked: questions.Asked) -> Any:
        desk.cwd = asked.project or ""
        return desk.scope(until=asked.asked_at)

    bench = arms.Bench(store, desk.ledger, desk.archive, desk.ready_embedder(), scope_of)
    with tool_caller(desk) as call:

        def recall(asked: questions.Asked) -> questions.Answered:
            desk.cwd = asked.project or ""
            found = call("recall", query=asked.question, budget_tokens=BUDGET_tokens, until=asked.asked_at)
            return questions.Answered(found["text"], tuple(found["sessions"]), found["status"] == "nothing_found")

        for arm in names or ARMS[label]:
            texts: dict[str, str] = {}

            def ask(asked: questions.Asked, arm: str = arm, texts: dict[str, str] = texts) -> questions.Answered:
                answered = recall(asked) if arm == "recall" else arms.ARMS[arm](bench, asked, BUDGET_tokens)
                texts[asked.id] = "" if answered.abstained else answered.text
                return answered

            rows = questions.run(memory.asked, ask)
            known = {asked.id: asked for asked in memory.asked}
            rows = [replace(row, figures={**row.figures, **_marked(known[row.id], texts[row.id])}) for row in rows]
            yield runs.Run(suite, f"{arm}, {label}", {"budget_tokens": BUDGET_tokens}, tuple(rows))


def _marked(asked: questions.Asked, text: str) -> dict[str, float]:
    """`marked`: what holds is told as if it held no more. Without this figure, marking everything would pay."""
    if asked.key is None or not asked.key.answers or BEFORE in asked.groups:
        return {}
    wanted = [judging.folded(alternative) for item in asked.key.answers for alternative in item]
    first = next((line for line in text.splitlines() if any(each in judging.folded(line) for each in wanted)), "")
    mark = _MARKED.match(first)
    # Where the value that is old is named, the rest of the line holds.
    is_all = mark is not None and (mark["old"] is None or any(each in judging.folded(mark["old"]) for each in wanted))
    return {"marked": float(is_all)}


def show(found: Iterable[runs.Run]) -> None:
    """Print a table, shares in percent: all questions of each arm, then each group of them."""
    print(f"{'':44}{'n':>4}" + "".join(f"{figure:>11}" for figure in FIGURES))
    for run in found:
        for group, means in runs.table(run.rows).items():
            name = run.arm if group == runs.EVERYTHING else f"  {group}"
            cells = [f"{100 * means[each].value:11.0f}" if each in means else f"{'':11}" for each in FIGURES]
            print(f"{name:44}{max(mean.num for mean in means.values()):>4}{''.join(cells)}", flush=True)


def interval(run: runs.Run, figure: str, group: str = runs.EVERYTHING) -> str:
    """One figure with its 95 % interval, in percent."""
    mean = runs.table(run.rows)[group][figure]
    return f"{100 * mean.value:.1f} ({100 * mean.low:.0f} to {100 * mean.high:.0f}, n {mean.num})"
