"""Files by which the system keeps `lmm serve` running for one user: a systemd user unit, a launchd agent. Text only, no I/O."""

import plistlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from lmm_mcp import config
from lmm_mcp.domain.agents import PLACES
from lmm_mcp.paths import user_home

MARK = "written by lmm serve, which may write it anew"
KINDS = ("systemd", "launchd")
_LABEL = "lmm.engine"
_PASSED_ON = ("LMM_HOME", *PLACES, *map(config.variable, config.names()))
"""What says where things lie and what may be read: a service does not see the variables of a shell."""


def place(kind: str, env: Mapping[str, str]) -> Path:
    """Where the file belongs."""
    if kind == "launchd":
        return user_home(env) / "Library" / "LaunchAgents" / f"{_LABEL}.plist"
    named = env.get("XDG_CONFIG_HOME", "")
    return (Path(named) if named else user_home(env) / ".config") / "systemd" / "user" / "lmm.service"


def next_command(kind: str, file: Path) -> str:
    """What to type after the file was written."""
    if kind == "launchd":
        return f"launchctl bootstrap gui/$(id -u) '{file}'"
    return "systemctl --user daemon-reload && systemctl --user enable --now lmm"


def text(kind: str, command: Sequence[str], env: Mapping[str, str]) -> str:
    """The file. Both start it again where it made room for a newer version, and not where somebody stopped it."""
    passed_on = {name: env[name] for name in _PASSED_ON if env.get(name)}
    if kind == "launchd":
        return _launchd(command, passed_on)
    lines = [
        f"# {MARK}",
        "[Unit]",
        "Description=LMM, the memory of the coding agents on this machine",
        "",
        "[Service]",
        f"ExecStart={' '.join(_quoted(part, is_command=True) for part in command)}",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in passed_on.items()),
        "Restart=on-failure",
        "RestartSec=2",
        "KillMode=mixed",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def _quoted(part: str, *, is_command: bool = False) -> str:
    r"""One word of a unit file.

    >>> _quoted('a "b" 50%'), _quoted("$x", is_command=True)
    ('"a \\"b\\" 50%%"', '"$$x"')
    """
    escaped = part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped.replace("$", "$$") if is_command else escaped}"'


def _launchd(command: Sequence[str], passed_on: Mapping[str, str]) -> str:
    told = plistlib.dumps(
        {
            "Label": _LABEL,
            "ProgramArguments": list(command),
            "EnvironmentVariables": dict(passed_on),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ProcessType": "Background",
        },
        sort_keys=False,
    ).decode("utf-8")
    head, declaration, rest = told.partition("<plist ")
    return f"{head}<!-- {MARK} -->\n{declaration}{rest}"
