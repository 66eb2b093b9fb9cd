"""Claude Code: the MCP server in its global file, and a hook that opens each session with what is remembered.

The global file (`.claude.json`) is the client's own state as well: large, with account data, written again and again
while the client runs. Only the entry `mcpServers.lmm` is changed in its text, under the client's own lock.
`settings.json` is the user's.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmm_mcp.errors import ConfigError
from lmm_mcp.integrations import program as programs
from lmm_mcp.integrations.contract import SERVER, Change, Look, Program, Trace
from lmm_mcp.integrations.json_file import JsonFile
from lmm_mcp.paths import user_home

_SERVERS = "mcpServers"
_EVENT = "SessionStart"
_MATCHER = "startup|resume|clear|compact"
HOOK_TIMEOUT_s = 5
"""After that the client goes on without us; we answer within 1.5 s ourselves."""


class ClaudeCode:
    """See the module, and `lmm_mcp.integrations.contract.Integration`."""

    name = "claude-code"
    title = "Claude Code"
    meaning = (
        "`alwaysLoad` shows the agent from the start what the tools of this memory are for: without it, it sees only their "
        "names until it searches for tools; the hook opens each session with what is remembered of the project"
    )

    def folder(self, env: Mapping[str, str]) -> Path:
        """`CLAUDE_CONFIG_DIR`, else `~/.claude`."""
        named = env.get("CLAUDE_CONFIG_DIR", "").strip()
        return Path(named).expanduser().absolute() if named else user_home(env) / ".claude"

    def global_file(self, env: Mapping[str, str]) -> Path:
        """The file that today's client reads its user-wide MCP servers from."""
        legacy = self.folder(env) / ".config.json"
        if legacy.is_file() and legacy.stat().st_size:
            return legacy  # of an old installation: the client stays with it
        return (self.folder(env) if env.get("CLAUDE_CONFIG_DIR", "").strip() else user_home(env)) / ".claude.json"

    def settings_file(self, env: Mapping[str, str]) -> Path:
        """The user's settings, hooks among them."""
        return self.folder(env) / "settings.json"

    def connect(
        self, env: Mapping[str, str], program: Program, traces: Mapping[str, Trace], *, force: bool = False
    ) -> list[Change]:
        """The server entry, then the hook. Raises ConfigError."""
        servers = _open(self.global_file(env), traces)
        old = servers.get(_SERVERS, SERVER)
        if old is not None and not _is_ours(old) and not force:
            raise ConfigError(
                f"{servers.path} has an MCP server named {SERVER} that is not this program. Rename it there, or replace it for good with --force."
            )
        new = _entry(program, old if isinstance(old, dict) and _is_ours(old) else {})
        if new != old:
            servers.put((_SERVERS, SERVER), new)
        settings = _open(self.settings_file(env), traces)
        _put_hook(settings, _hook(program))
        return [servers.change(_lock(servers.path)), settings.change()]

    def disconnect(self, env: Mapping[str, str], traces: Mapping[str, Trace]) -> list[Change]:
        """Both taken out again, whatever else was changed meanwhile."""
        servers = _open(self.global_file(env), traces)
        if _is_ours(servers.get(_SERVERS, SERVER)):
            servers.drop((_SERVERS, SERVER))
        settings = _open(self.settings_file(env), traces)
        # From the last to the first, so that the places of the others stay what they are.
        for place in reversed(list(_our_hooks(settings))):
            alone = len(settings.get(*place[:-1])) == 1
            settings.drop(place[:-2] if alone else place)
        return [servers.change(_lock(servers.path)), settings.change()]

    def look(self, env: Mapping[str, str], program: Program) -> Look:
        """Server entry and hook against what `connect` would write."""
        servers, settings = JsonFile(self.global_file(env)), JsonFile(self.settings_file(env))
        entry = servers.get(_SERVERS, SERVER)
        hooks = [settings.get(*place) for place in _our_hooks(settings)]
        if entry is not None and not _is_ours(entry):
            return Look("foreign", f"{servers.path} has an MCP server named {SERVER} that is not this program")
        if entry is None and not hooks:
            return Look("absent", f"no entry in {servers.path}")
        lines = [_words(each) for each in (*([entry] if entry else []), *hooks)]
        if gone := next((words[0] for words in lines if programs.missing(words)), ""):
            return Look("stale", f"it starts {gone}, which is not there any more")
        if other := next((words[0] for words in lines if words and words[0] not in _spellings(program)), ""):
            return Look("stale", f"it starts another installation, {other}")
        if entry is None or not hooks:
            lacks = f"the MCP server in {servers.path}" if entry is None else f"the hook in {settings.path}"
            return Look("partly", f"{lacks} is missing")
        return Look("connected", program.words[0])


def _open(path: Path, traces: Mapping[str, Trace]) -> JsonFile:
    return JsonFile(path, traces.get(str(path)))


def _lock(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _entry(program: Program, old: Mapping[str, Any]) -> dict[str, Any]:
    env = old.get("env")
    named = {name: value for name, value in env.items() if name != "LMM_HOME"} if isinstance(env, dict) else {}
    return {
        **old,
        "type": "stdio",
        "command": program.words[0],
        "args": [*program.words[1:], "mcp"],
        "env": named | ({"LMM_HOME": program.home} if program.home else {}),
        # Else the model sees nothing but the names of the tools until it searches for them.
        "alwaysLoad": old.get("alwaysLoad", True),
    }


def _hook(program: Program) -> dict[str, Any]:
    words = programs.hook_words(program)
    line = programs.for_a_shell(words, windows=os.name == "nt")
    # Only clients of 2026 know `args`; those before would run the program without them.
    how = {"command": words[0], "args": words[1:]} if line is None else {"command": line}
    return {"type": "command", **how, "timeout": HOOK_TIMEOUT_s}


def _put_hook(settings: JsonFile, hook: dict[str, Any]) -> None:
    places = list(_our_hooks(settings))
    for place in places:
        found = settings.get(*place)
        if any(found.get(name) != hook.get(name) for name in ("command", "args")):
            kept = {name: value for name, value in found.items() if name not in ("command", "args")}
            settings.put(place, {**kept, **hook, "timeout": found.get("timeout", HOOK_TIMEOUT_s)})
    if not places:
        groups = settings.get("hooks", _EVENT)
        number = len(groups) if isinstance(groups, list) else 0
        settings.put(("hooks", _EVENT, number), {"matcher": _MATCHER, "hooks": [hook]})


def _our_hooks(settings: JsonFile) -> Iterator[tuple[str | int, ...]]:
    """Where hooks of ours stand: event, number of the group, `hooks`, number of the hook."""
    groups = settings.get("hooks", _EVENT)
    for n, group in enumerate(groups if isinstance(groups, list) else ()):
        hooks = group.get("hooks") if isinstance(group, dict) else None
        for m, hook in enumerate(hooks if isinstance(hooks, list) else ()):
            if isinstance(hook, dict) and programs.is_our_hook(_words(hook)):
                yield ("hooks", _EVENT, n, "hooks", m)


def _is_ours(entry: Any) -> bool:
    return isinstance(entry, dict) and programs.starts_us(_words(entry))


def _words(entry: Mapping[str, Any]) -> list[str]:
    """The command line of an MCP server or a hook; [] where it has none."""
    command, arguments = entry.get("command"), entry.get("args")
    if not isinstance(command, str) or not command:
        return []
    if isinstance(arguments, list):
        return [command, *(word for word in arguments if isinstance(word, str))]
    return programs.words_of(command)


def _spellings(program: Program) -> set[str]:
    return {program.words[0], program.words[0].replace("\\", "/")}
