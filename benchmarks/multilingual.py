"""How well recall works in Chinese and in mixed language, beside the same sessions and questions in English.

    python benchmarks/multilingual.py [--failures]

Writes the invented sessions of `multilingual_sessions.py` as Claude Code writes its own, once in each language, reads them
with the real ingest walk into temporary homes, and asks through the desk that serves agents: by words alone, and with
MiniLM where its bundled package is installed. Quick; nothing is downloaded, nobody's sessions are read.
"""

import argparse
import json
import statistics
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multilingual_questions import QUESTIONS, UNANSWERABLE, Asked
from multilingual_sessions import SESSIONS, Ran, Said, Session

from ingest import service
from lmm_mcp import config, embedder_fetch
from lmm_mcp.domain.recall import CHARS_PER_TOKEN, Brief, NothingFound
from lmm_mcp.paths import Home
from lmm_mcp.server.desk import Desk

PROJECT = "/home/lin/mingshan"
BUDGETS_tokens = (250, 1000)
LANGUAGES = {"zh": "Chinese and mixed", "en": "English"}


@dataclass(frozen=True, slots=True)
class Score:
    """How one question was answered; shares from 0 to 1."""

    asked: Asked
    cover: tuple[float, ...]
    """For each of BUDGETS_tokens."""
    hit_1: bool
    hit_5: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failures", action="store_true", help="also print the questions of which items were missed")
    arguments = parser.parse_args()
    print(f"{'':44}{'n':>4}{'cover@250':>11}{'cover@1000':>12}{'hit@1':>7}{'hit@5':>7}{'quiet':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for language, name in LANGUAGES.items():
            home, env = remembered(Path(folder) / language, language)
            for label, settings in (("by words alone", {"LMM_EMBEDDER_NAME": "none"}), ("with MiniLM", {})):
                if not settings and embedder_fetch.bundle() is None:
                    print(f"{name}, {label}: skipped, the package with MiniLM's weights is not installed")
                    continue
                desk = Desk(home, env | settings, cwd=PROJECT)
                scores = ask(desk, language)
                show(f"{name}, {label}", scores, quiet(desk, language))
                if language == "zh":
                    show("  Chinese alone", [score for score in scores if not score.asked.is_mixed])
                    show("  mixed", [score for score in scores if score.asked.is_mixed])
                show("  paraphrased", [score for score in scores if score.asked.paraphrase])
                for score in scores:
                    if arguments.failures and score.cover[-1] < 1:
                        print(f"    missed: {getattr(score.asked.text, language)} -> {score.asked.needed}")


def remembered(folder: Path, language: str) -> tuple[Home, dict[str, str]]:
    """A memory of all sessions in one language, embedded where that is possible, and the environment it is asked in."""
    home = Home(folder / "lmm").ensure()
    env = {"HOME": str(folder), "CLAUDE_CONFIG_DIR": str(folder / "claude"), "CODEX_HOME": str(folder / "codex")}
    if embedder_fetch.bundle() is not None:
        embedder_fetch.install_bundled(home)
    for session in SESSIONS:
        target = folder / "claude" / "projects" / "-home-lin-mingshan" / f"{session_id(session.name, language)}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records(session, language))
    service.run(home, env, config.Settings(), (), stay=False)
    return home, env


def records(session: Session, language: str) -> Iterator[dict[str, Any]]:
    """The lines of one session as Claude Code writes them."""
    parent = None
    for number, (kind, content) in enumerate(messages(session, language)):
        this = session_id(f"{session.name}/{number}", language)
        message: dict[str, Any] = {"role": kind, "content": content}
        if kind == "assistant":
            message |= {"id": f"msg_{this[:8]}", "type": "message", "model": "claude-sonnet-4-5"}
        yield {
            "parentUuid": parent,
            "isSidechain": False,
            "userType": "external",
            "cwd": PROJECT,
            "sessionId": session_id(session.name, language),
            "version": "2.1.214",
            "gitBranch": "main",
            "type": kind,
            "message": message,
            "uuid": this,
            "timestamp": f"{session.day}T09:{number:02}:00.000Z",
        }
        parent = this


def messages(session: Session, language: str) -> Iterator[tuple[str, Any]]:
    for exchange in session.exchanges:
        yield "user", getattr(exchange.prompt, language)
        for number, step in enumerate(exchange.steps):
            match step:
                case Said():
                    yield "assistant", [{"type": "text", "text": getattr(step, language)}]
                case Ran():
                    call = f"toolu_{uuid.uuid5(uuid.NAMESPACE_OID, f'{session.name}{step.command}{number}{language}').hex[:20]}"
                    yield (
                        "assistant",
                        [{"type": "tool_use", "id": call, "name": "Bash", "input": {"command": step.command}}],
                    )
                    output = f"Exit code 1\n{step.output}" if step.failed else step.output
                    yield (
                        "user",
                        [{"type": "tool_result", "tool_use_id": call, "content": output, "is_error": step.failed}],
                    )


def ask(desk: Desk, language: str) -> list[Score]:
    """Ask every question with the largest budget; smaller ones see the beginning of the same brief."""
    scores = []
    for asked in QUESTIONS:
        found = desk.recall(getattr(asked.text, language), budget_tokens=BUDGETS_tokens[-1])
        text, sessions = (found.text, found.sessions) if isinstance(found, Brief) else ("", ())
        gold = session_id(asked.session, language)
        scores.append(
            Score(
                asked,
                tuple(cover(asked.needed, text[: budget * CHARS_PER_TOKEN]) for budget in BUDGETS_tokens),
                gold in sessions[:1],
                gold in sessions[:5],
            )
        )
    return scores


def cover(needed: Sequence[Sequence[str]], text: str) -> float:
    """Share of the needed items that stand in `text`, letter case and white space aside."""
    folded = " ".join(text.split()).lower()
    return statistics.mean(any(one.lower() in folded for one in alternatives) for alternatives in needed)


def quiet(desk: Desk, language: str) -> str:
    """Of the questions that nothing can answer, how many got no brief."""
    found = [desk.recall(getattr(question, language)) for question in UNANSWERABLE]
    return f"{sum(isinstance(one, NothingFound) for one in found)}/{len(found)}"


def show(label: str, scores: Sequence[Score], silence: str = "") -> None:
    at_250, at_1000 = (100 * statistics.mean(score.cover[n] for score in scores) for n in range(len(BUDGETS_tokens)))
    hit_1, hit_5 = (100 * statistics.mean(hits) for hits in ([s.hit_1 for s in scores], [s.hit_5 for s in scores]))
    print(f"{label:44}{len(scores):>4}{at_250:>11.0f}{at_1000:>12.0f}{hit_1:>7.0f}{hit_5:>7.0f}{silence:>7}")


def session_id(name: str, language: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"mingshan/{language}/{name}"))


if __name__ == "__main__":
    main()
