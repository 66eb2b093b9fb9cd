"""A training run as one HTML page that opens from the disk: curves, mix, gate, samples, and what was learned and forgotten.

Pure: a `RunView` in, a page out. Everything that comes from sessions is escaped; the page has no script and loads nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Any

from lmm_mcp.domain.verdict import Finding, Promote, Said, Verdict
from lmm_mcp.training_runs import RunState
from trainer.plots import Curve, plot

MAX_SAMPLES = 12
MAX_CHANGED = 40
GATES: Mapping[str, str] = {
    "G0": "lessons are clean",
    "G1": "new facts, from weights alone",
    "G2": "briefs cite, hold and abstain",
    "G3": "old knowledge is kept",
    "G4": "general skill is kept",
    "G5": "outputs are varied",
    "G6": "no slower, no larger",
    "G7": "helps retrieval, or does not hurt",
    "G8": "nothing that looks like a secret comes out",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer beside what it was made from."""

    prompt: str
    before: str
    """What the model that served until now wrote."""
    after: str
    expected: str


@dataclass(frozen=True, slots=True)
class RunView:
    """What the page shows of a run; any part may be missing, since a run may end anywhere."""

    state: RunState
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    mix: Sequence[tuple[str, str, int]] = ()
    """(what, of what kind, how many) lessons."""
    notes: Sequence[str] = ()
    """What building and checking the lessons told."""
    verdict: Verdict | None = None
    arms: Sequence[tuple[str, str, float, int, str]] = ()
    """(arm, slice, mean score, number, interval)."""
    categories: Sequence[tuple[str, str, Said | None]] = ()
    """(category, arm, figures); None where no probe asks about that category."""
    samples: Sequence[Sample] = ()
    learned: Sequence[str] = ()
    """Prompts of probes that were wrong before and are right now."""
    forgotten: Sequence[str] = ()
    kept: str = ""
    """What each version knows of each week, as a table in text."""


def page(view: RunView) -> str:
    """The whole page."""
    body = [
        _head(view),
        _section("Verdict", _gates(view.verdict)),
        _section("Scores by arm", _arms(view.arms)),
        _section("By category", _categories(view.categories)),
        _section("Curves", _curves(view.metrics)),
        _section("What was taught", _mix(view.mix), _list(view.notes)),
        _section("Learned", _list(view.learned[:MAX_CHANGED], len(view.learned))),
        _section("Forgotten", _list(view.forgotten[:MAX_CHANGED], len(view.forgotten))),
        _section("What each version knows of each week", f"<pre>{escape(view.kept)}</pre>" if view.kept else ""),
        _section("Samples", *(_sample(each) for each in view.samples[:MAX_SAMPLES])),
        _section("Recipe", _pairs(view.recipe)),
        _section("Stations", _pairs(view.state.figures)),
    ]
    return _PAGE.format(title=escape(f"Training run {view.state.run_id}"), body="\n".join(filter(None, body)))


def _head(view: RunView) -> str:
    state = view.state
    if isinstance(view.verdict, Promote):
        kind, told = "good", f"Promoted as {state.version}" if state.version else "Passed every gate"
    elif view.verdict is not None:
        kind, told = "kept", "Not promoted: the model that served goes on serving"
    else:
        kind, told = "kept", f"No verdict: {state.verdict or state.stopped_by or 'unfinished'}"
    began, ended = _day(state.started_ms), _day(state.ended_ms)
    row = f"began {began}{f', ended {ended}' if ended else ''}; {state.num_passages:,} passages in the memory"
    reasons = _list(state.reasons) if state.verdict != "promote" else ""
    return f'<h1>Training run {escape(state.run_id)}</h1><p class="{kind}">{escape(told)}</p><p class="dim">{row}</p>{reasons}'


def _gates(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    rows = "".join(_gate(each) for each in verdict.findings)
    return f"<table><tr><th>gate</th><th></th><th>asks whether</th><th>what was seen</th></tr>{rows}</table>"


def _gate(finding: Finding) -> str:
    mark = '<td class="good">passed</td>' if finding.passed else '<td class="bad">refused</td>'
    asks = escape(GATES.get(finding.gate, ""))
    return f"<tr><th>{escape(finding.gate)}</th>{mark}<td>{asks}</td><td>{escape(finding.told)}</td></tr>"


def _arms(arms: Sequence[tuple[str, str, float, int, str]]) -> str:
    if not arms:
        return ""
    rows = "".join(
        f'<tr><td>{escape(arm)}</td><td>{escape(slice_)}</td><td class="number">{100 * mean:.1f}</td>'
        f'<td class="number">{escape(interval)}</td><td class="number">{num}</td></tr>'
        for arm, slice_, mean, num, interval in arms
    )
    return f"<table><tr><th>arm</th><th>probes</th><th class='number'>score, %</th><th class='number'>95 % interval</th><th class='number'>number</th></tr>{rows}</table>"


def _categories(found: Sequence[tuple[str, str, Said | None]]) -> str:
    if not found:
        return ""
    named = ("score", "keywords, strict", "loose", "alike", "four most frequent")
    head = "".join(f"<th class='number'>{name}, %</th>" for name in named)
    rows = "".join(_category(*each) for each in found)
    return f"<table><tr><th>about</th><th>arm</th>{head}<th class='number'>probes</th></tr>{rows}</table>"


def _category(category: str, arm: str, said: Said | None) -> str:
    if said is None:
        return f'<tr><td>{escape(category)}</td><td class="dim" colspan="7">no probe asks about this</td></tr>'
    figures = (said.score, said.strict, said.loose, said.jaccard, said.parrot)
    cells = "".join(f'<td class="number">{"-" if each is None else f"{100 * each:.0f}"}</td>' for each in figures)
    return f'<tr><td>{escape(category)}</td><td>{escape(arm)}</td>{cells}<td class="number">{said.num}</td></tr>'


def _curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    shown = []
    for stage in dict.fromkeys(str(row.get("stage", "")) for row in metrics):
        rows = [row for row in metrics if row.get("stage") == stage]

        def curve(name: str, key: str, rows: list[Mapping[str, Any]] = rows) -> Curve:
            points = [(float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]
            return Curve(name, points)

        losses = [curve("mean", "loss_mean"), curve("median", "loss_median")]
        shown += [
            plot(f"{stage}: loss", losses, x_name="step", unit="nats a token"),
            plot(f"{stage}: learning rate", [curve("rate", "lr")], x_name="step"),
            plot(f"{stage}: speed", [curve("speed", "tokens_per_s")], x_name="step", unit="tokens/s"),
            plot(f"{stage}: memory", [curve("memory", "memory_mb")], x_name="step", unit="MB"),
        ]
    return f'<div class="plots">{"".join(shown)}</div>' if any(shown) else ""


def _mix(mix: Sequence[tuple[str, str, int]]) -> str:
    if not mix:
        return ""
    rows = "".join(
        f'<tr><td>{escape(what)}</td><td>{escape(kind)}</td><td class="number">{num:,}</td></tr>'
        for what, kind, num in mix
    )
    return f"<table><tr><th>lessons</th><th>of</th><th class='number'>number</th></tr>{rows}</table>"


def _sample(sample: Sample) -> str:
    parts = (
        ("asked", sample.prompt),
        ("before", sample.before),
        ("after", sample.after),
        ("expected", sample.expected),
    )
    told = "".join(f"<dt>{name}</dt><dd><pre>{escape(text)}</pre></dd>" for name, text in parts)
    return f"<details><summary>{escape(_first_line(sample.prompt))}</summary><dl>{told}</dl></details>"


def _list(items: Iterable[str], num_in_all: int | None = None) -> str:
    shown = list(items)
    if not shown:
        return ""
    more = (num_in_all or 0) - len(shown)
    rest = f'<p class="dim">and {more} more</p>' if more > 0 else ""
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in shown)}</ul>{rest}"


def _pairs(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{escape(f'{value:g}' if isinstance(value, float) else str(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<table>{rows}</table>" if rows else ""


def _section(title: str, *parts: str) -> str:
    inside = "".join(parts)
    return f"<section><h2>{escape(title)}</h2>{inside}</section>" if inside else ""


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")[:120]


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC") if at_ms else ""


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; --ink: #1f2937; --dim: #6b7280; --paper: #ffffff; --rule: #e5e7eb; --good: #047857; --bad: #b91c1c; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e5e7eb; --dim: #9ca3af; --paper: #111827; --rule: #374151; --good: #34d399; --bad: #f87171; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0; }} h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem; }}
table {{ border-collapse: collapse; width: 100%; }} th, td {{ text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--rule); overflow-wrap: break-word; }} th, td.good, td.bad {{ white-space: nowrap; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; }} .dim {{ color: var(--dim); }}
p.good, p.kept {{ font-size: 1.1rem; font-weight: 600; margin: .3rem 0; }} .good {{ color: var(--good); }} .bad {{ color: var(--bad); }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(26rem, 1fr)); gap: 1rem; }} svg {{ width: 100%; height: auto; }}
svg text {{ fill: var(--ink); font: 12px system-ui, sans-serif; }} svg .title {{ font-weight: 600; }} svg .tick {{ fill: var(--dim); font-size: 11px; }} svg .end {{ text-anchor: end; }} svg .middle {{ text-anchor: middle; }} svg .grid {{ stroke: var(--rule); }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: 13px/1.4 ui-monospace, monospace; }} dt {{ color: var(--dim); }} dd {{ margin: 0 0 .6rem; }} details {{ border-bottom: 1px solid var(--rule); padding: .3rem 0; }}
</style></head><body>
{body}
</body></html>
"""
