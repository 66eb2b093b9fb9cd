"""Where applications keep what is theirs on Linux, macOS and Windows.

Every place that the environment allows for is named, whatever system this runs on: a folder that is not there costs nothing,
and homes are shared between systems (WSL, containers, copied disks).
"""

from collections.abc import Mapping
from pathlib import Path

from lmm_mcp.paths import user_home

EDITORS = ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf")
"""Hosts built on VS Code, by the names of their folders."""

_SERVERS = (".vscode-server", ".vscode-server-insiders", ".vscodium-server", ".cursor-server", ".windsurf-server")
"""The same hosts where they serve an editor on another machine."""


def named_folder(env: Mapping[str, str], variable: str) -> Path | None:
    """The folder that an environment variable names, `~` expanded; None where it is empty or missing.

    >>> named_folder({"HOME": "/home/mira", "CODEX_HOME": "~/agents"}, "CODEX_HOME")
    PosixPath('/home/mira/agents')
    """
    named = env.get(variable, "").strip()
    if not named:
        return None
    return user_home(env) / named[1:].lstrip("/\\") if named.startswith("~") else Path(named).absolute()


def roaming_folder(env: Mapping[str, str]) -> Path | None:
    """What Windows calls APPDATA; None elsewhere. Clients hand few variables on to their servers, and not always this one."""
    return named_folder(env, "APPDATA") or _of_profile(env, "Roaming")


def config_folders(env: Mapping[str, str], *inside: str) -> tuple[Path, ...]:
    """Where an application's settings lie (XDG, Application Support, roaming APPDATA), each with `inside` behind it."""
    home = user_home(env)
    return _each((named_folder(env, "XDG_CONFIG_HOME") or home / ".config", _of_mac(home), roaming_folder(env)), inside)


def data_folders(env: Mapping[str, str], *inside: str) -> tuple[Path, ...]:
    """Where an application's data lies (XDG, Application Support, local and roaming APPDATA), each with `inside` behind it."""
    home = user_home(env)
    windows = (named_folder(env, "LOCALAPPDATA") or _of_profile(env, "Local"), roaming_folder(env))
    return _each((named_folder(env, "XDG_DATA_HOME") or home / ".local" / "share", _of_mac(home), *windows), inside)


def editor_folders(env: Mapping[str, str], *inside: str, hosts: tuple[str, ...] = EDITORS) -> tuple[Path, ...]:
    """The `User` folder of every VS Code-like host (and of the servers of remote ones), each with `inside` behind it."""
    local = [folder / host / "User" for folder in config_folders(env) for host in hosts]
    remote = [user_home(env) / server / "data" / "User" for server in _SERVERS] if hosts is EDITORS else []
    return _each((*local, *remote), inside)


def _of_profile(env: Mapping[str, str], name: str) -> Path | None:
    profile = named_folder(env, "USERPROFILE")
    return None if profile is None else profile / "AppData" / name


def _of_mac(home: Path) -> Path:
    return home / "Library" / "Application Support"


def _each(folders: tuple[Path | None, ...], inside: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(folder.joinpath(*inside) for folder in folders if folder is not None))
