"""What the user never wants remembered, by agent, working directory or git remote. Pure."""

import hashlib
import re
from dataclasses import dataclass
from fnmatch import translate

from lmm_mcp.config import Sessions
from lmm_mcp.domain.project import normalise_path, normalise_remote, same_folder_key
from lmm_mcp.paths import expanded


@dataclass(frozen=True, slots=True)
class Exclusion:
    """The user's rules, ready to be asked."""

    agents: frozenset[str]
    paths: tuple[re.Pattern[str], ...]
    remotes: tuple[re.Pattern[str], ...]
    fingerprint: str
    """Changes with the rules, so that files are looked at again when a rule was added or lifted."""

    @classmethod
    def of(cls, settings: Sessions) -> "Exclusion":
        """Make ready what the settings say."""
        rules = (settings.exclude_agents, settings.exclude_paths, settings.exclude_remotes)
        return cls(
            agents=frozenset(settings.exclude_agents),
            paths=tuple(_pattern(_absolute(path)) for path in settings.exclude_paths),
            remotes=tuple(_pattern(_remote(remote)) for remote in settings.exclude_remotes),
            fingerprint=hashlib.blake2b(repr(rules).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest(),
        )

    def excludes(self, agent: str, cwd: str, remote: str) -> bool:
        """Whether sessions of this agent, in this folder or below one named, or of this remote, must not be kept.

        >>> rules = Exclusion.of(Sessions(exclude_paths=("/work/secret*",), exclude_remotes=("github.com/acme/*",)))
        >>> rules.excludes("codex", "/work/secret-plans/deep", ""), rules.excludes("codex", "/work/open", "")
        (True, False)
        >>> rules.excludes("codex", "", "git@github.com:acme/vault.git")
        True
        """
        return self.excludes_place(agent, cwd) or self.excludes_remote(remote)

    def excludes_place(self, agent: str, cwd: str) -> bool:
        """Whether the agent alone, or the folder, is reason enough."""
        folder = same_folder_key(normalise_path(cwd))
        return agent in self.agents or any(folder and rule.match(folder) for rule in self.paths)

    def excludes_remote(self, remote: str) -> bool:
        """Whether the remote, or a project key made of one, is reason enough."""
        url = _remote(remote)
        return any(url and rule.match(url) for rule in self.remotes)


def _absolute(path: str) -> str:
    return same_folder_key(normalise_path(str(expanded(path)) if path.startswith("~") else path))


def _remote(remote: str) -> str:
    return (normalise_remote(remote) or remote.strip().removesuffix(".git").rstrip("/")).lower()


def _pattern(rule: str) -> re.Pattern[str]:
    """The rule itself and everything below it; `*` stands for anything."""
    return re.compile(translate(rule.rstrip("/")).removesuffix(r"\Z").removesuffix(r"\z") + r"(?:/.*)?\Z", re.DOTALL)
