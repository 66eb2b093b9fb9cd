"""What a run will take, before it is begun: its steps as the loop will cut them, the placebo, the judging. Estimates, no promises.

By what an earlier run with the same preset, base and method measured here, where there is one; else by what such a device is
taken to do.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lmm_mcp import artifacts, training_runs
from lmm_mcp.errors import TrainingError
from lmm_mcp.paths import Home
from trainer import plan as plans
from trainer import planning, presets
from trainer.plan import Plan
from trainer.recipe import Recipe

TOKENS_of_placebo = 35_000
"""Of the invented lessons of a placebo, seen once; of 3.7 characters each, as the small base's tokenizer has them."""
TOKENS_of_probe = 19_000
"""What judging one probe costs in all arms, as tokens that are only read: 132 s for 83 probes and a million parameters on two
cores. A token that is written takes as long as many that are read."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What is there to learn from, and to judge by."""

    lesson_tokens: int
    """Seen once."""
    text_tokens: int
    num_probes: int
    made_s: float
    """What making it took."""
    num_parameters: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What it will take."""

    steps: Mapping[str, int]
    """By stage."""
    seconds: Mapping[str, float]
    """By station; a station that has nothing to do is missing."""
    memory_bytes: int
    """On the device, at most."""
    measured_by: str
    """Id of the run whose figures these are made of, '' for none."""

    def told(self, preset: str, device: str) -> str:
        """In one line."""
        steps = ", ".join(f"{num} steps of {stage}" for stage, num in self.steps.items())
        parts = ", ".join(f"{name} {_minutes(seconds)}" for name, seconds in self.seconds.items())
        by = f"the figures of run {self.measured_by}" if self.measured_by else "what such a device is taken to do"
        return (
            f"{preset}: about {max(1, round(sum(self.seconds.values()) / 60))} min and {self.memory_bytes / 1e9:.1f} GB, on {device}: "
            f"{parts}; {steps} (an estimate, by {by})"
        )


def cost_of(home: Home, plan: Plan, amount: Amount) -> Cost:
    """Estimate it. Raises ModelError where the base of the plan is not here."""
    recipe, (run_id, before) = plan.recipe, _earlier(home, plan)
    seen = {"cpt": (amount.text_tokens, recipe.cpt_epochs), "sft": (amount.lesson_tokens, recipe.epochs)}
    steps, num_tokens = {}, 0
    for stage in recipe.stages:
        steps[stage], of_stage = _steps(plan, *seen[stage])
        num_tokens += of_stage
    speed = before.get("tokens/s", 0.0)
    whole = presets.estimate(recipe, num_tokens, num_parameters=amount.num_parameters, tokens_per_s=speed)
    seconds = {"facts and lessons": before.get("facts s", 0.0) + amount.made_s, "training": whole.seconds}
    num_steps = steps.get("sft", 0)
    if plan.placebo and not planning.placebo_folder(home, plan, num_steps).is_dir():
        as_long = replace(plan, recipe=planning.placebo_recipe(recipe, num_steps))
        _, of_placebo = _steps(as_long, TOKENS_of_placebo, recipe.epochs)
        rate = before.get("placebo tokens/s", speed)
        seconds["placebo"] = presets.estimate(
            recipe, of_placebo, num_parameters=amount.num_parameters, tokens_per_s=rate
        ).seconds
    seconds["judging"] = _judging_s(home, plan, amount, before)
    return Cost(steps, seconds, whole.memory_bytes, run_id)


def _steps(plan: Plan, tokens: int, epochs: float) -> tuple[int, int]:
    """Steps of a stage, as `tokens.steps_of` cuts them, and the tokens that go through in them."""
    recipe = plan.recipe
    if not tokens:
        return 0, 0
    a_look = math.ceil(tokens / recipe.tokens_per_step)
    num = max(recipe.min_steps, math.ceil(epochs * tokens / recipe.tokens_per_step))
    num = min(num, recipe.max_steps) if recipe.max_steps else num
    return num, round(num * tokens / a_look)


def _judging_s(home: Home, plan: Plan, amount: Amount, before: Mapping[str, float]) -> float:
    if before.get("judging s") and before.get("probes"):
        return before["judging s"] / before["probes"] * amount.num_probes
    tokens = TOKENS_of_probe * amount.num_probes
    times = 2 if artifacts.served(home) is not None else 1  # what serves now is asked the same
    read = presets.reading_s(plan.recipe, tokens, num_parameters=amount.num_parameters)
    return times * read


def _earlier(home: Home, plan: Plan) -> tuple[str, Mapping[str, float]]:
    """The newest run of this kind that learned and judged to its end, and its figures; '' and nothing where there is none."""
    for folder, state in training_runs.runs(home):
        if "tokens/s" not in state.figures or "judging s" not in state.figures:
            continue
        try:
            recipe = plans.load(folder).recipe
        except TrainingError:
            continue
        if _kind(recipe) == _kind(plan.recipe):
            return state.run_id, state.figures
    return "", {}


def _kind(recipe: Recipe) -> tuple[str, ...]:
    return recipe.preset, recipe.base, recipe.method, recipe.device


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
