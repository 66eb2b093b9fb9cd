"""Whether recall tells what holds now where something else held before, and what of it would be shown as if it still held.

    python benchmarks/updates.py [--words] [--keep DIR] [--failures]

Invented sessions of eight projects over ten months, in which some seventy facts are told and changed later; they are read
with the real ingest walk into a temporary home and asked about by words alone and with MiniLM where its package is
installed. Nobody's sessions are read and nothing is downloaded. With `--keep DIR`, which must be empty or not there yet,
the home and the questions stay:

    LMM_HOME=DIR/lmm lmm bench questions DIR/questions.jsonl --results answers.jsonl --by

`stale` is the share of questions for which an old value stands unmarked before the one that holds, `marked` that of those
where the value that holds is marked as an old one. A kind of question is a row, and `before` wants the old value. The id of a
question begins with its project, so that what was fitted on some projects can be judged on the others.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import invented
from updates_questions import QUESTIONS

from lmm_mcp import embedder_fetch
from lmm_mcp.evaluation import runs

SESSIONS = Path(__file__).with_name("updates_sessions")
SUITE = "updates"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", action="store_true", help="by words alone only")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the memory home and the questions there")
    parser.add_argument("--failures", action="store_true", help="also print the questions that recall got wrong")
    arguments = parser.parse_args()
    if arguments.keep is not None and arguments.keep.is_dir() and any(arguments.keep.iterdir()):
        sys.exit(f"{arguments.keep} is not empty; name a folder that is not there yet.")
    labels = [invented.BY_WORDS]
    if not arguments.words:
        if embedder_fetch.bundle() is None:
            print("with MiniLM: skipped, the package with its weights is not installed")
        else:
            labels.append(invented.BY_MODEL)
    with _folder(arguments.keep) as folder:
        memory = invented.remembered(folder, sessions(), lines(), with_model=invented.BY_MODEL in labels)
        found = []
        for label in labels:
            for run in invented.measured(memory, SUITE, label):
                found.append(run)
                invented.show([run])
        for run in found:
            if run.arm.startswith("recall"):
                figures = ", ".join(
                    f"{f} {invented.interval(run, f, 'update')}" for f in ("cover@250", "cover@1000", "stale", "marked")
                )
                print(f"{run.arm}, update: {figures}")
                if arguments.failures:
                    tell_failures(run)
    return 0


def sessions() -> Sequence[invented.Session]:
    """All transcripts of the suite."""
    return [
        session
        for path in sorted(SESSIONS.glob("*.txt"))
        for session in invented.transcript(path.read_text(encoding="utf-8"))
    ]


def lines() -> Iterator[dict[str, Any]]:
    """The questions as `lmm bench questions` reads them, each asked from where the sessions of its project were held."""
    places = {session.name.rpartition("-")[0]: session.cwd for session in sessions()}
    numbers: Counter[str] = Counter()
    for question in QUESTIONS:
        numbers[question.project] += 1
        yield {
            "id": f"{question.project}-{numbers[question.project]:02}",
            "question": question.text,
            "project": places[question.project],
            "asked_at": question.asked_at,
            "category": question.category,
            "answers": [list(question.answers)],
            "gold": [{"session": invented.named(session)} for session in question.sessions],
            "stale": list(question.stale),
            **({"paraphrase": question.paraphrase} if question.category == "update" else {}),
        }


def tell_failures(run: runs.Run) -> None:
    texts = {line["id"]: line["question"] for line in lines()}
    wrong = {"cover@1000": 0.0, "stale": 1.0, "marked": 1.0}
    for row in run.rows:
        if faults := [figure for figure, value in wrong.items() if row.figures.get(figure) == value]:
            print(f"    {row.id} {row.groups[0]}: {texts[row.id]} ({', '.join(faults)})")


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
