"""Codex: the MCP server in `config.toml`. Its own lines at the end of the file, the rest is not touched.

Codex gives an MCP server a few variables of its environment only, so those that say where sessions lie, and which of them
may be read, are named.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmm_mcp import config
from lmm_mcp.domain.agents import PLACES
from lmm_mcp.errors import ConfigError
from lmm_mcp.integrations import files
from lmm_mcp.integrations import program as programs
from lmm_mcp.integrations.contract import SERVER, Change, Look, Program, Trace
from lmm_mcp.paths import user_home

_SERVERS = "mcp_servers"
STARTUP_TIMEOUT_s = 30
"""Codex gives a server ten seconds, which a cold disk may need."""
TOOL_TIMEOUT_s = 60
_PASSED_ON = (*PLACES, *map(config.variable, config.names()))
_FOLDER = ".."


class Codex:
    """See the module, and `lmm_mcp.integrations.contract.Integration`."""

    name = "codex"
    title = "Codex"
    meaning = (
        "`env_vars` names the variables of your environment that Codex hands on, as far as they are set: "
        "where sessions lie, and settings of this memory"
    )

    def folder(self, env: Mapping[str, str]) -> Path:
        """`CODEX_HOME`, else `~/.codex`."""
        named = env.get("CODEX_HOME", "").strip()
        return Path(named).expanduser().absolute() if named else user_home(env) / ".codex"

    def config_file(self, env: Mapping[str, str]) -> Path:
        """The user's configuration."""
        return self.folder(env) / "config.toml"

    def connect(
        self, env: Mapping[str, str], program: Program, traces: Mapping[str, Trace], *, force: bool = False
    ) -> list[Change]:
        """The server's table. Raises ConfigError."""
        path = self.config_file(env)
        before = files.read(path)
        text, bom = files.decoded(path, before)
        old = _entry_in(path, text)
        if old is not None and not _is_ours(old) and not force:
            raise ConfigError(
                f"{path} has an MCP server named {SERVER} that is not this program. Rename it there, or replace it for good with --force."
            )
        rest = _rest(text)
        trace = traces.get(str(path), Trace())
        if old is None:
            text, ours = _appended(text, _table(program))
            made: dict[str, str | None] = {"": None} if before is None else {}
            if _SERVERS in rest or not ours:
                made[_SERVERS] = ""
            trace = Trace(made | ({_FOLDER: None} if before is None and not path.parent.exists() else {}), ours)
        elif not _is_same(old, program):
            ours = _block(text, trace)
            if ours:
                new = ours.replace(ours.strip(), _table(program).strip().replace("\n", _line_end(text)))
                text, trace = text.replace(ours, new), Trace(trace.made, new)
            else:
                text = _updated(text, program, keeps=_is_ours(old))
        _check(path, text, program, rest)
        return [Change(path, before, (bom + text).encode("utf-8"), trace)]

    def disconnect(self, env: Mapping[str, str], traces: Mapping[str, Trace]) -> list[Change]:
        """The table taken out: our very lines where they still stand, else what became of them."""
        path = self.config_file(env)
        before = files.read(path)
        text, bom = files.decoded(path, before)
        old = _entry_in(path, text)
        trace = traces.get(str(path), Trace())
        if not _is_ours(old):
            return [Change(path, before, before, trace)]
        wanted = _rest(text)
        ours = _block(text, trace)
        less = text.replace(ours, "", 1) if ours else ""
        # What the user wrote right below our lines belongs to our table: it goes with it.
        text = less if ours and _is(less, wanted) else _without(text, keeps_empty=_SERVERS in trace.made)
        if not _is(text, wanted):
            raise ConfigError(
                f"{path} has a form that cannot be changed safely. Take [{_SERVERS}.{SERVER}] out by hand."
            )
        if not text.strip() and "" in trace.made:
            return [Change(path, before, None, trace, takes_folder=_FOLDER in trace.made)]
        return [Change(path, before, (bom + text).encode("utf-8"), trace)]

    def look(self, env: Mapping[str, str], program: Program) -> Look:
        """The table against what `connect` would write."""
        path = self.config_file(env)
        entry = _entry_in(path, files.decoded(path, files.read(path))[0])
        if entry is None:
            return Look("absent", f"no entry in {path}")
        if not _is_ours(entry):
            return Look("foreign", f"{path} has an MCP server named {SERVER} that is not this program")
        words = _words(entry)
        if programs.missing(words):
            return Look("stale", f"it starts {words[0]}, which is not there any more")
        if words[0] != program.words[0]:
            return Look("stale", f"it starts another installation, {words[0]}")
        if entry.get("enabled") is False:
            return Look("partly", f"it is switched off in {path}")
        return Look("connected", program.words[0])


def _entry_in(path: Path, text: str) -> Any:
    try:
        servers = tomllib.loads(text).get(_SERVERS, {})
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise ConfigError(
            f"{path} is not valid TOML: {problem}. Nothing was changed: mend that line, or move the file away, and try again."
        ) from problem
    return servers.get(SERVER) if isinstance(servers, dict) else None


def _is_ours(entry: Any) -> bool:
    return isinstance(entry, dict) and programs.starts_us(_words(entry))


def _words(entry: Mapping[str, Any]) -> list[str]:
    command, arguments = entry.get("command"), entry.get("args", [])
    if not isinstance(command, str):
        return []
    return [command, *(word for word in arguments if isinstance(word, str))]


def _values(program: Program) -> dict[str, Any]:
    return {
        "command": program.words[0],
        "args": [*program.words[1:], "mcp"],
        "env_vars": [*_PASSED_ON, *(() if program.home else ("LMM_HOME",))],
        "startup_timeout_sec": STARTUP_TIMEOUT_s,
        "tool_timeout_sec": TOOL_TIMEOUT_s,
        **({"env": {"LMM_HOME": program.home}} if program.home else {}),
    }


def _is_same(entry: Mapping[str, Any], program: Program) -> bool:
    """Whether it starts this program with this memory; timeouts and the like are the user's to change."""
    wanted = _values(program)
    named = entry.get("env")
    home = named.get("LMM_HOME", "") if isinstance(named, dict) else ""
    return all(entry.get(name) == wanted[name] for name in ("command", "args")) and home == program.home


def _table(program: Program) -> str:
    import tomlkit  # a tenth of a second that only this needs

    table = tomlkit.table()
    for name, value in _values(program).items():
        table.add(name, value)
    return tomlkit.dumps({_SERVERS: {SERVER: table}}).replace(f"[{_SERVERS}]\n", "", 1)


def _appended(text: str, table: str) -> tuple[str, str]:
    """The text with our table at its end, or inside where its form leaves no other way; and the lines added, if at the end."""
    import tomlkit

    line_end = _line_end(text)
    before = "" if not text.strip() else line_end if text.endswith("\n") else line_end * 2
    ours = before + table.replace("\n", line_end)
    try:
        tomllib.loads(text + ours)
    except tomllib.TOMLDecodeError:  # `mcp_servers = { ... }` cannot be added to from outside
        document = tomlkit.parse(text)
        inline = tomlkit.inline_table()
        inline.update(tomllib.loads(table)[_SERVERS][SERVER])
        document[_SERVERS][SERVER] = inline
        return tomlkit.dumps(document), ""
    return text + ours, ours


def _block(text: str, trace: Trace) -> str:
    """Our own lines, as they were added, if they still stand there so."""
    return trace.text if trace.text and text.count(trace.text) == 1 else ""


def _updated(text: str, program: Program, *, keeps: bool) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    servers: Any = document[_SERVERS]
    values = _values(program)
    if not keeps:
        servers[SERVER] = tomllib.loads(_table(program))[_SERVERS][SERVER]
        return tomlkit.dumps(document)
    entry = servers[SERVER]
    entry["command"], entry["args"] = values["command"], values["args"]
    if program.home:
        if "env" not in entry:
            entry["env"] = {}
        entry["env"]["LMM_HOME"] = program.home
    elif "LMM_HOME" in entry.get("env", {}):
        del entry["env"]["LMM_HOME"]
    return tomlkit.dumps(document)


def _without(text: str, *, keeps_empty: bool) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    servers: Any = document[_SERVERS]
    del servers[SERVER]
    if not servers and not keeps_empty:
        del document[_SERVERS]
    return tomlkit.dumps(document)


def _rest(text: str) -> dict[str, Any]:
    """All that the text says beside our table; an empty table of servers says nothing."""
    found = tomllib.loads(text)
    servers = {name: entry for name, entry in found.get(_SERVERS, {}).items() if name != SERVER}
    return {name: value for name, value in found.items() if name != _SERVERS} | ({_SERVERS: servers} if servers else {})


def _is(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return SERVER not in found.get(_SERVERS, {}) and _rest(text) == wanted


def _check(path: Path, text: str, program: Program, rest: Mapping[str, Any]) -> None:
    """What is written must say what is meant, whatever form the file had."""
    entry = _entry_in(path, text)
    if not isinstance(entry, dict) or not _is_same(entry, program) or _rest(text) != rest:
        raise ConfigError(
            f"{path} has a form that cannot be changed safely. Add the server by hand: codex mcp add {SERVER} -- {' '.join([*program.words, 'mcp'])}"
        )


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
