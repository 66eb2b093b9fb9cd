"""Forgetting's reach into what was trained: weights are no longer served, texts leave runs and probe banks.

Called by `lmm_mcp.store.forgetting` before anything leaves the store, so that nothing unclean speaks a moment longer, and
again when it has left, so that who read the store meanwhile is caught too (see sources.py). It may be repeated at any point.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lmm_mcp.artifacts import durable, places
from lmm_mcp.artifacts.sources import Key, count_forgetting, mark, read_sources, read_unclean, write_unclean
from lmm_mcp.paths import Home

_KEPT_OF_RUN = frozenset({"plan.json", "state.json", "verdict.json", places.SOURCES, places.UNCLEAN})
"""Of an unclean run these stay as they are; they hold figures and hashes, no text. So `lmm train log` still knows of it."""
_TEXTS = ("lessons.jsonl", "probes.jsonl")
"""Of these the lines stay that have nothing to do with what is forgotten."""
_HALF_WRITTEN = ".*.jsonl.*.part"


def mark_unclean(home: Home, threads: Sequence[Key]) -> int:
    """Mark all that was trained on these (agent, thread id), and take their text out of runs and probes.

    How many memory models that concerns. Raises OSError where a mark cannot be written.
    """
    if not threads or not home.artifacts.is_dir():
        return 0
    wanted = frozenset(mark(*key) for key in threads)
    now_ms = time.time_ns() // 1_000_000
    with places.lock(home):
        count_forgetting(home, threads)
        num_models = _mark_versions(home, wanted, now_ms)
        for folder in _others(home):
            sources = read_sources(folder)
            if sources is not None and (found := sources.threads & wanted):
                write_unclean(folder, found, now_ms)
        for folder in _folders(places.runs_folder(home)):
            _reach_run(folder, wanted, now_ms)
        _finish_for_the_dead(home)
        for bank in sorted(places.probes_folder(home).glob("**/*.jsonl")):
            _drop_lines(bank, wanted)
        if places.study_file(home).exists():
            _drop_lines(places.study_file(home), wanted)
        if places.cards_folder(home).is_dir():  # all of them: they are written again while nobody asks
            durable.remove(places.cards_folder(home))
    return num_models


def sweep(home: Home) -> None:
    """Take out of unclean runs what a training that was still at it wrote there since. Raises OSError."""
    for folder in _folders(places.runs_folder(home)):
        if (unclean := read_unclean(folder)) is not None:
            _clean_run(folder, unclean.threads)


def is_unclean(folder: Path) -> bool:
    """Whether something was forgotten of what a run, base or model was made from. A run asks before every checkpoint."""
    return read_unclean(folder) is not None


def _finish_for_the_dead(home: Home) -> None:
    """Delete what somebody was deleting, or writing, when he died. All who write lines hold the lock, as the caller does."""
    for folder in (home.artifacts, places.versions_folder(home), places.runs_folder(home)):
        durable.sweep(folder)
    for lines in (home.artifacts.glob(_HALF_WRITTEN), places.probes_folder(home).rglob(_HALF_WRITTEN)):
        for path in lines:
            path.unlink(missing_ok=True)


def _mark_versions(home: Home, wanted: frozenset[str], now_ms: int) -> int:
    unclean_bases = set()
    for name in places.bases(home):
        folder = places.base_folder(home, name)
        sources = read_sources(folder)
        if sources is not None and (found := sources.threads & wanted):
            write_unclean(folder, found, now_ms)
            unclean_bases |= {name, str(folder)}
    num_concerned = 0
    for folder in _folders(places.versions_folder(home)):
        if folder.name.startswith("."):  # a draft: `commit` looks what was forgotten meanwhile
            continue
        sources = read_sources(folder)
        found = wanted if sources is None else sources.threads & wanted  # who cannot tell may have learned it
        told = durable.read_json(folder / places.MANIFEST)
        base = told.get("base") if isinstance(told, dict) else None
        if found or base in unclean_bases:
            write_unclean(folder, found, now_ms)
            num_concerned += 1
    return num_concerned


def _reach_run(folder: Path, wanted: frozenset[str], now_ms: int) -> None:
    sources = read_sources(folder)
    if sources is not None:
        found = (sources.threads | sources.shown) & wanted
    elif any(path.name not in _KEPT_OF_RUN for path in folder.iterdir()):
        found = wanted  # nobody knows what it read
    else:
        return
    if found:
        write_unclean(folder, found, now_ms)
        _clean_run(folder, found)


def _clean_run(folder: Path, forgotten: frozenset[str]) -> None:
    durable.sweep(folder)
    for path in sorted(folder.iterdir()):
        if path.name in _TEXTS:
            _drop_lines(path, forgotten)
        elif path.name not in _KEPT_OF_RUN:
            durable.remove(path)  # checkpoints have learned it, reports quote it


def _drop_lines(path: Path, forgotten: frozenset[str]) -> None:
    """Cut out the lines whose `threads` name what is forgotten, and those that tell nothing."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not _is_concerned(line, forgotten)]
    if len(kept) < len(lines):
        durable.write(path, b"".join(kept))


def _is_concerned(line: bytes, forgotten: frozenset[str]) -> bool:
    told = _record(line)
    if told is None:
        return True
    try:
        return any(mark(str(agent), str(thread_id)) in forgotten for agent, thread_id in told.get("threads", ()))
    except (TypeError, ValueError):
        return True


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _others(home: Home) -> Iterator[Path]:
    """Whatever else was fitted to the user's sessions and says so: a ranking, an embedder."""
    known = {each.name for each in (places.versions_folder(home), places.runs_folder(home), places.bases_folder(home))}
    yield from (path for path in _folders(home.artifacts) if path.name not in known)
    yield from _folders(home.models)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
