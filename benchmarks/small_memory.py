"""How many of the lines that a small memory tells have to do with the question.

    python benchmarks/small_memory.py [--words] [--without PART] [--show]

Some thirty short invented sessions of four projects are read with the real ingest walk into a temporary home, and 40 questions
are asked through the tool that serves agents: half are answered by one or two lines, a dozen by several lines of a
session, and eight by none. Two projects are there to choose by, the others to report.

`gold`: share of the needed items that are told. `fit`: share of the told lines that hold one or are of a session that does.
`lines` and `tokens` are means over what is answered; `quiet` is the share of the others that is rightly left unanswered.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import invented

from lmm_mcp import embedder_fetch
from lmm_mcp.domain.recall import PARTS, num_tokens
from lmm_mcp.evaluation import judging
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.inprocess import tool_caller

SESSIONS = Path(__file__).with_name("small_sessions")
ASKED_AT = "2026-09-01T09:00:00Z"
HALVES = {"to choose by": ("burrow", "loom"), "to report": ("ferryman", "papermill")}
FIGURES = ("gold", "fit", "lines", "tokens", "quiet")


@dataclass(frozen=True, slots=True)
class Question:
    """`session`: number of the one that answers within its project; 0: none does."""

    project: str
    session: int
    text: str
    needed: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return "none" if not self.session else "few lines" if len(self.needed) < 3 else "several lines"


@dataclass(frozen=True, slots=True)
class Told:
    """What was answered to a question."""

    question: Question
    lines: Sequence[tuple[str, str]]
    """Session id and text of each."""
    num_tokens: int

    @property
    def figures(self) -> Mapping[str, float]:
        if not self.question.session:
            return {"quiet": float(not self.lines)}
        there = judging.found([[each] for each in self.question.needed], "\n".join(text for _, text in self.lines))
        gold = invented.named(f"{self.question.project}-{self.question.session}")
        fits = [session == gold for session, _ in self.lines]
        found = {"gold": fmean(there), "lines": float(len(fits)), "tokens": float(self.num_tokens)}
        return found | ({"fit": fmean(fits)} if fits else {})


QUESTIONS = (
    Question("ferryman", 1, "Which port does the booking server listen on?", ("8617",)),
    Question("ferryman", 1, "How do I keep mails from really going out when I try something locally?", ("MAIL_SINK=1",)),
    Question("ferryman", 4, "Where is the switch between summer and winter timetable?", ("config/seasons.toml",)),
    Question("ferryman", 6, "How long does a seat reservation count?", ("12 minutes",)),
    Question("ferryman", 7, "Who may deploy to production?", ("Mirela",)),
    Question("ferryman", 5, "CI says x509: certificate signed by unknown authority, what was it?", ("CA bundle", "ca-certificates", "ci/Dockerfile")),
    Question("ferryman", 3, "Why was the timetable page slow and how much did the change give?", ("asks the database for its quay", "look them up in a map", "37 ms")),
    Question("ferryman", 6, "Why is there no worker that deletes old reservations, and what is there instead?", ("could be down", "live_reservations", "ignore them in the queries")),
    Question("ferryman", 0, "Which tile server do the maps of the harbour come from?"),
    Question("ferryman", 0, "What did we decide about gift vouchers?"),
    Question("papermill", 1, "How do I install the development environment?", ("uv sync --group dev",)),
    Question("papermill", 6, "What command makes the search index anew?", ("papermill index --rebuild",)),
    Question("papermill", 4, "In which bucket are the scans?", ("papermill-scans",)),
    Question("papermill", 8, "How many days do we keep the log of who looked at what?", ("7 days",)),
    Question("papermill", 7, "Which algorithm finds Easter?", ("Gauss",)),
    Question("papermill", 5, "Why did we take Cologne phonetics for names and not Soundex?", ("187", "151", "200 names")),
    Question("papermill", 2, "What was done about old prints being read wrongly?", ("frk", "long s", "before 1941")),
    Question("papermill", 3, "The nightly scan ran out of memory, what was the reason and what changed?", ("Box 114 holds maps", "100 megapixels", "tiles of 4,096")),
    Question("papermill", 0, "How are users authenticated in the reading room?"),
    Question("papermill", 0, "What is the price of a subscription?"),
    Question("loom", 1, "On which port does the pattern editor run in development?", ("5188",)),
    Question("loom", 2, "How many undo steps are kept?", ("200",)),
    Question("loom", 8, "Which command tells me that a translation is missing?", ("i18n:check",)),
    Question("loom", 8, "What is the Finnish word for heddle in the editor?", ('niisi"',)),
    Question("loom", 6, "How do I put a new version online?", ("publish.sh",)),
    Question("loom", 3, "Why were the browser tests unreliable and what ended it?", ("drawn after the font", "public/fonts", "no run of 25")),
    Question("loom", 4, "What do I have to know of the WIF export?", ("src/export/wif.ts", "COLOR TABLE", "0 to 999")),
    Question("loom", 5, "Why Zustand rather than Redux or Jotai?", ("outside of React", "too much ceremony", "Zustand it is")),
    Question("loom", 0, "How is the billing of teams done?"),
    Question("loom", 0, "Which analytics service do we send events to?"),
    Question("burrow", 1, "How large is the release binary now?", ("5.1M",)),
    Question("burrow", 2, "Which hash names the chunks?", ("BLAKE3",)),
    Question("burrow", 5, "How do I lint before I commit?", ("cargo clippy --all-targets",)),
    Question("burrow", 6, "How many weekly snapshots survive pruning?", ("8 weekly",)),
    Question("burrow", 8, "What are releases signed with?", ("minisign",)),
    Question("burrow", 4, "How is the repository encrypted, and what happens when the passphrase changes?", ("XChaCha20", "Argon2id", "master key")),
    Question("burrow", 3, "Restore failed with too many open files, why and how was it mended?", ("stayed open", "LRU", "64 open files")),
    Question("burrow", 7, "What does the backup do with files that another program holds locked?", ("is skipped", "exit code is 3", "VSS")),
    Question("burrow", 0, "Which cloud providers can it upload to?"),
    Question("burrow", 0, "Why is the web dashboard written in Svelte?"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", action="store_true", help="by words alone only")
    parser.add_argument("--without", action="append", choices=PARTS, default=[], help="a part of recall to leave out")
    parser.add_argument("--show", action="store_true", help="also print every question with what was told")
    arguments = parser.parse_args()
    with_model = not arguments.words and embedder_fetch.bundle() is not None
    if not with_model and not arguments.words:
        print("with MiniLM: skipped, the package with its weights is not installed")
    with tempfile.TemporaryDirectory() as folder:
        memory = invented.remembered(Path(folder), sessions(), lines(), with_model=with_model)
        for label in (invented.BY_WORDS, invented.BY_MODEL) if with_model else (invented.BY_WORDS,):
            told = list(asked(memory, label, QUESTIONS, arguments.without))
            if arguments.show:
                show(told)
            print(f"{label:32}{'n':>4}" + "".join(f"{figure:>8}" for figure in FIGURES))
            for name, figures in table(told).items():
                cells = (f"{figures[each]:8.1f}" if each in figures else f"{'':8}" for each in FIGURES)
                print(f"  {name:30}{figures['n']:4.0f}" + "".join(cells))


def sessions() -> Sequence[invented.Session]:
    """All transcripts."""
    files = sorted(SESSIONS.glob("*.txt"))
    return [each for file in files for each in invented.transcript(file.read_text(encoding="utf-8"))]


def lines() -> Iterator[dict[str, Any]]:
    """The questions as `lmm bench questions` reads them."""
    places = {session.name.rpartition("-")[0]: session.cwd for session in sessions()}
    for number, each in enumerate(QUESTIONS, 1):
        yield {
            "id": f"{each.project}-{number:02}",
            "question": each.text,
            "project": places[each.project],
            "asked_at": ASKED_AT,
            "category": each.kind,
            "answers": [[item] for item in each.needed],
            "gold": [{"session": invented.named(f"{each.project}-{each.session}")}] * bool(each.session),
        }


def asked(
    memory: invented.Remembered, label: str, questions: Sequence[Question], without: Sequence[str] = ()
) -> Iterator[Told]:
    """Ask from where the sessions of each project were held. `label`: of `invented.ARMS`."""
    env = {**memory.env, **({"LMM_EMBEDDER_NAME": "none"} if label == invented.BY_WORDS else {})}
    desk = Desk(memory.home, {**env, "LMM_RECALL_WITHOUT": ",".join(without)})
    places = {session.name.rpartition("-")[0]: session.cwd for session in sessions()}
    with tool_caller(desk) as call:
        for question in questions:
            desk.cwd = places[question.project]
            found = call("recall", query=question.text, until=ASKED_AT)
            yield Told(question, tuple(_lines(found)), num_tokens(found["text"]))


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    session_of = {each["mark"]: each["session"] for each in found["citations"]}
    for line in found["text"].splitlines():
        mark, is_line, text = line.removeprefix("[").partition("] ")
        if line.startswith("[c") and is_line:
            yield session_of[mark], text


def table(told: Sequence[Told]) -> dict[str, dict[str, float]]:
    """Means of all, of each kind of question and of each half of the projects; shares in percent."""
    groups = {"all": list(told)}
    groups |= {kind: [each for each in told if each.question.kind == kind] for kind in ("few lines", "several lines")}
    groups |= {name: [each for each in told if each.question.project in of] for name, of in HALVES.items()}
    rows = {}
    for name, of in groups.items():
        figures = {figure: [each.figures[figure] for each in of if figure in each.figures] for figure in FIGURES}
        scale = {figure: 1 if figure in ("lines", "tokens") else 100 for figure in FIGURES}
        rows[name] = {"n": float(len(of))} | {each: scale[each] * fmean(of) for each, of in figures.items() if of}
    return rows


def show(told: Sequence[Told]) -> None:
    for each in told:
        print(f"\n{each.question.text}  {list(each.question.needed)}")
        gold = invented.named(f"{each.question.project}-{each.question.session}")
        for session, text in each.lines:
            print(f"  {'+' if session == gold else '-'} {text}")


if __name__ == "__main__":
    main()
