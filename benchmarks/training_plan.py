"""Which rows training.py measures, in which order. Without torch: the process that starts the rows must hold no GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

KINDS = ("speed", "presets", "briefs")
OF_PRESET = {"8gb": "1.7b", "12gb": "1.7b", "24gb": "4b", "80gb": "4b"}
"""The shape of the base that a preset has; a test holds it against trainer/presets.py."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is to be measured."""

    kind: str
    """`machine`, `ours`, `trl`, `unsloth`, `preset` or `briefs`."""
    shape: str = "tiny"
    preset: str = "80gb"
    checkpointing: bool = True
    """Activations are computed again instead of kept."""
    packing: bool = False
    """Of TRL, then with Liger's kernels."""
    rate: float = 0.0
    """Operations a second of a matrix product, measured in this run."""

    @property
    def shrunk(self) -> int:
        """How many times shorter rows are than on a GPU."""
        return 16 if self.shape == "tiny" else 1

    @property
    def seq_len(self) -> int:
        """Tokens of a row, where no preset says so."""
        return 4096 // self.shrunk


def planned(kinds: Sequence[str], shapes: Sequence[str], *, rate: float) -> Iterator[Row]:
    """All rows: what is compared stands together."""
    if "speed" in kinds:
        for shape in shapes:
            yield Row("ours", shape, rate=rate)
            yield Row("ours", shape, checkpointing=False, rate=rate)
            yield Row("trl", shape, rate=rate)
            yield Row("trl", shape, packing=True, rate=rate)
            yield Row("trl", shape, packing=True, checkpointing=False, rate=rate)
            yield Row("unsloth", shape, rate=rate)
    if "presets" in kinds:
        for preset, shape in OF_PRESET.items():
            yield Row("preset", "tiny" if "tiny" in shapes else shape, preset, rate=rate)
    if "briefs" in kinds:
        for shape in shapes:
            yield Row("briefs", shape, rate=rate)


def needed(row: Row) -> tuple[str, ...]:
    """Modules that must be there, of others' packages."""
    if row.kind == "unsloth":
        return ("unsloth", "trl", "datasets")
    if row.kind == "trl":
        return ("trl", "datasets", *(("liger_kernel",) if row.packing else ()))
    return ()


def name_of(row: Row) -> str:
    """As in the table."""
    again = "" if row.checkpointing else ", activations kept"
    match row.kind:
        case "ours":
            return f"{row.shape} ours{again}"
        case "trl" if row.packing:
            return f"{row.shape} TRL, packing and Liger{again}"
        case "trl":
            return f"{row.shape} TRL, its defaults"
        case "unsloth":
            return f"{row.shape} Unsloth, packing"
        case "preset":
            return f"preset {row.preset} at {row.shape}"
        case _:
            return f"{row.shape} {row.kind}"
