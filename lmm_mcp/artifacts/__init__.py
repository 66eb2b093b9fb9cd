"""What training made, and which of it serves: versions of the memory model, base models, runs, banks of probes.

Everybody asks here and builds no path of his own. Without torch, and quick enough to be asked before every brief.
"""

from lmm_mcp.artifacts.places import (
    base_folder,
    bases,
    bases_folder,
    curve_file,
    num_bytes,
    placebos_folder,
    probes_folder,
    run_folder,
    runs,
    runs_folder,
    version_folder,
    versions_folder,
)
from lmm_mcp.artifacts.records import FileMark, Manifest, sheet_of, sheet_told, verdict_of, verdict_told
from lmm_mcp.artifacts.sources import Sources, Unclean, forgettings, read_sources, read_unclean, write_sources
from lmm_mcp.artifacts.unlearning import is_unclean, mark_unclean, sweep
from lmm_mcp.artifacts.versions import (
    Torn,
    Version,
    commit,
    current,
    damage,
    draft,
    find,
    promote,
    rollback,
    served,
    verdict_name,
    versions,
)

__all__ = [
    "FileMark",
    "Manifest",
    "Sources",
    "Torn",
    "Unclean",
    "Version",
    "base_folder",
    "bases",
    "bases_folder",
    "commit",
    "current",
    "curve_file",
    "damage",
    "draft",
    "find",
    "forgettings",
    "is_unclean",
    "mark_unclean",
    "num_bytes",
    "placebos_folder",
    "probes_folder",
    "promote",
    "read_sources",
    "read_unclean",
    "rollback",
    "run_folder",
    "runs",
    "runs_folder",
    "served",
    "sheet_of",
    "sheet_told",
    "sweep",
    "verdict_name",
    "verdict_of",
    "verdict_told",
    "version_folder",
    "versions",
    "versions_folder",
    "write_sources",
]
