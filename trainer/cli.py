"""`python -m trainer run | make-base | ranking | embedder | experiment`: what `lmm train` and its kin start as a child process.

Words go to standard output, errors as one line to standard error. Exit codes: 0 done (also where the old model was kept, or
the run was stopped and can be gone on with), 1 it could not be done, 2 it was not said right.
"""

import argparse
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lmm_mcp import config, paths, training
from lmm_mcp.errors import BadInput, LmmError
from lmm_mcp.paths import Home
from trainer import presets
from trainer.recipe import METHODS, STAGES, Recipe

_SET_ELSEWHERE = frozenset({"preset", "base", "stage", "method", "pulls", "betas"})
"""Dials that have an option of their own, or none."""

REPLAY = "go on from what serves, and rehearse by how well each memory was held; without: begin at the base, all as if it were new"


def main() -> NoReturn:
    """Do what the command line asks for."""
    # A wish for stdin's end must be noticed by a thread; torch's own threads do not mind being left.
    code = 1
    try:
        code = _run(sys.argv[1:])
    except LmmError as problem:
        sys.stderr.write(f"lmm: {problem}\n")
    except OSError as problem:
        sys.stderr.write(
            f"lmm: {problem.strerror or problem}: {problem.filename or 'no file named'}. `lmm doctor` looks for the reason.\n"
        )
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(arguments: Sequence[str]) -> int:
    os.umask(0o077)
    told = parser().parse_args(arguments)
    home = paths.home_of(os.environ).ensure()
    should_stop = _stopping(home, leaves_with_parent=told.leave_with_parent)
    code: int = told.does(home, told, should_stop)
    return code


def parser() -> argparse.ArgumentParser:
    """What may be said on the command line."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", prog="lmm train", help="one training run, or what is left of one", usage="lmm train [DIAL ...]"
    )
    run.set_defaults(does=_train)
    run.add_argument("--dry-run", action="store_true", help="show lessons, mix, time and memory; train nothing")
    run.add_argument("--resume", action="store_true", help="go on with the run that was stopped, by its own recipe")
    run.add_argument("--only-check", action="store_true", help=argparse.SUPPRESS)
    run.add_argument("--by-schedule", action="store_true", help=argparse.SUPPRESS)
    run.add_argument("--fresh", action="store_true", help="start anew, also where a run could be gone on with")
    run.add_argument("--stage", choices=[*STAGES, "ranking", "embedder"], default=None, help="default both")
    run.add_argument(
        "--from-checkpoint",
        default="",
        metavar="RUN|FOLDER",
        help="start from what that run, or adapter, has learned; `base`: from the base; default: what serves now, if it fits",
    )
    run.add_argument("--replay", action=argparse.BooleanOptionalAction, default=True, help=REPLAY)
    run.add_argument(
        "--placebo",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="train the same on another's lessons, for comparison",
    )
    run.add_argument("--no-promote", action="store_true", help="judge, but let the old model serve in any case")
    _add_dials(run)
    _add_leaving(run)
    return _with_others(parser, commands)


def _add_dials(parser: argparse.ArgumentParser) -> None:
    """What every training may be told: what it learns, from when, and the dials of its recipe."""
    parser.add_argument("--preset", default="auto", help="sizes that fit a machine; default auto")
    parser.add_argument("--base", default="", help="model to start from; default: what the preset says")
    parser.add_argument("--method", choices=METHODS, default=None)
    parser.add_argument("--slices", default="", metavar="A,B", help="kinds of lessons; default all")
    parser.add_argument(
        "--renderings", type=int, default=0, metavar="N", help="wordings of a fact; 0: what the preset says"
    )
    parser.add_argument(
        "--use-chunk-pairs", action=argparse.BooleanOptionalAction, default=True, help="teach context -> memory"
    )
    parser.add_argument(
        "--max-per-memory", type=int, default=3, metavar="N", help="lessons of one kind on one memory; default 3"
    )
    parser.add_argument("--max-lessons", type=int, default=0, metavar="N", help="0: what the preset says")
    parser.add_argument("--until", default="", metavar="DATE", help="learn from nothing later than this day")
    parser.add_argument(
        "--processes", type=int, default=None, metavar="N", help="that train together here, one on each GPU; default 1"
    )
    for dial in dataclasses.fields(Recipe):
        if dial.name in _SET_ELSEWHERE:
            continue
        kind = type(dial.default)
        option: dict[str, Any] = {
            "default": None,
            "dest": f"dial_{dial.name}",
            "help": f"default {presets.default(dial.name)}",
        }
        if kind is bool:
            option["action"] = argparse.BooleanOptionalAction
        else:
            option |= {"type": kind, "metavar": kind.__name__.upper()}
        parser.add_argument(f"--{dial.name.replace('_', '-')}", **option)


def _with_others(parser: argparse.ArgumentParser, commands: Any) -> argparse.ArgumentParser:
    base = commands.add_parser("make-base", prog="lmm train make-base", help="make a small base model")
    base.set_defaults(does=_make_base)
    base.add_argument("--name", default="tiny", help="default tiny")
    base.add_argument(
        "--size",
        default="small",
        help="small (one million parameters), default (three) or medium (88, for a GPU); default small",
    )
    base.add_argument("--items", type=int, default=0, help="pieces of text to learn from; 0: what the size says")
    base.add_argument("--minutes", type=float, default=0, help="instead: as many as so long allows; 0: no limit")
    base.add_argument("--seed", type=int, default=0)
    base.add_argument("--again", action="store_true", help="make it anew where it is there")
    _add_leaving(base)
    ranking = commands.add_parser("ranking", prog="lmm train --stage ranking", help="learn the order of lines")
    ranking.set_defaults(does=_train, stage="ranking", dry_run=False)
    _add_leaving(ranking)
    embedder = commands.add_parser("embedder", prog="lmm train --stage embedder", help="fit the sentence model")
    embedder.set_defaults(does=_train, stage="embedder", dry_run=False)
    _add_leaving(embedder)
    experiment = commands.add_parser(
        "experiment",
        prog="lmm experiment",
        help="compare recipes on this memory",
        usage="lmm experiment NAME [DIAL ...]",
    )
    experiment.set_defaults(
        does=_experiment, stage=None, replay=True, placebo=False, no_promote=True, from_checkpoint=""
    )
    experiment.add_argument("name", metavar="NAME", help="lmm-runs")
    experiment.add_argument(
        "--max-probes", type=int, default=60, metavar="N", help="asked of each run; default 60, 0: all"
    )
    _add_dials(experiment)
    experiment.set_defaults(max_lessons=400, dial_max_steps=100)
    _add_leaving(experiment)
    learn = commands.add_parser("learn")  # one of several processes of a run; not for people
    learn.set_defaults(does=_learn, leave_with_parent=False)
    learn.add_argument("folder", type=Path)
    learn.add_argument("name")
    learn.add_argument("rank", type=int)
    learn.add_argument("num_processes", type=int)
    return parser


def _add_leaving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(training.LEAVE_WITH_US, action="store_true", help=argparse.SUPPRESS)


def _train(home: Home, told: argparse.Namespace, should_stop: Callable[[], str]) -> int:
    if told.stage in ("ranking", "embedder"):
        if told.dry_run:
            raise BadInput(f"--stage {told.stage} has no dry run: what it fits is kept only where it is of use.")
        if dials := dials_of(told):
            names = " ".join(f"--{name.replace('_', '-')}" for name in dials)
            raise BadInput(f"--stage {told.stage} is no training of the memory model; leave out {names}.")
        from trainer import ranking

        fit = ranking.fit_order if told.stage == "ranking" else ranking.fit_model
        with training.at_work(home):
            return fit(home, os.environ, should_stop, _say)
    from trainer import run  # loads torch

    if told.by_schedule:  # nobody is there to say more than the settings do
        settings = config.load(home.config, os.environ).train
        told.preset, told.base, told.processes = settings.preset, settings.base, settings.processes
    return run.main(home, told, dials_of(told), should_stop, _say)


def _experiment(home: Home, told: argparse.Namespace, should_stop: Callable[[], str]) -> int:
    from trainer import experiments  # loads torch

    return experiments.main(home, told, dials_of(told), should_stop, _say)


def _learn(home: Home, told: argparse.Namespace, should_stop: Callable[[], str]) -> int:
    from trainer import taught, together  # loads torch

    return taught.take_part(home, together.Seat(told.folder, told.name, told.rank, told.num_processes), should_stop)


def dials_of(told: argparse.Namespace) -> dict[str, Any]:
    """Those of the recipe that were given."""
    named = {name.removeprefix("dial_"): value for name, value in vars(told).items() if name.startswith("dial_")}
    return {name: value for name, value in named.items() if value is not None}


def _make_base(home: Home, told: argparse.Namespace, should_stop: Callable[[], str]) -> int:
    from trainer import making

    return making.make_base(home, told, should_stop, _say)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()  # who waits for a quarter of an hour wants to see that something happens


def _stopping(home: Home, *, leaves_with_parent: bool) -> Callable[[], str]:
    """What tells who wants this process to stop, '' while nobody does: a file, a signal, or the end of our parent."""
    by_signal: list[str] = []
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: by_signal.append("user"))
    if leaves_with_parent:
        threading.Thread(target=_wait_for_parent, args=(by_signal,), daemon=True).start()

    def who() -> str:
        # What was written down says who it was; a closed pipe says only that our parent is gone.
        return training.stop_wanted(home) or (by_signal[0] if by_signal else "")

    return who


def _wait_for_parent(by_signal: list[str]) -> None:
    while sys.stdin.buffer.read(1024):
        pass
    by_signal.append("schedule")
