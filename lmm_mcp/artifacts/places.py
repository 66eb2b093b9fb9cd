"""Where trained things lie below `LMM_HOME/artifacts`. Whoever needs such a path takes it from here.

    versions/v0001/   one memory model: manifest.json, adapter/, sheet.json, sources.json
    current           the versions that serve or served, the one that serves first
    bases/NAME/       a base model that the project made
    runs/RUN_ID/      one training run: recipe, lessons, probes, checkpoints, metrics, report, verdict
    probes/           the bank of frozen probes
    placebos/         models trained on invented lessons, which candidates are compared with
    study.jsonl       what a model on this machine wrote about facts, for lessons
    cards/            what the memory model wrote while nobody asked, a file for each project
    forgetting.json   how well each version knew what was learned in which week
    forgotten.json    hashes of threads that something was forgotten of
    ranking/          how lines are ordered: ranking.json, sources.json

A folder with a `sources.json` tells what it was made from, and is marked by `unclean.json` when some of that is forgotten.
"""

import re
from pathlib import Path

from filelock import FileLock

from lmm_mcp.artifacts import durable
from lmm_mcp.errors import BadInput
from lmm_mcp.paths import Home

MANIFEST = "manifest.json"
ADAPTER = "adapter"
SHEET = "sheet.json"
SOURCES = "sources.json"
UNCLEAN = "unclean.json"
VERSION_NAME = re.compile(r"v\d{4,}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def versions_folder(home: Home) -> Path:
    """All memory models."""
    return home.artifacts / "versions"


def version_folder(home: Home, name: str) -> Path:
    """One memory model's. Raises BadInput where `name` is no name of a version."""
    if not VERSION_NAME.fullmatch(name):
        raise BadInput(f"{name!r} is no version of a memory model; `lmm model list` names them.")
    return versions_folder(home) / name


def current_file(home: Home) -> Path:
    """Names the version that serves, and below it those that served before."""
    return home.artifacts / "current"


def bases_folder(home: Home) -> Path:
    """Base models that the project made."""
    return home.artifacts / "bases"


def base_folder(home: Home, name: str) -> Path:
    """Of one base model. Raises BadInput for a name that cannot be a folder's."""
    return bases_folder(home) / _checked(name)


def ranking_folder(home: Home) -> Path:
    """What orders the lines of a brief, and whether it was found to be of use."""
    return home.artifacts / "ranking"


def runs_folder(home: Home) -> Path:
    """All training runs."""
    return home.artifacts / "runs"


def run_folder(home: Home, run_id: str) -> Path:
    """Of one training run. Raises BadInput for an id that cannot be a folder's."""
    return runs_folder(home) / _checked(run_id)


def placebos_folder(home: Home) -> Path:
    """Models trained on invented lessons, by recipe and base: what candidates are compared with. They hold nothing of the user's."""
    return home.artifacts / "placebos"


def probes_folder(home: Home) -> Path:
    """The bank of frozen probes."""
    return home.artifacts / "probes"


def study_file(home: Home) -> Path:
    """What a model on this machine wrote about facts, kept so that it is not asked again."""
    return home.artifacts / "study.jsonl"


def curve_file(home: Home) -> Path:
    """How well each version knew what was learned in which week."""
    return home.artifacts / "forgetting.json"


def cards_folder(home: Home) -> Path:
    """What the memory model wrote about projects, files and errors while nobody asked."""
    return home.artifacts / "cards"


def forgotten_file(home: Home) -> Path:
    """Hashes of threads that something was forgotten of."""
    return home.artifacts / "forgotten.json"


def runs(home: Home) -> list[str]:
    """Ids of the training runs, oldest first as they sort."""
    return _folders(runs_folder(home))


def bases(home: Home) -> list[str]:
    """Names of the base models that the project made."""
    return _folders(bases_folder(home))


def num_bytes(folder: Path) -> int:
    """What the files below a folder take; what disappears meanwhile counts as nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def lock(home: Home) -> FileLock:
    """Held while versions come, go or are marked; the operating system releases it however its holder ends."""
    return FileLock(durable.make_folder(home.artifacts) / ".lock")


def _folders(folder: Path) -> list[str]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if path.is_dir() and not path.name.startswith("."))


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} cannot name a folder; use letters, digits, `_`, `-` and `.`, at most 64.")
    return name
