"""What a trained thing was made from, and what of that was forgotten. Threads stand here as hashes only.

A model is read out of the memory over minutes, and something may be forgotten meanwhile. So every forgetting has a number:
who is about to read takes the last one (`forgettings`) first, and what was forgotten under a later one makes what he
builds unclean, although nobody could mark it yet.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmm_mcp.artifacts import durable, places
from lmm_mcp.paths import Home

Key = tuple[str, str]
"""Agent and thread id."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What something was made from."""

    threads: frozenset[str]
    """Marks of threads, see `mark`."""
    chunks: tuple[str, ...]
    as_of: int
    """The number of the last forgetting when the memory was read, from `forgettings`."""
    shown: frozenset[str] = frozenset()
    """Marks of threads that taught it nothing and of which something lies beside it: what models were shown when it was judged."""

    @classmethod
    def of(cls, threads: Iterable[Key], chunks: Iterable[str], *, as_of: int) -> "Sources":
        """Of these (agent, thread id) and chunk ids."""
        return cls(frozenset(mark(*key) for key in threads), tuple(dict.fromkeys(chunks)), as_of)

    def showing(self, threads: Iterable[Key]) -> "Sources":
        """The same, with words of these (agent, thread id) lying beside it and of no others."""
        return replace(self, shown=frozenset(mark(*key) for key in threads))


@dataclass(frozen=True, slots=True)
class Unclean:
    """What stands in `unclean.json`: something of its sources was forgotten."""

    at_ms: int
    """When, UTC; 0 unknown."""
    threads: frozenset[str]
    """Marks of the threads concerned; none where the mark itself cannot be read."""


def mark(agent: str, thread_id: str) -> str:
    """A thread's hash, 16 hexadecimal digits: it tells whether a thread is meant, and not which."""
    name = f"{agent}\x1f{thread_id}"
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def forgettings(home: Home) -> int:
    """The number of the last forgetting. Whoever trains asks before opening the store, and tells it as `Sources.as_of`."""
    durable.make_folder(home.artifacts)  # from now on forgettings are counted
    return _read_forgotten(home)[0]


def count_forgetting(home: Home, threads: Iterable[Key]) -> None:
    """Give these threads the number of a new forgetting. The caller holds the lock."""
    number, marks = _read_forgotten(home)
    told = {**marks, **{mark(*key): number + 1 for key in threads}}
    durable.write_json(places.forgotten_file(home), {"number": number + 1, "threads": told})


def forgotten_since(home: Home, sources: Sources) -> frozenset[str]:
    """The marks of these sources of which something was forgotten after they were read."""
    marks = _read_forgotten(home)[1]
    return frozenset(each for each in sources.threads if marks.get(each, 0) > sources.as_of)


def write_sources(folder: Path, sources: Sources) -> None:
    """Tell what the content of `folder` is made from. To be written before the content is."""
    told: dict[str, Any] = {"as_of": sources.as_of, "threads": sorted(sources.threads), "chunks": list(sources.chunks)}
    if sources.shown:
        told["shown"] = sorted(sources.shown)
    durable.write_json(folder / places.SOURCES, told)


def read_sources(folder: Path) -> Sources | None:
    """What the content of `folder` is made from; None where nothing tells."""
    told = durable.read_json(folder / places.SOURCES)
    try:
        return Sources(
            frozenset(map(str, told["threads"])),
            tuple(map(str, told["chunks"])),
            int(told["as_of"]),
            frozenset(map(str, told.get("shown", ()))),
        )
    except (TypeError, KeyError, ValueError):
        return None


def write_unclean(folder: Path, threads: Iterable[str], at_ms: int) -> bool:
    """Mark `folder`; whether it was clean before."""
    known = read_unclean(folder)
    marks = frozenset(threads) | (known.threads if known else frozenset())
    if known is None or marks != known.threads:
        told = {"at_ms": at_ms, "num_sources": len(marks), "threads": sorted(marks)}
        durable.write_json(folder / places.UNCLEAN, told)
    return known is None


def read_unclean(folder: Path) -> Unclean | None:
    """Whether something of the sources of `folder` was forgotten; None for clean. A mark that is torn counts, too."""
    if not (folder / places.UNCLEAN).exists():
        return None
    told = durable.read_json(folder / places.UNCLEAN)
    try:
        return Unclean(int(told["at_ms"]), frozenset(map(str, told["threads"])))
    except (TypeError, KeyError, ValueError):
        return Unclean(0, frozenset())


def _read_forgotten(home: Home) -> tuple[int, Mapping[str, int]]:
    told: Any = durable.read_json(places.forgotten_file(home))
    try:
        return int(told["number"]), {str(name): int(number) for name, number in told["threads"].items()}
    except (TypeError, KeyError, ValueError, AttributeError):
        return 0, {}
