"""`lmm train`: have the memory model learn; see, stop and go on with that; keep a schedule. The work is a child's (`trainer`)."""

import os
import subprocess
import sys
import time
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lmm_mcp import config, training, training_runs
from lmm_mcp.cli import setting, terminal
from lmm_mcp.domain import schedule as schedules
from lmm_mcp.errors import BadInput, EngineError, TrainingBusy
from lmm_mcp.paths import Home
from lmm_mcp.server import reach, units

PANEL = "Learn"
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


class _RunUnlessNamed(TyperGroup):
    """`lmm train --seed 2` is `lmm train run --seed 2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See the class."""
        is_named = bool(args) and (args[0] in self.commands or args[0] in ("-h", "--help"))
        return super().parse_args(ctx, args if is_named else ["run", *args])


_group = typer.Typer(
    cls=_RunUnlessNamed,
    no_args_is_help=False,
    rich_markup_mode="rich",
    help="Have the memory model learn from your sessions, on this machine. Without a command: run.",
)
_ASK_s = 2.0
_LOOK_EVERY_s = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(_group, name="train", rich_help_panel=PANEL)


@_group.command("run", context_settings=_PASSED_ON)
def run(
    context: typer.Context,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show lessons, mix, and what time and memory it would take; train nothing."),
    ] = False,
    schedule: Annotated[
        str, typer.Option("--schedule", metavar="WHEN", help=f"Train without being asked: {schedules.FORMS}.")
    ] = "",
    install_unit: Annotated[
        bool,
        typer.Option("--install-unit", help="With --schedule: write the service file that keeps `lmm serve` running."),
    ] = False,
    background: Annotated[
        bool,
        typer.Option("--background", help="Go on after this command has ended; `lmm train log` tells how far it is."),
    ] = False,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Sizes: cpu-tiny, 8gb, 12gb, 24gb, 80gb, mps; auto takes what is found here."
        ),
    ] = "",
    base: Annotated[str, typer.Option(metavar="MODEL", help="The model to start from: a folder, or OWNER/NAME.")] = "",
    stage: Annotated[
        str, typer.Option(metavar="STAGE", help="cpt, sft or both; ranking or embedder for what recall learns.")
    ] = "",
) -> None:
    """Learn from what is remembered, judge the result, and let it speak only if it is better.

    A run that was stopped, or died, is gone on with. The old model serves meanwhile. All dials: `lmm train dials`.

    [dim]lmm train --dry-run[/]

    [dim]lmm train --preset cpu-tiny --seed 2[/]

    [dim]lmm train --schedule nightly[/]
    """
    home = terminal.home()
    if schedule:
        _keep_schedule(home, schedule, installs_unit=install_unit)
        return
    settings = config.load(home.config, os.environ).train
    told = {"--preset": preset or settings.preset, "--base": base or settings.base, "--stage": stage}
    arguments = [part for name, value in told.items() if value for part in (name, value)]
    run_child(home, ["run", *(["--dry-run"] if dry_run else []), *arguments, *context.args], in_background=background)


@_group.command("dials", context_settings=_PASSED_ON)
def dials() -> None:
    """Name every dial of a run, with its meaning and default; each is an option of `lmm train`."""
    run_child(terminal.home(), ["run", "--help"], in_background=False)


@_group.command("make-base", context_settings=_PASSED_ON)
def make_base(context: typer.Context) -> None:
    """Make a small base model out of nothing, for machines without a downloaded one: a quarter of an hour on two cores.

    [dim]lmm train make-base[/]
    """
    run_child(terminal.home(), ["make-base", *context.args], in_background=False)


@_group.command("resume", context_settings=_PASSED_ON)
def resume(
    context: typer.Context,
    background: Annotated[bool, typer.Option("--background", help="Go on after this command has ended.")] = False,
) -> None:
    """Go on with the run that was stopped."""
    home = terminal.home()
    if training_runs.unfinished(home) is None:
        raise BadInput("there is no run to go on with; `lmm train` starts one.")
    run_child(home, ["run", "--resume", *context.args], in_background=background)


@_group.command("stop")
def stop() -> None:
    """Ask the trainer to keep what it has and leave; `lmm train resume` goes on."""
    home = terminal.home()
    if not training.is_busy(home):
        terminal.say("Nothing is trained now.")
        return
    training.ask_to_stop(home, by="user")
    while training.is_busy(home):
        time.sleep(_LOOK_EVERY_s)
    terminal.say("Stopped. `lmm train resume` goes on where it was.")


@_group.command("log")
def log() -> None:
    """Show what was trained, what came of it, and how far the trainer is."""
    home = terminal.home()
    found = list(training_runs.runs(home))
    for folder, state in found:
        came_of_it = state.verdict or ("stopped" if state.stopped_by else f"unfinished, next: {state.next_station}")
        made = f" -> {state.version}" if state.version else ""
        terminal.say(f"{state.run_id}  {came_of_it}{made}")
        for reason in state.reasons:
            terminal.say(f"    {reason}")
        if (folder / "report.html").is_file():
            terminal.say(f"    {folder / 'report.html'}")
    said = training.progress(home)
    if said is not None and training.is_busy(home):
        terminal.say(f"now: {said.station} {100 * said.done:.0f} %  {said.told}")
    elif said is not None and said.error:
        terminal.say(f"last: {said.error}")
    elif not found:
        terminal.say("Nothing was trained yet; `lmm train --dry-run` shows what there is to learn.")
    if told := _engine(home).get("training"):
        terminal.say(f"schedule: {told}")


def run_child(home: Home, arguments: list[str], *, in_background: bool) -> None:
    """Have the trainer do it, and leave with its exit code."""
    if in_background:
        if training.is_busy(home):
            raise TrainingBusy("another training is at work; `lmm train log` shows it, `lmm train stop` ends it.")
        child = training.start(home, os.environ, arguments, to_log=True, outlive_us=True)
        terminal.say(
            f"Training in process {child.pid}; `lmm train log` tells how far it is, `lmm train stop` stops it."
        )
        return
    sys.stdout.flush()
    child = training.start(home, os.environ, arguments)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        terminal.aside("stopping at the next step; what was learned is kept")
        child.let_go()
        code = child.wait(60)
        if code is None:
            child.end()
    if code:
        raise typer.Exit(1 if code < 0 else code)


def _keep_schedule(home: Home, text: str, *, installs_unit: bool) -> None:
    """Write the schedule down, where somebody is there to keep it. Raises BadInput with the reason otherwise."""
    wanted = schedules.parse(text)
    if wanted is None:
        raise BadInput(f"{text!r} is no schedule; write {schedules.FORMS}.")
    if wanted.kind != "off":
        training.check_installed()
        kind = "launchd" if sys.platform == "darwin" else "systemd"
        file = units.place(kind, os.environ)
        if not _engine(home).get("stays") and not file.is_file():
            if not installs_unit:
                raise BadInput(
                    "nobody is there to keep a schedule: `lmm serve` does not run, and no service keeps it running. "
                    "Start `lmm serve`, or add --install-unit to write its service file."
                )
            command = [sys.executable, "-P", "-m", "lmm_mcp", "serve", "--write-unit"]
            subprocess.run(command, env={**os.environ, "LMM_HOME": str(home.root)}, check=True)
    setting.write(home.config, "train.schedule", " ".join(text.lower().split()))
    terminal.say(f"Schedule: {text}. `lmm train log` tells what it does; `lmm train --schedule off` ends it.")


def _engine(home: Home) -> dict[str, object]:
    try:
        return dict(reach.ask(home, {"want": "status"}, _ASK_s))
    except EngineError:
        return {}
