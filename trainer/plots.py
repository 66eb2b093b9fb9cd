"""Curves as SVG, without a library and without a script: what a page shows that is opened from the disk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 26, 34
COLOURS = ("#2563eb", "#d97706", "#059669", "#7c3aed")
"""Told apart also by those who see no red or no green."""
_DASHES = ("", "6 4", "2 3", "8 3 2 3")


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y), by rising x."""


def plot(title: str, curves: Sequence[Curve], *, x_name: str, unit: str = "") -> str:
    """An SVG of these curves over one another; '' where none has a point.

    >>> plot("loss", [Curve("mean", [])], x_name="step")
    ''
    """
    points = [point for curve in curves for point in curve.points if all(map(math.isfinite, point))]
    if not points:
        return ""
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = min(y for _, y in points), max(y for _, y in points)
    low_y, high_y = (low_y, high_y) if high_y > low_y else (low_y - 0.5, high_y + 0.5)
    ticks = nice_ticks(low_y, high_y)
    low_y, high_y = min(low_y, ticks[0]), max(high_y, ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low_x) / (high_x - low_x) if high_x > low_x else 0.5
        up = (y - low_y) / (high_y - low_y)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text x="{_LEFT}" y="16" class="title">{escape(title)}{f" ({escape(unit)})" if unit else ""}</text>',
    ]
    for tick in ticks:
        _, y = place(low_x, tick)
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="tick end">{tick:g}</text>')
    for x in dict.fromkeys((low_x, high_x)):
        at, _ = place(x, low_y)
        side = "" if x == low_x else " end"
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 16}" class="tick{side}">{x:g}</text>')
    parts.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 16}" class="tick middle">{escape(x_name)}</text>')
    for n, curve in enumerate(curves):
        shown = [place(x, y) for x, y in curve.points if math.isfinite(x) and math.isfinite(y)]
        colour, dash = COLOURS[n % len(COLOURS)], _DASHES[n % len(_DASHES)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
        if len(shown) == 1:
            parts.append(f'<circle cx="{shown[0][0]:.1f}" cy="{shown[0][1]:.1f}" r="3" fill="{colour}"/>')
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dash}"/>'
        )
        x = _LEFT + n * 110
        parts.append(
            f'<line x1="{x}" x2="{x + 18}" y1="{HEIGHT - 5}" y2="{HEIGHT - 5}" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
            f'<text x="{x + 23}" y="{HEIGHT - 1}" class="tick">{escape(curve.name)}</text>'
        )
    return "".join([*parts, "</svg>"])


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers that span [low, high].

    >>> nice_ticks(0.3, 4.1)
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    rough = (high - low) / max(1, wanted)
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * size for size in (1, 2, 5, 10) if power * size >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(n * step, 10) for n in range(first, last + 1)]
