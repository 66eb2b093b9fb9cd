"""`lmm train make-base`: a small base model for a memory home, made here out of text alone."""

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

from filelock import Timeout

from lmm_mcp import artifacts, training
from lmm_mcp.artifacts import durable
from lmm_mcp.errors import TrainingBusy
from lmm_mcp.paths import Home
from trainer import base


def make_base(home: Home, told: argparse.Namespace, who_stops: Callable[[], str], say: Callable[[str], None]) -> int:
    """Make it, or go on with it; an exit code. Raises TrainingError, BadInput, OSError."""
    target = artifacts.base_folder(home, told.name)
    if (target / "config.json").is_file() and not told.again:
        say(f"the base {told.name} is there: {target}. --again makes it anew.")
        return 0
    durable.make_folder(target.parent)
    began_s = time.monotonic()

    def log(line: Mapping[str, Any]) -> None:
        if line["step"] * 20 // line["num_steps"] > (line["step"] - 1) * 20 // line["num_steps"]:
            say(
                f"  {line['step']}/{line['num_steps']}: loss {line['loss_mean']:.3f}, {line['tokens_per_s']:.0f} tokens/s"
            )

    try:
        with training.lock(home).acquire(timeout=training.PATIENCE_s):
            training.forget_stop(home)
            is_done = base.make_base(
                target,
                seed=told.seed,
                size=told.size,
                num_items=told.items,
                minutes=told.minutes,
                should_stop=lambda: bool(who_stops()),
                log=log,
            )
    except Timeout as problem:
        raise TrainingBusy(
            "another training is at work; `lmm train log` shows it, `lmm train stop` ends it."
        ) from problem
    say(
        f"made the base {told.name} in {(time.monotonic() - began_s) / 60:.1f} min: {target}"
        if is_done
        else "stopped; the same command goes on where it was"
    )
    return 0
