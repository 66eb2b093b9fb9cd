"""What a project is called. The key is stable: a remote where there is one, else the root folder."""

from dataclasses import dataclass

NO_PROJECT = ""
"""Key of what belongs to no project."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project as recall knows it."""

    key: str
    """`github.com/owner/name` for a known remote, else a folder path with `/` separators and no trailing one."""
    how: str
    """Which rule named it: `remote`, `git`, `worktree`, `root`, `cwd`."""
