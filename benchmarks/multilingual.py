"""How well recall works in Chinese and in mixed language, beside the same sessions and questions in English.

    python benchmarks/multilingual.py [--words] [--failures]

Writes the invented sessions of `multilingual_sessions.py` and `multilingual_later_sessions.py` as Claude Code writes its
own, once in each language, reads them with the real ingest walk into temporary homes, and asks through the tool that serves
agents: by words alone, and with MiniLM where its bundled package is installed. Quick; nothing is downloaded, nobody's
sessions are read.
"""

import argparse
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import invented
from multilingual_later_sessions import LATER_SESSIONS
from multilingual_questions import QUESTIONS, UNANSWERABLE
from multilingual_sessions import SESSIONS, Ran

from lmm_mcp import embedder_fetch
from lmm_mcp.evaluation import runs

PROJECT = "/home/lin/mingshan"
ASKED_AT = "2026-06-01T09:00:00Z"
LANGUAGES = {"zh": "Chinese and mixed", "en": "English"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", action="store_true", help="by words alone only")
    parser.add_argument("--failures", action="store_true", help="also print the questions of which items were missed")
    arguments = parser.parse_args()
    with_model = not arguments.words and embedder_fetch.bundle() is not None
    if not with_model and not arguments.words:
        print("with MiniLM: skipped, the package with its weights is not installed")
    labels = (invented.BY_WORDS, invented.BY_MODEL) if with_model else (invented.BY_WORDS,)
    with tempfile.TemporaryDirectory() as folder:
        for language, name in LANGUAGES.items():
            memory = invented.remembered(
                Path(folder) / language, sessions(language), lines(language), with_model=with_model
            )
            for label in labels:
                print(f"\n{name}, {label}")
                for run in invented.measured(memory, "multilingual", label):
                    invented.show([run])
                    if run.arm.startswith("recall"):
                        print(f"cover@1000 {invented.interval(run, 'cover@1000')}")
                        if arguments.failures:
                            tell_failures(run, language)


def sessions(language: str) -> Iterator[invented.Session]:
    """All sessions in one language."""
    for session in (*SESSIONS, *LATER_SESSIONS):
        steps: list[invented.Step] = []
        for exchange in session.exchanges:
            steps.append(invented.Prompt(getattr(exchange.prompt, language)))
            steps.extend(
                invented.Command(step.command, step.output, step.failed)
                if isinstance(step, Ran)
                else invented.Reply(getattr(step, language))
                for step in exchange.steps
            )
        at = datetime.fromisoformat(f"{session.day}T09:00:00Z")
        yield invented.Session(name_of(session.name, language), PROJECT, at, tuple(steps))


def lines(language: str) -> Iterator[dict[str, Any]]:
    """The questions in one language, as `lmm bench questions` reads them."""
    for number, question in enumerate(QUESTIONS, 1):
        kind = "mixed" if question.is_mixed else "Chinese alone"
        yield {
            "id": f"{language}-{number:02}",
            "question": getattr(question.text, language),
            "project": PROJECT,
            "asked_at": ASKED_AT,
            "category": kind if language == "zh" else None,
            "answers": [list(item) for item in question.needed],
            "gold": [{"session": invented.named(name_of(question.session, language))}],
            "paraphrase": question.paraphrase,
        }
    for number, unanswerable in enumerate(UNANSWERABLE, 1):
        yield {
            "id": f"{language}-none-{number:02}",
            "question": getattr(unanswerable, language),
            "project": PROJECT,
            "asked_at": ASKED_AT,
            "category": "unanswerable",
            "answers": [],
        }


def name_of(session: str, language: str) -> str:
    return f"mingshan/{language}/{session}"


def tell_failures(run: runs.Run, language: str) -> None:
    asked = {str(line["id"]): line for line in lines(language)}
    for row in run.rows:
        if row.figures.get("cover@1000", 1.0) < 1:
            print(f"    missed: {asked[row.id]['question']} -> {asked[row.id]['answers']}")


if __name__ == "__main__":
    main()
