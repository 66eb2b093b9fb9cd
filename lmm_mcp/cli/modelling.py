"""`lmm model`: the memory models that were trained here. Which one serves, why, and what can be done about it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmm_mcp.cli import terminal
from lmm_mcp.cli.asking import AS_JSON
from lmm_mcp.domain.verdict import Keep
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput, ModelError

if TYPE_CHECKING:
    from lmm_mcp.artifacts import Torn, Version

PANEL = "Learn"
EXPORTER = "trainer.export"
NONE_YET = "there is no memory model yet; `lmm train` makes one. Recall works without."
_group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The memory models trained on your sessions: list, show, promote, take back, export.",
)
_VERSION = Annotated[str, typer.Argument(help="A version, such as v0003.", metavar="VERSION", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(_group, name="model", rich_help_panel=PANEL)


@_group.command("list")
def list_(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """List the memory models, oldest first, and which of them serves."""
    from lmm_mcp import artifacts

    home = terminal.home()
    found = artifacts.versions(home)
    serving = artifacts.served(home)
    rows = [_row(each, serving) for each in found]
    if as_json:
        terminal.say_json({"serves": serving.name if serving else "", "versions": rows})
        return
    if not rows:
        terminal.say(NONE_YET)
        return
    width = max(len(row["base"]) for row in rows)
    for row in rows:
        size = f"{row['bytes'] / 1e6:,.1f} MB"
        terminal.say_whole(
            f"{row['version']}  {row['made']:16}  {row['base']:{width}}  {row['verdict']:8}  {size:>10}  {row['state']}".rstrip()
        )
    if serving is None:
        terminal.say("None of them serves: recall answers without a model.")


@_group.command("show")
def show(version: _VERSION, as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Show what a memory model was made of, and what the gate said about it."""
    from lmm_mcp import artifacts

    home = terminal.home()
    found = artifacts.find(home, version)
    row = _row(found, artifacts.served(home))
    if not isinstance(found, artifacts.Version):
        if as_json:
            terminal.say_json(row)
        else:
            terminal.say(f"{found.name} is damaged: {found.problem} `lmm train` builds a new one.")
        raise typer.Exit(1)
    manifest = found.manifest
    if as_json:
        told = json.loads((found.folder / "manifest.json").read_text(encoding="utf-8"))
        terminal.say_json({**row, "manifest": told})
        return
    terminal.say(f"{found.name}: {row['state'] or 'does not serve'}")
    facts = {
        "made": f"{row['made']} by run {manifest.run}, code {manifest.code_version}, on {manifest.hardware}",
        "base": f"{manifest.base} ({manifest.base_hash})",
        "goes on from": manifest.start or "the base",
        "lessons": f"{manifest.num_lessons:,} ({manifest.lessons_hash}), store {manifest.store_version}",
        "probes": manifest.probes_hash,
        "recipe": ", ".join(f"{name} {value}" for name, value in manifest.recipe.items() if _is_short(value)),
        "libraries": ", ".join(f"{name} {number}" for name, number in manifest.libraries.items()),
        "seed": str(manifest.seed),
        "writes": _writes(manifest.max_sentences),
        "size": f"{row['bytes'] / 1e6:,.1f} MB in {found.folder}",
    }
    for name, fact in facts.items():
        terminal.say(f"  {name + ':':11}{fact}")
    if manifest.verdict is None:
        terminal.say("Nobody has judged it.")
        return
    terminal.say("The gate kept it out:" if isinstance(manifest.verdict, Keep) else "The gate let it pass:")
    for each in manifest.verdict.findings:
        terminal.say(f"  {each.gate}  {'ok  ' if each.passed else 'NO  '}{each.told}")


@_group.command("promote")
def promote(
    version: _VERSION,
    force: Annotated[bool, typer.Option("--force", help="Also one that the gate kept out.")] = False,
) -> None:
    """Let a memory model serve from the next question on.

    One that is damaged, or was trained on something that is forgotten, never serves again.
    """
    from lmm_mcp import artifacts

    home = terminal.home()
    before = artifacts.served(home)
    found = artifacts.promote(home, version, force=force)
    instead = f" instead of {before.name}" if before is not None and before.name != found.name else ""
    terminal.say(f"{found.name} serves{instead} from now on; `lmm model rollback` takes that back")


@_group.command("rollback")
def rollback() -> None:
    """Let the memory model serve that served before."""
    from lmm_mcp import artifacts

    found = artifacts.rollback(terminal.home())
    if found is None:
        terminal.say("no memory model serves now: recall answers without one")
    else:
        terminal.say(f"{found.name} serves again")


@_group.command("export")
def export(
    version: _VERSION,
    to: Annotated[Path, typer.Option("--to", help="A folder to be made.", show_default=False)],
    gguf: Annotated[bool, typer.Option("--gguf", help="Also as GGUF, by llama.cpp's converter.")] = False,
) -> None:
    """Write a memory model merged into its base, for other programs to serve.

    It is compared with the model that serves here before it gets its name. What is forgotten later stays in that copy.

    [dim]lmm model export v0003 --to ~/memory-model --gguf[/]
    """
    from lmm_mcp import artifacts, training

    home = terminal.home()
    found = artifacts.find(home, version)
    problem = found.problem if isinstance(found, artifacts.Torn) else artifacts.damage(found, thoroughly=True)
    if problem:
        raise ModelError(f"{found.name} is damaged: {problem} `lmm train` builds a new one.")
    if isinstance(found, artifacts.Version) and found.unclean is not None:
        raise ModelError(f"{found.name} was trained on something that is forgotten, so it is not given away.")
    target = to.expanduser().absolute()
    if target.exists():
        raise BadInput(f"{target} is there already; name a folder that is not.")
    training.check_installed()
    command = [sys.executable, "-P", "-m", EXPORTER, str(found.folder), str(target)]
    command += ["--bases", str(artifacts.bases_folder(home)), *(["--gguf"] if gguf else [])]
    env = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8", check=False
    )
    told = _last_json(done.stdout)
    if done.returncode or "folder" not in told:
        raise ModelError(
            str(told.get("error") or f"the exporter ended with code {done.returncode}: {done.stderr[-500:]}")
        )
    terminal.say(f"written to {told['folder']} (largest difference of a logit {told['difference']:.2g})")
    if told.get("gguf"):
        terminal.say(f"as GGUF: {told['gguf']}")


def _row(found: "Version | Torn", serving: "Version | None") -> dict[str, Any]:
    from lmm_mcp import artifacts

    row: dict[str, Any] = {"version": found.name, "bytes": artifacts.num_bytes(found.folder)}
    if not isinstance(found, artifacts.Version):
        return row | {"made": "", "base": "", "verdict": "", "state": f"damaged: {found.problem}"}
    state = ""
    if (problem := artifacts.damage(found)) is not None:
        state = f"damaged: {problem}"
    elif found.unclean is not None:
        num = len(found.unclean.threads)
        state = f"unclean: {counted(num, 'source') if num else 'some'} forgotten, never served again"
    elif serving is not None and serving.name == found.name:
        state = "serves"
    made = datetime.fromtimestamp(found.manifest.made_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    verdict = artifacts.verdict_name(found)
    return row | {"made": made, "base": Path(found.manifest.base).name, "verdict": verdict, "state": state}


def _writes(max_sentences: int) -> str:
    if not max_sentences:
        return "nothing, it only chooses lines: sentences of its own did not pass when it was judged, or nobody judged them"
    return f"up to {counted(max_sentences, 'sentence')} of its own, where model.max_sentences and cards ask for them"


def _is_short(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and len(str(value)) < 40


def _last_json(text: str) -> dict[str, Any]:
    try:
        told = json.loads((text.strip().splitlines() or ["{}"])[-1])
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
