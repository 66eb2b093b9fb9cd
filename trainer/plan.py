"""What a run is to do: recipe, lessons, and what else. Written into its folder, so that it is gone on with by the same."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmm_mcp.artifacts import durable
from lmm_mcp.errors import TrainingError
from trainer import recipe as recipes
from trainer.lessons import Options
from trainer.recipe import Recipe

FILE = "plan.json"
NEEDED = ("choice", "brief", "fact")
"""Kinds of lessons without which nothing is trained, unless the user names others."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that was asked for."""

    recipe: Recipe = field(default_factory=Recipe)
    options: Options = field(default_factory=Options)
    needed: tuple[str, ...] = NEEDED
    """Kinds of lessons without which the run stops; of the others it only says that there are none."""
    until_ms: int = 0
    """Nothing later is learned from; 0 = no such limit."""
    max_lessons: int = 0
    """Rehearsed in this run, 0 = all; shared out over the kinds of lessons as they are."""
    most: tuple[tuple[str, int], ...] = ()
    """Of a kind of lessons at most so many; of those not named any number."""
    repeats: tuple[tuple[str, int], ...] = ()
    """How often lessons of a kind are seen in one epoch, for those that are seen more than once."""
    replay: bool = True
    placebo: bool = True
    promotes: bool = True
    from_checkpoint: str = ""
    """A run's id, a version, or a folder with an adapter to go on from."""
    start_is_implied: bool = False
    """Nobody named it: it is what served when the run began."""
    eases: bool = False
    """Where it goes on from weights, it learns at half the rate."""
    processes: int = 1
    """That train together on this machine."""

    @property
    def followed(self) -> Recipe:
        """The recipe by which lessons are learned: that of the plan, at half the rate where it goes on from weights."""
        return self.recipe.at_half_rate() if self.eases and self.from_checkpoint else self.recipe

    @property
    def hash(self) -> str:
        """Of everything that was asked for but processes, of which nothing depends that is learned: 16 hexadecimal digits."""
        tree = _tree(self)
        del tree["processes"]
        if tree.pop("start_is_implied"):
            del tree["from_checkpoint"]  # what serves may change while the run is not done, by the run itself at last
        return hashlib.blake2b(_json(tree).encode(), digest_size=8).hexdigest()


def save(plan: Plan, folder: Path) -> None:
    """Write it into a run's folder. Raises OSError."""
    durable.write(folder / FILE, _json(_tree(plan)).encode())


def load(folder: Path) -> Plan:
    """Read it from there. Raises TrainingError where it cannot be understood."""
    try:
        tree: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        options = _tupled(tree.pop("options"))
        for name in ("needed", "most", "repeats"):
            tree[name] = tuple(tuple(each) if isinstance(each, list) else each for each in tree[name])
        return Plan(recipe=recipes.from_json(json.dumps(tree.pop("recipe"))), options=Options(**options), **tree)
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise TrainingError(
            f"the plan of the run in {folder} cannot be read: {problem}. Start anew with `lmm train --fresh`."
        ) from problem


def _tree(plan: Plan) -> dict[str, Any]:
    return {**dataclasses.asdict(plan), "recipe": json.loads(recipes.to_json(plan.recipe))}


def _json(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, indent=1, sort_keys=True)


def _tupled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
