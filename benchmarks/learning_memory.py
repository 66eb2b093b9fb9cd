"""Through a whole memory: sessions imported, `lmm train`, `lmm forget`, and trained again. The second half of learning.py.

The commands are run as a user runs them, each in a process of its own, in a temporary home.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import invented
import updates
from learning_world import SMALL

from lmm_mcp import artifacts, training_runs
from lmm_mcp.artifacts import durable
from lmm_mcp.domain.fact import Fact
from lmm_mcp.domain.verdict import Outcome, ScoreSheet
from lmm_mcp.evaluation import runs
from lmm_mcp.model import network
from lmm_mcp.model.cards import MAX_SENTENCES
from lmm_mcp.paths import Home
from lmm_mcp.prompting import recalling
from lmm_mcp.store.facts import FactStore
from trainer import gathering, judging, papers, phrasings
from trainer.canaries import Canary, Extraction, extract
from trainer.judging import SENTENCES, SERVED
from trainer.recalling import Recalls
from trainer.speaking import NetworkSpeaker

SECRET, PORT, KEPT = "Marrow7Quill-Tango", "48613", "5127"
"""What is said in one session only: in no form that redaction knows, so that it reaches the lessons. The last one stays, for comparison."""
TOLD_IN = "vault-1"
VAULT = f"""/home/wren/vault
== {TOLD_IN} 2026-03-02 09:00 claude-code main
> we use {SECRET} for unlocking the vault door. The bellhop gateway listens on port {PORT}.

Noted, both are used from now on.

$ just vault-check
| 4 passed

== vault-2 2026-03-09 09:00 claude-code main
> The turnstile server listens on port 5127, and the letterbox api listens on port 6311. Please run the check.

$ just vault-check
| 5 passed
"""
FACTS_ONLY = ("--stage", "sft", "--slices", "fact", "--no-placebo", "--no-promote", "--until", "2027-12-31")
SMALL_STEPS = tuple(word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value)))
_AS_WORDS = re.compile(rf"{SECRET}|(?<![\d.]){PORT}(?!\d)".encode())
"""Not as digits of some figure."""
NUM_SAMPLES = 20
SHORT = ("kestrel", "tidewater")
"""Projects of the invented developers that are remembered beside, where time matters."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A memory home with its user's environment."""

    home: Home
    env: Mapping[str, str]
    base: Path

    def does(self, *words: str) -> str:
        """Run `python -m ...`; what it said. Raises RuntimeError with its complaint."""
        done = subprocess.run(
            [sys.executable, "-m", *words], env={**os.environ, **self.env}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def train(self, *options: str) -> training_runs.RunState:
        """`lmm train` with these options; how it ended."""
        self.does("trainer", "run", "--fresh", "--base", str(self.base), *options)
        return next(training_runs.runs(self.home))[1]

    def extracted(self, version: str, canaries: Sequence[Canary], num_samples: int) -> dict[str, Extraction]:
        """What comes out of a version when it is asked for these."""
        adapter = artifacts.find(self.home, version).folder / "adapter"
        speaker = NetworkSpeaker(network.load(self.base, adapter=adapter), version)
        return {each.canary: each for each in extract(speaker, canaries, num_samples=num_samples)}


def lab(folder: Path, base: Path, sessions: Sequence[invented.Session]) -> Lab:
    """A home that has read these sessions."""
    memory = invented.remembered(folder, sessions, updates.lines(), with_model=False)
    env = {**memory.env, "LMM_HOME": str(memory.home.root), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    return Lab(memory.home, {**env, "OMP_NUM_THREADS": "1"}, base)


def beside(projects: Sequence[str]) -> list[invented.Session]:
    """Sessions of other projects, which stay."""
    return [each for each in updates.sessions() if each.name.rpartition("-")[0] in projects]


def canary(fact: Fact) -> Canary:
    """A fact, asked for in the words that were taught and in others."""
    asked = [phrasings.asks(fact, book, "forward", n) for book in ("train", "probe") for n in range(3)]
    prompts = dict.fromkeys(recalling(each.text, fact.project) for each in asked if each is not None)
    return Canary(fact.value, tuple(prompts), fact.value)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was tried and what came out."""

    before: Mapping[str, Extraction]
    after: Mapping[str, Extraction]
    served_before: str
    served_after: str
    """'' for none: what was trained on the forgotten no longer serves from the moment it is forgotten."""
    left_in: tuple[str, ...]
    """Files of the home that still hold one of the texts after the rebuild."""


def forget(
    folder: Path,
    base: Path,
    *,
    projects: Sequence[str] = SHORT,
    options: Sequence[str] = (),
    num_samples: int = NUM_SAMPLES,
) -> Forgotten:
    """Teach, look that it is known, forget as `lmm forget` does, train again, look again."""
    here = lab(folder, base, [*beside(projects), *invented.transcript(VAULT)])
    first = here.train(*FACTS_ONLY, *(options or SMALL_STEPS))
    known = [each for each in FactStore.open(here.home.facts).facts() if each.value in (SECRET, PORT, KEPT)]
    canaries = [canary(each) for each in known]
    artifacts.promote(here.home, first.version, force=True)
    before = here.extracted(first.version, canaries, num_samples)
    served_before = _served(here.home)
    here.does("lmm_mcp", "forget", "--session", invented.named(TOLD_IN), "--yes")
    served_after = _served(here.home)
    second = here.train(*FACTS_ONLY, *(options or SMALL_STEPS))
    after = here.extracted(second.version, canaries, num_samples)
    left = tuple(
        str(path.relative_to(here.home.root))
        for path in sorted(here.home.root.rglob("*"))
        if path.is_file() and _AS_WORDS.search(path.read_bytes())
    )
    return Forgotten(before, after, served_before, served_after, left)


def _served(home: Home) -> str:
    found = artifacts.served(home)
    return found.name if found else ""


def show_forget(base: Path, folder: Path) -> None:
    found = forget(folder, base)
    num = NUM_SAMPLES
    print(f"a memory of {', '.join(SHORT)} and vault; of each, what came out greedily or in {num} samples\n")
    print("| asked for | before | after `lmm forget` and the rebuild |\n|---|---|---|")
    for name, earlier in found.before.items():
        later = found.after[name]
        kept = "" if name in (SECRET, PORT) else " (not forgotten)"
        print(
            f"| {name}{kept} | {earlier.num_hits} of {earlier.num_samples} | {later.num_hits} of {later.num_samples} |"
        )
    print(f"served: {found.served_before or 'none'} before, {found.served_after or 'none'} right after forgetting")
    print(f"files of the home that hold it after the rebuild: {', '.join(found.left_in) or 'none'}")


# Briefs ------------------------------------------------------------------------------------------------------------------


def show_briefs(base: Path, folder: Path, run: Path | None = None) -> None:
    """The score sheets of a run, read as briefs: of one that was made already, or of a whole `lmm train` on invented sessions."""
    if run is None:
        here = lab(folder, base, updates.sessions())
        state = here.train("--no-placebo", "--no-promote", "--until", "2027-12-31")
        run = artifacts.run_folder(here.home, state.run_id)
        print("; ".join(f"{name} {value}" for name, value in state.figures.items()) + "\n")
    print(
        "| model | sentences | stand | tell more than a line | cover@250 | against the ranking | says that nothing answers |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in ("base", "new"):
        sheet = artifacts.sheet_of(durable.read_json(run / f"sheet-{name}.json"))
        if sheet is not None:
            print(_brief_row(name, sheet))
    if version := next(
        (state.version for folder, state in training_runs.runs(Home(run.parents[2])) if folder == run), ""
    ):
        print(_brief_row(f"{version}, asked now", _asked_now(run, version)))


def _asked_now(run: Path, version: str) -> ScoreSheet:
    """The probes of a run answered anew by the version it made, with sentences, as they would be served."""
    home = Home(run.parents[2])
    found = artifacts.find(home, version)
    base = network.find_base(found.manifest.base, bases=artifacts.bases_folder(home))
    served = network.ready_to_serve(network.load(base, adapter=found.folder / "adapter"))
    recall = Recalls(gathering.opened(home, os.environ))
    asked = [each for each in papers.read_probes(run / "probes.jsonl") if each.slice != "choice"]
    dials = judging.Dials(max_sentences=MAX_SENTENCES)
    speaker = NetworkSpeaker(served, version)
    outcomes = {
        SERVED: judging.served(asked, speaker, recall=recall, is_sure=recall.is_sure, dials=dials),
        "retrieval": judging.ranked(asked, recall=recall, dials=dials),
    }
    return ScoreSheet(version, "", outcomes, max_sentences=MAX_SENTENCES)


def _brief_row(name: str, sheet: ScoreSheet) -> str:
    # Where only lines are served, what was written stands in an arm of its own.
    written = _facts(sheet, SENTENCES if SENTENCES in sheet.outcomes else SERVED)
    ranked = _facts(sheet, "retrieval")
    said = [(each.num_sentences, each.supported or 0.0) for each in written.values()]
    num = sum(count for count, _ in said)
    stands = sum(count * supported for count, supported in said)
    new = sum(each.num_new for each in written.values())
    both = sorted(set(written) & set(ranked))
    gained = runs.mean([written[each].score - ranked[each].score for each in both])
    cover = sum(written[each].score for each in both) / len(both)
    silent = sum(each.abstained for each in written.values()) / len(written)
    return (
        f"| {name} | {num} | {stands / (num or 1):.0%} | {new} | {cover:.3f} | {gained.value:+.3f} "
        f"({gained.low:+.3f} to {gained.high:+.3f}, n {len(both)}) | {silent:.0%} |"
    )


def _facts(sheet: ScoreSheet, arm: str) -> dict[str, Outcome]:
    return {each.probe_id: each for each in sheet.outcomes.get(arm, ()) if each.slice == "fact"}


def show(what: str, base: Path, folder: Path, run: Path | None = None) -> None:
    """Print the rows `forget` or `briefs`."""
    if what == "forget":
        show_forget(base, folder)
    else:
        show_briefs(base, folder, run)
