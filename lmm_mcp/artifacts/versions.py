"""Memory models: written whole, numbered, judged, served or not. Nothing here needs torch.

A version comes by `commit` (folder beside, on the disk, renamed) and serves by `promote` (one file replaced), so whatever
dies in between leaves the old world or the new one. What serves is asked of `served`: the current version unless it is
unclean or damaged, else the newest clean one among those that served before, else none: recall then goes on without.
"""

import dataclasses
import hashlib
import os
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lmm_mcp.artifacts import durable, places, records
from lmm_mcp.artifacts.places import ADAPTER, MANIFEST, SHEET, SOURCES, VERSION_NAME, lock, version_folder
from lmm_mcp.artifacts.records import FileMark, Manifest
from lmm_mcp.artifacts.sources import Sources, Unclean, forgotten_since, read_unclean, write_sources, write_unclean
from lmm_mcp.domain.verdict import Keep, ScoreSheet
from lmm_mcp.errors import ModelError
from lmm_mcp.paths import Home

NUM_KEPT = 5
_DRAFT = ".draft-"
_DRAFT_LASTS_s = 86_400
"""A draft of which nothing became in a day is nobody's any more."""
_NOT_MARKED = frozenset({MANIFEST, SOURCES, places.UNCLEAN})
"""Files of a version that may change, or are read another way."""


@dataclass(frozen=True, slots=True)
class Version:
    """One memory model on the disk."""

    name: str
    """`v0001`, ...: a number is given once."""
    folder: Path
    manifest: Manifest
    unclean: Unclean | None
    """Something that it, or its base, was trained on was forgotten: it is not served."""

    @property
    def adapter(self) -> Path:
        """Folder of its weights."""
        return self.folder / ADAPTER

    def sheet(self) -> ScoreSheet | None:
        """Its scores, without what it said; None where they cannot be read."""
        return records.sheet_of(durable.read_json(self.folder / SHEET))

    def judged_by(self) -> frozenset[str]:
        """Ids of the probes that it was asked without evidence when it was made; none where its scores cannot be read."""
        sheet = self.sheet()
        return frozenset(each.probe_id for each in sheet.outcomes.get("weights", ())) if sheet else frozenset()


@dataclass(frozen=True, slots=True)
class Torn:
    """A folder that should hold a memory model and does not. Never served; `lmm model list` shows it."""

    name: str
    folder: Path
    problem: str


def draft(home: Home) -> Path:
    """An empty folder for a version to come; its weights go into `adapter/` there. Not seen by anybody before `commit`."""
    path = durable.make_folder(places.versions_folder(home)) / f"{_DRAFT}{os.getpid()}-{secrets.token_hex(4)}"
    return durable.make_folder(path)


def commit(home: Home, folder: Path, manifest: Manifest, sheet: ScoreSheet | None, sources: Sources) -> Version:
    """Make a draft a version: all of it on the disk, then renamed. It does not serve yet.

    Raises ModelError where the draft has no weights, OSError where it cannot be written.
    """
    if not any(path.is_file() for path in (folder / ADAPTER).rglob("*")):
        raise ModelError(f"{folder / ADAPTER} holds no weights, so there is no memory model to keep. Train again.")
    write_sources(folder, sources)
    if sheet is not None:
        durable.write_json(folder / SHEET, records.sheet_told(sheet))
    durable.settle(folder)
    manifest = dataclasses.replace(manifest, files=_marks(folder))
    durable.write_json(folder / MANIFEST, records.manifest_told(manifest))
    with lock(home):
        if gone := forgotten_since(home, sources):  # while it was trained
            write_unclean(folder, gone, manifest.made_ms)
        name = f"v{_highest(home) + 1:04}"
        durable.publish(folder, version_folder(home, name))
        _drop_old(home)
    found = find(home, name)
    if isinstance(found, Torn):
        raise ModelError(f"{name} was written and cannot be read: {found.problem} Train again.")
    return found


def versions(home: Home) -> list[Version | Torn]:
    """All of them, oldest first."""
    folder = places.versions_folder(home)
    names = sorted(
        (path.name for path in folder.iterdir() if VERSION_NAME.fullmatch(path.name)) if folder.is_dir() else (),
        key=_number,
    )
    return [found for name in names if (found := _look(home, name)) is not None]


def find(home: Home, name: str) -> Version | Torn:
    """One of them. Raises BadInput for what is no name of one, ModelError where there is none of that name."""
    found = _look(home, version_folder(home, name).name)
    if found is None:
        raise ModelError(f"there is no version {name}; `lmm model list` names them.")
    return found


def current(home: Home) -> str | None:
    """The version that was promoted last, whether or not it may be served; None where none was."""
    return next(iter(_promoted(home)), None)


def served(home: Home) -> Version | None:
    """The version that answers now; None where recall goes on without one. Never raises, and costs a few file stats."""
    for name in _promoted(home):
        found = _look(home, name)
        if isinstance(found, Version) and found.unclean is None and damage(found) is None:
            return found
    return None


def promote(home: Home, name: str, *, force: bool = False) -> Version:
    """Let a version serve.

    Raises ModelError, with the reason, where it is damaged or unclean, or where the gate kept it out and `force` is not given.
    """
    with lock(home):
        found = find(home, name)
        if isinstance(found, Torn):
            raise ModelError(f"{name} is damaged: {found.problem} `lmm train` builds a new one.")
        if found.unclean is not None:
            raise ModelError(
                f"{name} was trained on something that is forgotten, so it does not serve again. `lmm train` builds a clean one."
            )
        if (problem := damage(found, thoroughly=True)) is not None:
            raise ModelError(f"{name} is damaged: {problem} `lmm train` builds a new one.")
        verdict = found.manifest.verdict
        if not force and (verdict is None or isinstance(verdict, Keep)):
            reasons = "\n".join(f"  {reason}" for reason in verdict.reasons) if isinstance(verdict, Keep) else ""
            why = f"the gate kept {name} out:\n{reasons}\n" if verdict else f"nobody has judged {name}. "
            raise ModelError(f"{why}To let it serve all the same: `lmm model promote {name} --force`.")
        _write_promoted(home, [name, *(each for each in _promoted(home) if each != name)])
        _drop_old(home, unclean_too=True)
    return found


def rollback(home: Home) -> Version | None:
    """Let the version serve that may and did before this one; None where there is none, and recall goes on without.

    Raises ModelError where no version serves.
    """
    with lock(home):
        if not (names := _promoted(home)):
            raise ModelError("no memory model serves, so there is nothing to take back.")
        now = served(home)
        left = names[names.index(now.name) + 1 if now is not None else 1 :]
        _write_promoted(home, left)
        return served(home)


def damage(version: Version, *, thoroughly: bool = False) -> str | None:
    """What is wrong with its files, in one sentence; None for nothing. thoroughly: whatever their times say, they are read."""
    for each in version.manifest.files:
        path = version.folder / each.path
        try:
            about = path.stat()
            if about.st_size != each.size:
                return f"{path} has {about.st_size:,} bytes, it had {each.size:,}."
            is_known = about.st_mtime_ns == each.mtime_ns
            if thoroughly or not is_known:  # a copy of the whole home has other times
                told = _sha256(path) if thoroughly else _sha256_once(path, about.st_size, about.st_mtime_ns)
                if told != each.sha256:
                    return f"{path} is not what was written there."
        except OSError as problem:
            return f"{path} cannot be read: {problem.strerror or problem}."
    return None


def verdict_name(version: Version) -> str:
    """`promote`, `keep`, or `unjudged`."""
    match version.manifest.verdict:
        case None:
            return "unjudged"
        case Keep():
            return "keep"
        case _:
            return "promote"


def _look(home: Home, name: str) -> Version | Torn | None:
    folder = places.versions_folder(home) / name
    if not folder.is_dir():
        return None
    try:
        manifest = records.manifest_of(durable.read_json(folder / MANIFEST))
        if any(Path(each.path).is_absolute() or ".." in Path(each.path).parts for each in manifest.files):
            raise ValueError("it names files that are not its own")
    except ValueError as problem:
        return Torn(name, folder, f"its {MANIFEST} cannot be understood ({problem}).")
    return Version(name, folder, manifest, read_unclean(folder) or _unclean_base(home, manifest.base))


def _unclean_base(home: Home, base: str) -> Unclean | None:
    """A base that the project made of the user's own text may be unclean itself."""
    folder = places.bases_folder(home) / Path(base).name
    return read_unclean(folder) if base in (folder.name, str(folder)) else None


def _promoted(home: Home) -> list[str]:
    try:
        names = places.current_file(home).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []
    return [name for name in names if VERSION_NAME.fullmatch(name)]


def _write_promoted(home: Home, names: list[str]) -> None:
    there = [name for name in names if (places.versions_folder(home) / name).is_dir()]
    durable.write(places.current_file(home), "".join(f"{name}\n" for name in there).encode())


def _drop_old(home: Home, *, unclean_too: bool = False) -> None:
    """Keep five: the current one, the newest, those that served, and then the youngest. The caller holds the lock.

    unclean_too: a clean one has taken their place, so that nobody needs them even as a sign of what was lost.
    """
    folder = places.versions_folder(home)
    durable.sweep(folder)
    for path in folder.glob(f"{_DRAFT}*"):
        if time.time() - path.stat().st_mtime > _DRAFT_LASTS_s:
            durable.remove(path)
    there = list(reversed(versions(home)))
    dirty = {each.name for each in there if unclean_too and isinstance(each, Version) and each.unclean is not None}
    newest_first = [each.name for each in there if each.name not in dirty]
    promoted = [name for name in _promoted(home) if name in newest_first]
    ranked = dict.fromkeys([*promoted[:1], *newest_first[:1], *promoted, *newest_first])
    for name in [*dirty, *list(ranked)[NUM_KEPT:]]:
        durable.remove(folder / name)


def _highest(home: Home) -> int:
    numbers = [_number(each.name) for each in versions(home)] + [_number(name) for name in _promoted(home)]
    return max(numbers, default=0)


def _number(name: str) -> int:
    return int(name[1:])


def _marks(folder: Path) -> tuple[FileMark, ...]:
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in _NOT_MARKED:
            about = path.stat()
            found.append(FileMark(name, about.st_size, about.st_mtime_ns, _sha256(path)))
    return tuple(found)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=64)
def _sha256_once(path: Path, _size: int, _mtime_ns: int) -> str:
    return _sha256(path)
