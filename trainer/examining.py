"""A candidate before its judges: the models of a run, asked through the probes, with what they said kept beside the figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmm_mcp import artifacts, config
from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.verdict import Outcome, ScoreSheet
from lmm_mcp.errors import ModelError
from lmm_mcp.model import network
from lmm_mcp.paths import Home
from lmm_mcp.store.terms import terms
from trainer import canaries, engine, gathering, judging
from trainer.canaries import Extraction
from trainer.judging import Dials, Judged
from trainer.plan import Plan
from trainer.recalling import Recalls
from trainer.speaking import NetworkSpeaker

SERVED = "retrieval + weights"
MAX_SAMPLES = 12


@dataclass(frozen=True, slots=True)
class Examined:
    """What the gate hears."""

    base: ScoreSheet
    old: ScoreSheet | None
    """What serves now; None where nothing does."""
    new: ScoreSheet
    samples: list[dict[str, str]]
    """Prompt, before, after, expected."""
    learned: list[str]
    """Prompts of facts that were not known before and are now."""
    forgotten: list[str]
    canaries: list[Extraction]
    shown: frozenset[tuple[str, str]]
    """(agent, thread id) of all that recall brought: what models said may quote it."""
    as_of: int
    """The number of the last forgetting before anything was read."""


def examine(
    home: Home,
    env: Mapping[str, str],
    plan: Plan,
    probes: Sequence[Probe],
    probes_hash: str,
    *,
    candidate: Path,
    placebo: Path | None,
    on_arm: Callable[[str, float], None],
    look_up: Callable[[], None] = lambda: None,
) -> Examined:
    """Ask base, candidate, placebo and what serves now. `look_up` is called at every word, and raises where the run is to stop.

    Raises ModelError where one of them cannot be loaded, StoreError.
    """
    as_of = artifacts.forgettings(home)
    device = engine.chosen_device(plan.recipe.device)
    bases = artifacts.bases_folder(home)
    base_folder = network.find_base(plan.recipe.base, bases=bases)
    base = NetworkSpeaker(network.load(base_folder, device=device), judging.BASE, look_up=look_up)
    new = NetworkSpeaker(_as_served(base_folder, candidate, device), "candidate", look_up=look_up)
    other = _as_served(base_folder, placebo, device) if placebo else None
    memory = gathering.opened(home, env)
    recall = Recalls(memory)
    dials = Dials(max_sentences=config.load(home.config, env).model.max_sentences)
    frequencies = memory.store.frequencies()

    def rarity(word: str) -> float:
        return max(frequencies.idf(terms(word)).values(), default=0.0)

    def run(speaker: NetworkSpeaker, placebo_speaker: NetworkSpeaker | None, shift: float, ways: Dials) -> Judged:
        return judging.judge(
            probes,
            base=base,
            candidate=speaker,
            placebo=placebo_speaker,
            recall=recall,
            is_sure=recall.is_sure,
            probes_hash=probes_hash,
            dials=ways,
            rarity=rarity,
            on_arm=lambda arm, done: on_arm(arm, shift + done / 2),
        )

    judged = run(new, NetworkSpeaker(other, "placebo", look_up=look_up) if other else None, 0.0, dials)
    serving = artifacts.served(home)
    old = None
    if serving is not None:
        speaker = NetworkSpeaker(_loaded(serving, bases, device), serving.name, look_up=look_up)
        plain = replace(dials, writes=dials.max_sentences > 0)  # what it writes and nobody reads was judged in its time
        old = replace(run(speaker, None, 0.5, plain).new, model=serving.name)
    before = old or judged.base
    return Examined(
        base=judged.base,
        old=old,
        new=judged.new,
        samples=list(_samples(probes, before, judged.new)),
        learned=_changed(probes, before, judged.new),
        forgotten=_changed(probes, judged.new, before),
        canaries=canaries.look(new, list(memory.store.projects())),
        shown=frozenset(recall.threads),
        as_of=as_of,
    )


def _loaded(version: artifacts.Version, bases: Path, device: str) -> Any:
    folder = network.find_base(version.manifest.base, bases=bases)
    try:
        return _as_served(folder, version.folder / "adapter", device)
    except ModelError as problem:
        raise ModelError(
            f"{version.name}, which serves now, cannot be loaded to be compared with: {problem} `lmm model rollback` takes it back."
        ) from problem


def _as_served(base: Path, adapter: Path, device: str) -> Any:
    return network.ready_to_serve(network.load(base, adapter=adapter, device=device))


def _samples(probes: Sequence[Probe], before: ScoreSheet, after: ScoreSheet) -> Any:
    """Some probes with what was said to them in words: of each slice alike."""
    by_slice: dict[str, list[dict[str, str]]] = {}
    arms = (SERVED, "weights") if after.max_sentences else ("weights", SERVED)  # where nothing is written, numbers are
    told_before, told_after = ([_by_probe(sheet, arm) for arm in arms] for sheet in (before, after))
    for probe in probes:
        old = next((each[probe.id] for each in told_before if probe.id in each), None)
        new = next((each[probe.id] for each in told_after if probe.id in each), None)
        if old is not None and new is not None:
            expected = " ".join(probe.answers) or "none"
            sample = {"prompt": probe.prompt, "before": old.output, "after": new.output, "expected": expected}
            by_slice.setdefault(probe.slice, []).append(sample)
    share = max(1, MAX_SAMPLES // max(1, len(by_slice)))
    for samples in by_slice.values():
        yield from samples[:share]


def _changed(probes: Sequence[Probe], before: ScoreSheet, after: ScoreSheet) -> list[str]:
    """Prompts of facts that the one did not know and the other does, from weights alone."""
    old, new = _by_probe(before, "weights"), _by_probe(after, "weights")
    return [
        probe.prompt
        for probe in probes
        if probe.id in old and probe.id in new and new[probe.id].score > old[probe.id].score
    ]


def _by_probe(sheet: ScoreSheet, arm: str) -> dict[str, Outcome]:
    return {each.probe_id: each for each in sheet.outcomes.get(arm, ())}
