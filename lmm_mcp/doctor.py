"""Everything that can be wrong with an installation and its memory, each looked at by one function that says what to do.

Nothing is repaired here and nothing is written, but for what opening the ledger makes.
"""

import importlib.metadata
import importlib.util
import itertools
import os
import shutil
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmm_mcp import alarms, children, config, limits, restarts, training
from lmm_mcp.domain.quoting import plain
from lmm_mcp.domain.wording import EXTRA_TRAIN, counted, sized
from lmm_mcp.embedding import NoEmbedder, load_serving, look
from lmm_mcp.errors import ConfigError, LmmError
from lmm_mcp.integrations import program as programs
from lmm_mcp.integrations import registry
from lmm_mcp.model import standing
from lmm_mcp.paths import Home, home_of
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

Level = Literal["ok", "warn", "bad"]
OLDEST_PYTHON = (3, 11)
FEW_bytes = 1_000_000_000
TOO_FEW_bytes = 100_000_000
"""Free disk below which writing will fail soon: a commit and its compaction need room beside the old files."""
MANY_UNINDEXED_rows = 20_000
NUM_ARCHIVES_tried = 25
NUM_UNREADABLE_shown = 10
"""Of each kind; `lmm doctor --json` lists them all."""
UNREADABLE_KINDS = (
    (
        ("left aside",),
        "files that ended the process that read them",
        "Please report them. They are tried again when they change, with a newer version, and now and then.",
    ),
    (
        ("cannot be read", "cannot be listed"),
        "files that could not be opened",
        "Give this user the right to read them, then `lmm import`; to leave them out for good, exclude them (`lmm config`).",
    ),
    (
        ("no session file", "no such file"),
        "no session files",
        "Move them out of the agent's folder, or leave them: they are passed over.",
    ),
    (
        ("unknown", "not built as expected", "failed"),
        "of a kind that this version does not know",
        "A newer version of the agent may write them: see whether there is a newer LMM, else please report the kind.",
    ),
    (
        ("is longer than",),
        "too long to be a record",
        "Nothing to do: such a line is passed over.",
    ),
    (
        ("",),
        "damaged in the agent's own file",
        "Nothing to do: a line that was torn or overwritten cannot be mended. `lmm import` tries again once its file has changed.",
    ),
)
"""Words in what the reader said, what that is called, and the next step; the first that fits holds."""
STALE_REQUEST_s = 300.0
WINGS = ("ingest", "trainer", "prompts")
"""Our top-level packages with names so general that another distribution may bring one too."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found."""

    level: Level
    what: str
    """One sentence with the numbers."""
    next_step: str = ""
    """What to do about it, '' where nothing is to be done."""
    examples: tuple[str, ...] = ()
    """Everything it is about, one by one, where that is more than the sentence says."""


@dataclass(frozen=True, slots=True)
class Patient:
    """What the checks look at."""

    home: Home
    env: Mapping[str, str]


def examine(env: Mapping[str, str]) -> list[Finding]:
    """Make every check. One that fails itself is a finding too; what several find is said once."""
    patient = Patient(home_of(env), env)
    return list(dict.fromkeys(finding for check in CHECKS for finding in _checked(check, patient)))


def _checked(check: "Check", patient: Patient) -> Iterator[Finding]:
    try:
        yield from check(patient)
    except LmmError as problem:
        yield Finding("bad", str(problem))
    except Exception as problem:  # whatever is broken must not keep the other checks from being made
        subject = check.__name__.replace("_", " ")
        yield Finding(
            "bad", f"the check of {subject} failed: {type(problem).__name__}: {problem}", "Please report this."
        )


def python_version(_: Patient) -> Iterator[Finding]:
    """Python is new enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield Finding(
            "bad", f"Python {found} is too old.", "Install Python 3.11 or newer and set this program up again."
        )
    else:
        yield Finding("ok", f"Python {found}")


def memory_home(patient: Patient) -> Iterator[Finding]:
    """The home exists, is private, can be written, and its disk has room."""
    root = patient.home.root
    if not root.exists():
        yield Finding("warn", f"the memory home {root} does not exist yet.", "`lmm import` makes it.")
        return
    patient.home.ensure()
    mode = stat.S_IMODE(root.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        yield Finding("bad", f"{root} can be read by others (mode {mode:o}).", f"chmod 700 {root}")
    elif not os.access(root, os.W_OK | os.X_OK):
        yield Finding(
            "bad", f"{root} cannot be written by this user.", "Give this user the right, or set LMM_HOME elsewhere."
        )
    else:
        yield Finding("ok", f"memory home {root} (mode {mode:o})")
    free = shutil.disk_usage(root).free
    level: Level = "bad" if free < TOO_FEW_bytes else "warn" if free < FEW_bytes else "ok"
    advice = "" if level == "ok" else "Free some space, or set LMM_HOME to a folder on another disk."
    yield Finding(level, f"{free / 1e9:,.1f} GB are free on its disk", advice)


def settings(patient: Patient) -> Iterator[Finding]:
    """The settings can be read."""
    config.load(patient.home.config, patient.env)
    yield Finding(
        "ok",
        f"settings are fine ({patient.home.config}{'' if patient.home.config.exists() else ', not there: defaults'})",
    )


def ledger(patient: Patient) -> Iterator[Finding]:
    """The ledger opens and knows files."""
    if patient.home.ledger.exists():
        yield Finding("ok", f"ledger: {len(_ledger(patient).sources()):,} session files read so far")
    else:
        yield Finding("warn", "nothing has been imported yet.", "`lmm import`, or connect an agent: see `lmm start`.")


def store(patient: Patient) -> Iterator[Finding]:
    """The store opens, is of a version we know, can be read whole, holds what was read, and is well kept."""
    lacks = _lost_threads(patient)
    if (opened := _store(patient)) is None:
        if lacks:
            yield Finding(
                "bad",
                f"the store in {patient.home.store} is gone, and {counted(lacks, 'thread')} with it.",
                "`lmm import` makes it anew from the archive.",
            )
        return
    opened.check()
    stats = opened.stats()
    if lacks:
        yield Finding(
            "bad",
            f"the store lacks {counted(lacks, 'thread')} that the archive has.",
            f"Close the agents that use this memory, move {patient.home.store} away and run `lmm import`: it makes the store anew from the archive.",
        )
    yield Finding(
        "ok",
        f"store: {stats.num_chunks:,} passages, {sized(stats.disk_bytes)}, {counted(stats.num_fragments, 'fragment')}",
    )
    for alarm in alarms.of_store(stats, opened.trouble()):
        yield Finding("bad" if alarm.is_bad else "warn", f"{alarm.what}.", f"{alarm.next_step}.")
    if stats.num_unindexed > MANY_UNINDEXED_rows:
        yield Finding(
            "warn",
            f"{stats.num_unindexed:,} passages are not in the text index yet, which makes recall slow.",
            "`lmm import` brings them in.",
        )


def room(patient: Patient) -> Iterator[Finding]:
    """The memory takes no more disk, and reading no more memory, than they may."""
    if not patient.home.root.exists():
        return
    wanted = config.load(patient.home.config, patient.env).limits
    use = limits.disk_use(patient.home.root, wanted)
    of_disk = alarms.of_disk(patient.home.root, wanted, use)
    found = [*of_disk, *alarms.of_memory(restarts.known(patient.home), wanted)]
    for alarm in found:
        yield Finding("bad" if alarm.is_bad else "warn", f"{alarm.what}.", f"{alarm.next_step}.")
    if not of_disk:
        cap = f" of {wanted.disk_mb:,} MB that limits.disk_mb allows" if wanted.disk_mb else ""
        yield Finding("ok", f"the memory takes {sized(use.used_bytes)}{cap}")


def _lost_threads(patient: Patient) -> int:
    """How many threads of the ledger have nothing in the store, though something was cut of them."""
    said = children.progress(patient.home)
    if not patient.home.ledger.exists() or (said is not None and said.is_running and said.phase == "importing"):
        return 0  # what is being read is in the one before it is in the other
    opened = _store(patient)
    held = set() if opened is None else opened.threads()
    rows = _ledger(patient).threads()
    return sum(row.last_ms > 0 and (row.thread.agent, row.thread.thread_id) not in held for row in rows)


def archive(patient: Patient) -> Iterator[Finding]:
    """A sample of the archive can be read."""
    kept = Archive(patient.home.archive)
    sizes = kept.sizes()
    if not sizes:
        return
    damaged = []
    for _, thread in itertools.islice(kept.threads(), NUM_ARCHIVES_tried):
        try:
            kept.read(thread.agent, thread.thread_id)
        except LmmError as problem:
            damaged.append(str(problem))
    yield from (Finding("bad", problem) for problem in damaged)
    told = ", ".join(f"{agent} {size.num_threads:,} ({sized(size.num_bytes)})" for agent, size in sizes.items())
    if not damaged:
        yield Finding("ok", f"archive: {told}; a sample could be read")


def embedder(patient: Patient) -> Iterator[Finding]:
    """A model is there, and every passage has its vector, made by that model."""
    wanted = config.load(patient.home.config, patient.env).embedder
    opened = _store(patient)
    made_by = opened.embedder if opened is not None else None
    of = (made_by.name, made_by.version) if made_by else ("", "")
    model = load_serving(patient.home, wanted, *of, num_threads=1)
    if isinstance(model, NoEmbedder):
        is_wanted = wanted.name != "none"
        yield Finding(
            "warn" if is_wanted else "ok",
            f"recall goes by words only: {model.reason}.",
            model.next_step if is_wanted else "",
        )
        return
    yield Finding("ok", f"embedder {model.name}, {model.dim} dimensions")
    if opened is None:
        return
    if opened.next_embedder is not None:
        yield Finding(
            "ok",
            f"{opened.num_unembedded(of_next=True):,} passages are still to be embedded by {opened.next_embedder.name}, "
            "which serves when all are",
        )
    elif isinstance(lacks := look(patient.home, wanted), NoEmbedder):
        yield Finding("warn", f"the settings name another: {lacks.reason}.", lacks.next_step)
    if missing := opened.num_unembedded():
        yield Finding(
            "warn",
            f"{missing:,} passages have no vector yet: they are found by their words only.",
            "They follow while an agent runs, or with `lmm import`.",
        )
    else:
        yield Finding("ok", "every passage has its vector")


def memory_model(patient: Patient) -> Iterator[Finding]:
    """Which memory model serves, and what of training was left undone."""
    now = standing.look(patient.home)
    is_training = bool(now.stopped_at) and training.is_busy(patient.home)
    settings = config.load(patient.home.config, patient.env)
    wanted = settings.train.schedule
    gone = training.missing()
    if gone and wanted != "off":
        yield Finding(
            "warn",
            f"training is scheduled ({wanted}), and {', '.join(gone)} are not installed.",
            f"{EXTRA_TRAIN}; or `lmm train --schedule off`",
        )
    if not now.is_untouched:
        told = standing.told(now, is_training=is_training, wanted_sentences=settings.model.max_sentences)
        yield Finding("ok", f"memory model: {told}")
    if now.unclean and not now.serves:
        yield Finding(
            "warn",
            f"{', '.join(now.unclean)}: trained on something that was forgotten since, and no longer served.",
            "`lmm train` makes a clean one; recall goes on without.",
        )
    for name in now.torn:
        yield Finding("warn", f"the memory model {name} is damaged and is not served.", f"`lmm model show {name}`")
    if now.stopped_at and not is_training:
        yield Finding(
            "warn",
            f"a training stands before {now.stopped_at}.",
            "`lmm train resume` goes on, `lmm train --fresh` does not.",
        )


def unreadable(patient: Patient) -> Iterator[Finding]:
    """What could not be understood in session files."""
    if not patient.home.ledger.exists():
        return
    known = _ledger(patient)
    rows = known.unreadable()
    if not rows:
        yield Finding("ok", "everything in the session files could be understood")
        return
    agents = {path: source.agent for path in {row.path for row in rows} if (source := known.source(path)) is not None}
    counts = Counter(agents.get(row.path, "unknown agent") for row in rows)
    told = ", ".join(f"{agent} {count:,}" for agent, count in counts.most_common())
    yield Finding("warn", f"{counted(len(rows), 'record')} could not be understood ({told}); everything else was read")
    of_kind: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        kind = next(
            (name, step) for words, name, step in UNREADABLE_KINDS if any(word in row.problem for word in words)
        )
        place = plain(row.path).replace("\n", "?")  # a file may be called anything, over several lines too
        of_kind.setdefault(kind, []).append(f"{place}{f':{row.line}' if row.line else ''}: {row.problem}")
    for (name, step), examples in of_kind.items():
        yield Finding("warn", f"{len(examples):,} of them: {name}.", step, tuple(examples))


def reading(patient: Patient) -> Iterator[Finding]:
    """The ingest process is well, and nobody waits for one in vain."""
    said = children.progress(patient.home)
    if patient.home.paused.exists():
        yield Finding("warn", "reading is paused.", "`lmm resume`")
    if said is not None and said.error:
        yield Finding("bad", f"the ingest process stopped: {said.error}", f"See {patient.home.logs / 'ingest.log'}.")
    elif said is not None:
        is_idle = "nothing is being read now; the last ingest process ended well"
        yield Finding("ok", f"ingest process {said.pid}: {said.phase}" if said.is_running else is_idle)
    is_running = said is not None and said.is_running
    now_s = time.time()
    waiting = [path for path in patient.home.handover.glob("*.json") if now_s - path.stat().st_mtime > STALE_REQUEST_s]
    if waiting and not is_running:
        yield Finding(
            "warn", f"{len(waiting)} requests to read something wait, and no ingest process runs.", "`lmm import`"
        )


def agents(patient: Patient) -> Iterator[Finding]:
    """Whose sessions are there."""
    try:
        found = children.survey(patient.home, patient.env)
    except LmmError as problem:
        yield Finding("bad", f"sessions cannot be looked for: {problem}")
        return
    here = [each for each in found if each.num_sources and each.agent != "notes"]
    if here:
        told = ", ".join(f"{each.agent} ({each.num_sources:,})" for each in here)
        yield Finding("ok", f"sessions found: {told}; `lmm agents` says more")
    else:
        yield Finding(
            "warn",
            "no agent's sessions were found.",
            "`lmm agents --all` lists who is known; the setting sessions.folders names other places.",
        )
    for each in found:
        if each.problems:
            what = f"{counted(len(each.problems), 'place')} of {each.agent} cannot be listed."
            yield Finding("warn", what, "Give this user the right to read there.", each.problems)


def connections(patient: Patient) -> Iterator[Finding]:
    """Agents of this machine are connected, to this very program."""
    program = programs.installed(patient.env)
    for agent in registry.ALL:
        if not agent.folder(patient.env).is_dir():
            continue
        try:
            look = agent.look(patient.env, program)
        except ConfigError as problem:  # the next agent's may be whole
            yield Finding("bad", str(problem))
            continue
        told = f"{agent.title}: {look.told}."
        match look.state:
            case "connected":
                yield Finding("ok", f"{agent.title} is connected ({look.told})")
            case "stale" | "partly":
                yield Finding("bad", told, f"`lmm install {agent.name}`")
            case "foreign":
                yield Finding("warn", told, f"Rename that one, or replace it: `lmm install {agent.name} --force`.")
            case "absent":
                yield Finding("warn", f"{agent.title} is not connected.", f"`lmm install {agent.name}`")


def neighbours(_: Patient) -> Iterator[Finding]:
    """No other distribution brings packages of the same names, which would be run in place of ours."""
    house = Path(__file__).resolve().parent.parent
    owners = importlib.metadata.packages_distributions()
    foreign = [f"{name} ({other})" for name in WINGS for other in sorted({*owners.get(name, ())} - {"lmm-mcp"})]
    for name in WINGS:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or house not in Path(spec.origin).resolve().parents:
            where = "is missing" if spec is None else f"comes from {spec.origin}"
            yield Finding(
                "bad",
                f"the package `{name}` {where}, not from {house}.",
                "Install lmm-mcp in an environment of its own (uv tool, pipx).",
            )
    if foreign:
        yield Finding(
            "warn",
            f"other distributions bring packages of our names: {', '.join(foreign)}.",
            "Install lmm-mcp in an environment of its own (uv tool, pipx).",
        )


def lightness(_: Patient) -> Iterator[Finding]:
    """Answering needs no torch."""
    if "torch" in sys.modules:
        yield Finding("warn", "torch was loaded to get here, which makes every start slow.", "Please report this.")


Check = Callable[[Patient], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    python_version,
    memory_home,
    settings,
    ledger,
    store,
    room,
    archive,
    embedder,
    memory_model,
    unreadable,
    reading,
    agents,
    connections,
    neighbours,
    lightness,
)


def _ledger(patient: Patient) -> Ledger:
    return Ledger.open(patient.home.ledger)


def _store(patient: Patient) -> ChunkStore | None:
    return ChunkStore.open(patient.home.store) if ChunkStore.exists(patient.home.store) else None
