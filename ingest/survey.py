"""What lies on this machine for every reader, said as JSON: where its sessions may lie, where some do, and how many.

Nothing is read but names, sizes and, of databases, the list of their sessions; no lock is taken and nothing is written. The
house asks for this by `python -m ingest --survey`, since it never imports this wing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ingest import sources
from ingest.readers.registry import BUILT_IN, READERS
from ingest.session import SourceFile, Unreadable
from lmm_mcp.children import Surveyed
from lmm_mcp.config import Sessions


def survey(env: Mapping[str, str], settings: Sessions, notes: Path, projects: Sequence[Path]) -> list[Surveyed]:
    """Look for the sessions of every agent. `projects`: folders known to be worked in."""
    everybody = Sessions(folders=settings.folders, claude_code=settings.claude_code, codex=settings.codex)
    places: dict[str, list[Path]] = {reader.agent: [] for reader in READERS}
    for reader, root in sources.roots(env, everybody, notes, projects):
        if root.exists():
            places[reader.agent].append(root)
    found = []
    for reader in READERS:
        listed: dict[str, SourceFile] = {}
        problems: list[str] = []
        with_sessions: list[str] = []
        is_excluded = reader.agent in settings.exclude_agents
        for root in () if is_excluded else places[reader.agent]:
            num_before = len(listed)
            for item in _below(root, reader.agent):
                if isinstance(item, Unreadable):
                    problems.append(f"{item.path}: {item.problem}")
                else:
                    listed[item.name] = item
            # Of the folders that are worked in only those are of interest where it was at work.
            if len(listed) > num_before or not reader.lies_in_projects:
                with_sessions.append(str(root))
        found.append(
            Surveyed(
                reader.agent,
                is_excluded,
                reader in BUILT_IN,
                tuple(with_sessions),
                len(listed),
                max((item.mtime_ns // 1_000_000 for item in listed.values()), default=0),
                tuple(problems),
            )
        )
    known = {reader.agent for reader in READERS}
    for agent, folder in everybody.named_folders():
        if agent not in known:
            problem = f"{folder}: no agent is called {agent}, see the setting sessions.folders"
            found.append(Surveyed(agent, False, False, (), 0, 0, (problem,)))
    for agent in settings.exclude_agents:
        if agent not in known:  # nothing is left out by it, though its user believes so
            problem = f"no agent is called {agent}, see the setting sessions.exclude_agents"
            found.append(Surveyed(agent, False, False, (), 0, 0, (problem,)))
    return found


def _below(root: Path, agent: str) -> list[SourceFile | Unreadable]:
    reader = next(each for each in READERS if each.agent == agent)
    try:
        return [item for path in reader.discover(root) for item in sources.listed(reader, path)]
    except OSError as problem:
        return [Unreadable(str(root), 0, f"cannot be listed: {problem.strerror or problem}")]
