"""`lmm config`: which settings hold and where each comes from; setting one."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from lmm_mcp import config
from lmm_mcp.cli import terminal
from lmm_mcp.cli.asking import AS_JSON
from lmm_mcp.errors import ConfigError

PANEL = "Set up"
_group = typer.Typer(no_args_is_help=False, rich_markup_mode="rich")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(_group, name="config", rich_help_panel=PANEL)


@_group.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Show every setting, its value, where that comes from and what it means; `set` changes one.

    [dim]lmm config[/]

    [dim]lmm config set recall.budget_tokens 800[/]
    """
    if context.invoked_subcommand is not None:
        return
    file = terminal.home().config
    settings, meanings = config.load(file, os.environ), config.meanings()
    found = [
        {
            "name": name,
            "type": kind,
            "value": _value(settings, name),
            "source": _source(name, file),
            "variable": config.variable(name),
            "meaning": meanings[name],
        }
        for name, kind in config.names().items()
    ]
    if as_json:
        terminal.say_json(found)
        return
    for one in found:
        value = (", ".join(one["value"]) or _unset(one["name"])) if isinstance(one["value"], list) else one["value"]
        terminal.say(f"{one['name']} = {value}   [{one['source']}]")
        terminal.say(f"    {one['meaning']}")
    terminal.say(
        f"\nChange one with `lmm config set NAME VALUE`, in {file}, or by its variable, such as {found[0]['variable']}."
    )


@_group.command("set")
def set_(
    name: Annotated[str, typer.Argument(help="Such as recall.budget_tokens.")],
    values: Annotated[list[str], typer.Argument(metavar="VALUE...", help="Several for a list; none empties it.")] = [],  # noqa: B006 - typer wants a list
) -> None:
    """Change a setting in your config.toml; comments and order there are kept.

    [dim]lmm config set sessions.exclude_paths "~/secret" "~/clients/*"[/]
    """
    if config.names().get(name) == "list of text":
        value: Any = list(values)
    elif len(values) != 1:
        raise (
            ConfigError(f"{name} takes one value, {len(values)} were given.")
            if name in config.names()
            else _unknown(name)
        )
    else:
        value = config.parse(name, values[0])
    file = terminal.home().config
    write(file, name, value)
    terminal.say(f"{name} = {value!r}   [{file}]")


@_group.command("path")
def path() -> None:
    """Print where your config.toml lies, whether or not it exists yet."""
    terminal.say_whole(str(terminal.home().config))


def write(file: Path, name: str, value: Any) -> None:
    """Put one value into the file, beside it first: a wrong one never takes its place."""
    import tomlkit  # keeps comments; nothing else here needs it

    section, _, setting = name.partition(".")
    try:
        document = tomlkit.parse(file.read_text(encoding="utf-8")) if file.exists() else tomlkit.document()
    except tomlkit.exceptions.ParseError as problem:
        raise ConfigError(f"{file} is not valid TOML: {problem}. Mend that line or move the file away.") from problem
    if section not in document:
        document.add(section, tomlkit.table())
    document[section][setting] = value
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_text(tomlkit.dumps(document), encoding="utf-8")
        beside.chmod(0o600)
        config.load(beside, {})
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _value(settings: config.Settings, name: str) -> Any:
    section, _, setting = name.partition(".")
    value = getattr(getattr(settings, section), setting)
    return list(value) if isinstance(value, tuple) else value


def _unset(name: str) -> str:
    """What it means that a list is empty."""
    if "exclude" in name or name == "recall.without":
        return "nothing is left out"
    return "none" if name == "lessons.repositories" else "no further folder"


def _source(name: str, file: Path) -> str:
    variable = config.variable(name)
    if variable in os.environ:
        return variable
    section, _, setting = name.partition(".")
    written = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return str(file) if setting in written.get(section, {}) else "default"


def _unknown(name: str) -> ConfigError:
    try:
        config.parse(name, "")
    except ConfigError as problem:
        return problem
    return ConfigError(f"there is no setting {name!r}; `lmm config` lists them all.")
