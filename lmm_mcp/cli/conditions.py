"""Whatever a measurement depends on, to stand beside its figures: settings, versions, and what the memory was."""

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmm_mcp
from lmm_mcp.errors import StoreError
from lmm_mcp.server.desk import Desk


def of(desk: Desk, files: Sequence[Path], **settings: Any) -> dict[str, Any]:
    """Whatever a run depends on, as it holds here: what is left out by flag, environment or settings alike. Raises StoreError.

    `settings`: what else was asked for; `without` there stands for what the desk's own settings say.
    """
    from importlib.metadata import PackageNotFoundError, version

    from lmm_mcp.evaluation import receipt
    from lmm_mcp.store import schema, terms

    if (store := desk.store()) is None:
        raise StoreError("nothing has been imported yet, so there is nothing to measure. Run `lmm import`.")
    versions = {}
    for package in ("lmm-mcp", "lancedb", "onnxruntime", "numpy", "mcp"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    stats = store.stats()
    made_by, ranking = stats.embedder, desk.holdings.ranking()
    left_out = frozenset(settings.get("without", desk.settings.recall.without))
    return {
        "without": sorted(left_out),
        **settings,
        "embedder": f"{made_by.name} {made_by.version}" if made_by and desk.ready_embedder() else "none",
        "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files},
        "model": "none" if {"model", "cards"} <= left_out else _model(desk),
        "ranking": "none" if ranking is None or "reranker" in left_out else ranking.version,
        "store": {
            "hash": receipt.store_hash(desk.ledger),
            "chunks": stats.num_chunks,
            "embedded": stats.num_embedded,
            "schema": schema.SCHEMA_VERSION,
            "terms": terms.TERMS_VERSION,
            "chunkers": sorted({row.chunker_version for row in desk.ledger.threads()}),
        },
        "versions": versions,
        "commit": source_commit(Path(lmm_mcp.__file__).resolve().parents[1]),
    }


def _model(desk: Desk) -> dict[str, Any] | str:
    """The memory model that may answer: its name and when it had learned all it knows."""
    as_of_ms, found = desk.holdings.as_of_ms, desk.holdings.memory_model()
    if found is None or (as_of_ms is not None and not 0 < found[1] <= as_of_ms):
        return "none"
    return {"name": found[0], "until_ms": found[1]}


def source_commit(root: Path) -> str:
    """Commit of a checkout of our own sources, `+` where something was changed since; '' where `root` is none."""
    if not (root / ".git").exists() or (git := shutil.which("git")) is None:
        return ""

    def told(*arguments: str) -> str:
        command = [git, "--no-optional-locks", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=10, check=True)
        return done.stdout.strip()

    try:
        changed = told("status", "--porcelain", "--untracked-files=no")
        return told("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
