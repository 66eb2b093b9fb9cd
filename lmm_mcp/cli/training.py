"""`lmm train`: have the memory model learn; see, stop and go on with that; keep a schedule. The work is a child's (`trainer`)."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lmm_mcp import artifacts, config, training, training_runs
from lmm_mcp.cli import setting, terminal
from lmm_mcp.domain import schedule as schedules
from lmm_mcp.errors import BadInput, EngineError, TrainingBusy
from lmm_mcp.paths import Home
from lmm_mcp.server import reach, units
from lmm_mcp.server.expand import moment

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
_Runs = list[tuple[Path, training_runs.RunState]]
_ASK_s = 2.0
_LOOK_EVERY_s = 0.5
_GRACE_s = 60.0
"""For a trainer that was asked to stop: the longest step should be over by then."""
_PLACES = ("--base", "--from-checkpoint")
"""Options that may name a folder."""
_NUM_SHOWN = 5
"""Of a line that is read, not looked at."""


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
    processes: Annotated[
        int | None, typer.Option(metavar="N", help="So many train together here, one on each GPU; default 1.")
    ] = None,
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
    if install_unit and not schedule:
        raise BadInput("--install-unit goes with --schedule; `lmm serve --write-unit` writes the service file alone.")
    if schedule == "after" and context.args:  # as people write it: `--schedule after 500`
        schedule = f"after {context.args.pop(0)}"
    home = terminal.home()
    settings = config.load(home.config, os.environ).train
    given = {"preset": preset, "base": _absolute(base), "processes": processes}
    given = {name: value for name, value in given.items() if value not in ("", None)}
    usual = {"preset": settings.preset, "base": settings.base, "processes": settings.processes}
    # One process is not named, so that a run that began with several is gone on with by them.
    told = {**{name: value for name, value in usual.items() if value not in ("", 1)}, **given}
    arguments = [f"--{name}={value}" for name, value in told.items()]
    if schedule:
        others = {
            "--dry-run": dry_run,
            "--background": background,
            "--stage": stage,
            " ".join(context.args): context.args,
        }
        if refused := [name for name, is_given in others.items() if is_given]:
            raise BadInput(f"a schedule keeps --preset, --base and --processes only; leave out {' '.join(refused)}.")
        _keep_schedule(home, schedule, given, arguments, installs_unit=install_unit)
        return
    if stage:
        arguments.append(f"--stage={stage}")
    run_child(home, ["run", *(["--dry-run"] if dry_run else []), *arguments, *context.args], in_background=background)


@_group.command("dials", context_settings=_PASSED_ON)
def dials() -> None:
    """Name every dial of a run, with its meaning and default; each is an option of `lmm train`."""
    run_child(terminal.home(), ["run", "--help"], in_background=False)


@_group.command("make-base", context_settings=_PASSED_ON)
def make_base(context: typer.Context) -> None:
    """Make a small base model out of nothing, for machines without a downloaded one: eleven minutes of one core.

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
def log(
    is_whole: Annotated[bool, typer.Option("--all", help=f"Every run, not only the last {_NUM_SHOWN}.")] = False,
) -> None:
    """Show how far the trainer is, and what came of the last runs, newest first.

    [dim]lmm train log[/]
    """
    home = terminal.home()
    now_ms = time.time_ns() // 1_000_000
    said, is_busy = training.progress(home), training.is_busy(home)
    found = list(training_runs.runs(home))
    if said is not None and is_busy:
        minutes = max(0, now_ms - said.started_ms) // 60_000
        terminal.say(
            f"now: {said.station} {100 * said.done:.0f} %{f', {said.told}' if said.told else ''}, since {minutes} min"
        )
    elif is_busy:
        terminal.say("now: a training begins")
    elif said is not None and said.error:
        terminal.say(f"last: {said.error}")
    elif not found:
        terminal.say("Nothing was trained yet; `lmm train --dry-run` shows what there is to learn.")
    if told := _engine(home).get("training"):
        terminal.say(f"schedule: {told}")
    at_work = said.run_id if said is not None and is_busy else ""
    entries = list(_entries(found))
    for entry in entries if is_whole else entries[:_NUM_SHOWN]:
        for line in _told(entry, at_work):
            terminal.say(line)
    if (rest := len(entries) - _NUM_SHOWN) > 0 and not is_whole:
        terminal.say(f"and {rest} before (`lmm train log --all`)")


def _entries(found: _Runs) -> Iterator[_Runs]:
    """Runs one by one; those of an experiment together."""
    experiments: dict[str, _Runs] = {}
    for each in found:
        if each[1].verdict != training_runs.EXPERIMENT:
            yield [each]
            continue
        name = each[1].options_hash.rpartition("-")[0]
        if name not in experiments:
            experiments[name] = []
            yield experiments[name]
        experiments[name].append(each)


def _told(those: _Runs, at_work: str) -> Iterator[str]:
    folder, state = those[0]
    if state.verdict == training_runs.EXPERIMENT:
        done = sum(not each.is_unfinished for _, each in those)
        yield f"{moment(those[-1][1].started_ms)}  experiment: {done} of {len(those)} models compared"
        return
    is_void = state.is_unfinished and artifacts.is_unclean(folder)
    came_of = _came_of(state, is_at_work=state.run_id == at_work)
    yield f"{moment(state.started_ms)}  {'ended: something that it read was forgotten' if is_void else came_of}"
    yield from (f"    {reason}" for reason in state.reasons)
    if (folder / "report.html").is_file():
        yield f"    {folder / 'report.html'}"


def _came_of(state: training_runs.RunState, *, is_at_work: bool) -> str:
    """A run in a few words."""
    minutes = (state.ended_ms - state.started_ms) // 60_000 if state.ended_ms else 0
    about = f" ({int(state.figures.get('lessons', 0)):,} lessons, {minutes} min)" if state.ended_ms else ""
    version = f"{state.version} " if state.version else ""
    match state.verdict:
        case "promote":
            return f"{version}passed every gate{about}"
        case "keep":
            return f"{version}was kept out{about}:"
        case "failed":
            return "failed:"
    if is_at_work:
        return "at work"
    why = (
        f"stopped{' by the schedule' if state.stopped_by == 'schedule' else ''}" if state.stopped_by else "interrupted"
    )
    return f"{why} before {state.next_station}; `lmm train resume` goes on"


def run_child(home: Home, arguments: list[str], *, in_background: bool) -> None:
    """Have the trainer do it, and leave with its exit code."""
    arguments = _from_anywhere(arguments)
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
        child.ask_to_stop(by="user")
        child.let_go()
        code = child.wait(_GRACE_s)
        if code is None:
            child.end()
            code = child.wait()
            if arguments[0] == "run":
                training_runs.note_stop(home, by="user")
            terminal.aside("it did not stop in time and was ended; what it did since its last checkpoint is done again")
    finally:
        child.let_go()
    if code:
        raise typer.Exit(1 if code < 0 else code)


def _from_anywhere(arguments: list[str]) -> list[str]:
    """The same with folders named as they are known everywhere: the trainer does not stand where we do."""
    found = []
    for number, each in enumerate(arguments):
        name, sign, value = each.partition("=")
        if sign and name in _PLACES:
            found.append(f"{name}={_absolute(value)}")
        else:
            found.append(_absolute(each) if number and arguments[number - 1] in _PLACES else each)
    return found


def _absolute(name: str) -> str:
    """A folder as it is known everywhere; what names none here, or may be a version's or a model's name, as it is."""
    is_path = "/" in name or os.sep in name or name.startswith(("~", "."))
    path = Path(name).expanduser()
    return str(path.absolute()) if is_path and path.is_dir() else name


def _keep_schedule(
    home: Home, text: str, kept: Mapping[str, str | int | None], arguments: list[str], *, installs_unit: bool
) -> None:
    """Write the schedule down, where somebody is there to keep it. Raises BadInput with the reason otherwise.

    `kept`: settings of `train` to write; the trainer says before whether `arguments`, which a run has with them, can be.
    """
    wanted = schedules.parse(text)
    if wanted is None:
        raise BadInput(f"{text!r} is no schedule; write {schedules.FORMS}.")
    if wanted.kind != "off":
        training.check_installed()
        if kept:
            run_child(home, ["run", "--only-check", *arguments], in_background=False)
        kind = "launchd" if sys.platform == "darwin" else "systemd"
        file = units.place(kind, os.environ)
        if not _engine(home).get("stays") and not file.is_file():
            if not installs_unit:
                raise BadInput(
                    "nobody is there to keep a schedule: `lmm serve` does not run, and no service keeps it running. "
                    "Start `lmm serve`, or add --install-unit to write its service file."
                )
            command = [sys.executable, "-P", "-m", "lmm_mcp", "serve", "--write-unit"]
            if subprocess.run(command, env={**os.environ, "LMM_HOME": str(home.root)}, check=False).returncode:
                raise BadInput("the service file could not be written, so no schedule is kept. Start `lmm serve`.")
    for name, value in kept.items():
        setting.write(home.config, f"train.{name}", value)
    setting.write(home.config, "train.schedule", " ".join(text.lower().split()))
    terminal.say(f"Schedule: {text}. `lmm train log` tells what it does; `lmm train --schedule off` ends it.")


def _engine(home: Home) -> dict[str, object]:
    try:
        return dict(reach.ask(home, {"want": "status"}, _ASK_s))
    except EngineError:
        return {}
