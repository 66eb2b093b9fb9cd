"""Score sheets, verdicts and manifests as JSON. With a version only figures are kept: what a model said stays in its run."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmm_mcp.domain.verdict import Finding, Keep, Outcome, Promote, Said, ScoreSheet, Verdict

FORMAT = 1
_SAID = "output"
_OUTCOME = tuple(each.name for each in dataclasses.fields(Outcome))


@dataclass(frozen=True, slots=True)
class FileMark:
    """One file of a version, by which damage is found."""

    path: str
    """Below the version's folder, with `/`."""
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that a memory model depends on: with the same of all this the same model can be built again."""

    base: str
    """The base model, as it is loaded: a name or a path."""
    base_hash: str
    store_version: str
    """Of the store that the lessons were made from."""
    lessons_hash: str
    probes_hash: str
    recipe: Mapping[str, Any]
    seed: int
    run: str
    """Id of the run that made it."""
    code_version: str
    libraries: Mapping[str, str]
    """Versions of torch, transformers and peft."""
    hardware: str
    verdict: Verdict | None
    """None: nobody has judged it."""
    num_lessons: int = 0
    made_ms: int = 0
    """UTC."""
    until_ms: int = 0
    """It learned from nothing later than this; 0 where that is not known."""
    max_sentences: int = 0
    """Of its own that it may write into a brief or a card: those it wrote when it was judged passed. 0: it only chooses lines."""
    start: str = ""
    """What it goes on from: a version, a run or a folder; '' = the base."""
    files: tuple[FileMark, ...] = field(default=())
    """Filled by `commit`."""


def manifest_told(manifest: Manifest) -> dict[str, Any]:
    """As JSON."""
    told = dataclasses.asdict(dataclasses.replace(manifest, verdict=None))
    return {"format": FORMAT, **told, "verdict": verdict_told(manifest.verdict)}


def manifest_of(told: Any) -> Manifest:
    """Out of JSON. Raises ValueError where it is none or a later one."""
    try:
        if told["format"] != FORMAT:
            raise ValueError(f"it is of format {told['format']}")
        files = tuple(
            FileMark(str(each["path"]), int(each["size"]), int(each["mtime_ns"]), str(each["sha256"]))
            for each in told["files"]
        )
        if not files:
            raise ValueError("it names no files")
        return Manifest(
            base=str(told["base"]),
            base_hash=str(told["base_hash"]),
            store_version=str(told["store_version"]),
            lessons_hash=str(told["lessons_hash"]),
            probes_hash=str(told["probes_hash"]),
            recipe=dict(told["recipe"]),
            seed=int(told["seed"]),
            run=str(told["run"]),
            code_version=str(told["code_version"]),
            libraries={str(name): str(version) for name, version in told["libraries"].items()},
            hardware=str(told["hardware"]),
            verdict=verdict_of(told["verdict"]),
            num_lessons=int(told["num_lessons"]),
            made_ms=int(told["made_ms"]),
            until_ms=int(told.get("until_ms", 0)),
            max_sentences=int(told.get("max_sentences", 0)),
            start=str(told.get("start", "")),
            files=files,
        )
    except (TypeError, KeyError, AttributeError) as problem:
        raise ValueError(f"{type(problem).__name__}: {problem}") from problem


def verdict_told(verdict: Verdict | None) -> dict[str, Any] | None:
    """As JSON."""
    if verdict is None:
        return None
    findings = [
        {"gate": each.gate, "passed": each.passed, "told": each.told, "figures": dict(each.figures)}
        for each in verdict.findings
    ]
    return {"decided": "promote" if isinstance(verdict, Promote) else "keep", "findings": findings}


def verdict_of(told: Any) -> Verdict | None:
    """Out of JSON. Raises TypeError, KeyError or ValueError where it is none."""
    if told is None:
        return None
    findings = tuple(
        Finding(
            str(each["gate"]),
            each["passed"] is True,
            str(each["told"]),
            {str(name): float(value) for name, value in each["figures"].items()},
        )
        for each in told["findings"]
    )
    match told["decided"]:
        case "promote":
            return Promote(findings)
        case "keep":
            return Keep(findings)
        case other:
            raise ValueError(f"it is decided {other!r}")


def sheet_told(sheet: ScoreSheet, *, with_outputs: bool = False) -> dict[str, Any]:
    """As JSON. with_outputs: also what the model said, which the gate asks for; for the run's own folder alone."""
    return {
        "format": FORMAT,
        "model": sheet.model,
        "probes_hash": sheet.probes_hash,
        "median_loss_nats": sheet.median_loss_nats,
        "adapter_bytes": sheet.adapter_bytes,
        "p95_ms": sheet.p95_ms,
        "max_sentences": sheet.max_sentences,
        "by_category": {
            arm: {name: dataclasses.asdict(each) for name, each in found.items()}
            for arm, found in sheet.by_category.items()
        },
        "outcomes": {
            arm: [_outcome_told(each, with_outputs) for each in outcomes] for arm, outcomes in sheet.outcomes.items()
        },
    }


def sheet_of(told: Any) -> ScoreSheet | None:
    """Out of JSON; None where it is none, or a later one."""
    try:
        if told["format"] != FORMAT:
            return None
        return ScoreSheet(
            model=str(told["model"]),
            probes_hash=str(told["probes_hash"]),
            outcomes={str(arm): _outcomes_of(outcomes) for arm, outcomes in told["outcomes"].items()},
            median_loss_nats=float(told["median_loss_nats"]),
            adapter_bytes=int(told["adapter_bytes"]),
            p95_ms=float(told["p95_ms"]),
            max_sentences=int(told.get("max_sentences", 0)),
            by_category={
                str(arm): {str(name): Said(**each) for name, each in found.items()}
                for arm, found in told.get("by_category", {}).items()  # older sheets have none
            },
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _outcome_told(outcome: Outcome, with_output: bool) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in _OUTCOME if with_output or name != _SAID}


def _outcomes_of(told: Iterable[Mapping[str, Any]]) -> tuple[Outcome, ...]:
    return tuple(Outcome(**{name: value for name, value in each.items() if name in _OUTCOME}) for each in told)
