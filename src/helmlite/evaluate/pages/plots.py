"""Plots as inline SVG: crisp at any size, no library, and their colours follow the page's light or dark scheme.

Every colour is a CSS class of `page.css`; a plot carries its own text description for readers who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH = 960
_SCATTER_BOTTOM = 330
_LINE_CLASSES = ("c1", "c2", "c3", "c4", "c5", "c6")


@dataclass(frozen=True)
class IntervalRow:
    """One loss with its interval against a margin, in points."""

    name: str
    verdict: str
    loss: float
    low: float
    high: float
    margin: float


@dataclass(frozen=True)
class ScatterPoint:
    """One model in the plane of latency (ms) and accuracy (points).

    kind:     baseline, step, reference or result
    is_named: whether the user named it, so that no translation may touch the name
    """

    name: str
    kind: str
    x: float
    y: float
    is_named: bool = False

    def in_words(self) -> str:
        """`model small: 12.3 ms, 66.9 points`; a step of ours without `model`"""
        return f"{'model ' if self.is_named else ''}{self.name}: {self.x:.1f} ms, {self.y:.1f} points"


@dataclass(frozen=True)
class HeatCell:
    """A change in points, negative for a loss; None: unknown.  is_told: whether it is told from none by its interval"""

    change: float | None
    is_told: bool
    says: str


@dataclass(frozen=True)
class HeatBlock:
    """Columns of a heat map under one heading.  cells: a row of them for each row of the map"""

    heading: str
    cells: Sequence[Sequence[HeatCell]]


def interval_plot(rows: Sequence[IntervalRow]) -> str:
    """Each loss as a dot with its 95 % interval, and a tick at its margin: left of it passes."""
    if not rows:
        return ""
    left, right, step, top = 250, 40, 38, 26
    low = min(0.0, *(row.low for row in rows))
    high = max(0.0, *(max(row.high, row.margin) for row in rows))
    ticks = nice_ticks(low, high, 7)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    height = top + step * len(rows) + 46

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (_WIDTH - left - right)

    bottom = top + step * len(rows)
    parts = [_vertical(x(tick), top - 8, bottom, "zero" if tick == 0 else "grid") for tick in ticks]
    parts += [_text(x(tick), bottom + 18, signed(tick), "tick", "middle") for tick in ticks]
    parts.append(_text(x(low), bottom + 38, "← gain", "tick", "start"))
    parts.append(_text(x(high), bottom + 38, "points lost →", "tick", "end"))
    for number, row in enumerate(rows):
        y = top + step * number + step / 2
        kind = f"v-{row.verdict.replace(' ', '-')}"
        parts.append(_text(left - 18, y + 5, row.name, "label", "end"))
        parts.append(f'<line class="interval {kind}" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot {kind}" cx="{x(row.loss):.1f}" cy="{y}" r="6"/>')
        parts.append(_vertical(x(row.margin), y - 12, y + 12, "margin"))
    described = "; ".join(
        f"{row.name} ({row.verdict}): loss {row.loss:.2f}, interval {row.low:.2f} to {row.high:.2f}, "
        f"margin {row.margin:.2f}"
        for row in rows
    )
    return _svg(height, "Losses with 95 % intervals against their margins", described, parts)


def factor_bar(factors: Sequence[tuple[str, float]], measured: float | None) -> str:
    """The speed-up as a chain on a logarithmic axis: segments add up where their factors multiply.

    factors: (name, times faster).  Below the chain lies a bar for the total as it was measured.
    """
    if not factors or any(ratio <= 0 for _, ratio in factors):
        return ""
    left, right, height = 150, 90, 178
    marks = [0.0]
    for _, ratio in factors:
        marks.append(marks[-1] + math.log10(ratio))
    ends = [*marks, math.log10(measured)] if measured else marks
    low, high = min(0.0, *ends), max(*ends, 0.3)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (_WIDTH - left - right)

    powers = [value for value in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= math.log10(value) <= high + 1e-9]
    parts = [_vertical(x(math.log10(value)), 14, 138, "zero" if value == 1 else "grid") for value in powers]
    parts += [_text(x(math.log10(value)), 160, f"{value:g}×", "tick", "middle") for value in powers]
    parts.append(_text(left - 18, 53, "factors", "label", "end"))
    for number, ((name, ratio), start, end) in enumerate(zip(factors, marks, marks[1:])):
        first, last = sorted((x(start), x(end)))
        width = max(last - first - 3, 2)
        kind = _LINE_CLASSES[number % len(_LINE_CLASSES)]
        parts.append(
            f'<rect class="fill {kind}" x="{first + 1.5:.1f}" y="26" width="{width:.1f}" height="44" rx="4">'
            f"<title>{escape(name)}: {ratio:.2f}×</title></rect>"
        )
        if width >= 7.2 * max(len(name), 5):
            parts.append(_text((first + last) / 2, 45, name, "on-fill", "middle"))
            parts.append(_text((first + last) / 2, 62, f"{ratio:.2f}×", "on-fill strong", "middle"))
        elif width >= 40:
            parts.append(_text((first + last) / 2, 54, f"{ratio:.2f}×", "on-fill strong", "middle"))
    total = math.prod(ratio for _, ratio in factors)
    parts.append(_text(x(marks[-1]) + 10, 54, f"= {total:.1f}×", "label strong", "start"))
    if measured:
        first, last = sorted((x(0.0), x(math.log10(measured))))
        parts.append(_text(left - 18, 113, "measured", "label", "end"))
        parts.append(f'<rect class="fill total" x="{first:.1f}" y="90" width="{last - first:.1f}" height="36" rx="4"/>')
        parts.append(_text(last + 10, 114, f"{measured:.1f}×", "label strong", "start"))
    described = " × ".join(f"{name} {ratio:.2f}" for name, ratio in factors) + f" = {total:.2f}"
    described += f"; measured {measured:.2f}" if measured else ""
    return _svg(height, "The speed-up split into its factors", described, parts)


def scatter_plot(points: Sequence[ScatterPoint]) -> str:
    """Accuracy against latency, latency logarithmic: up and to the left is better."""
    points = [point for point in points if point.x > 0]
    if len(points) < 2:
        return ""
    left, right, top, bottom, height = 70, 40, 20, _SCATTER_BOTTOM, 384
    logs = [math.log10(point.x) for point in points]
    low, high = min(logs) - 0.12, max(logs) + 0.18
    heights = nice_ticks(min(p.y for p in points) - 1, max(p.y for p in points) + 1, 6)
    floor, ceiling = heights[0], heights[-1]

    def x(value: float) -> float:
        return left + (math.log10(value) - low) / (high - low) * (_WIDTH - left - right)

    def y(value: float) -> float:
        return bottom - (value - floor) / (ceiling - floor) * (bottom - top)

    parts = [f'<line class="grid" x1="{left}" x2="{_WIDTH - right}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>' for t in heights]
    parts += [_text(left - 12, y(tick) + 5, f"{tick:g}", "tick", "end") for tick in heights]
    for value in _log_ticks(low, high):
        parts.append(_vertical(x(value), top, bottom, "grid"))
        parts.append(_text(x(value), bottom + 20, f"{value:g}", "tick", "middle"))
    parts.append(_text(_WIDTH - right, bottom + 44, "latency, ms (logarithmic) →", "tick", "end"))
    parts.append(_text(left - 58, bottom + 44, "↑ mAP50-95, points", "tick", "start"))
    steps = [point for point in points if point.kind in ("baseline", "step", "result")]
    path = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in steps)
    parts.append(f'<polyline class="path" points="{path}"/>')
    places = [(x(point.x), y(point.y)) for point in points]
    labels = _label_places(points, places)
    parts += [
        f'<circle class="point {p.kind}" cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="{9 if p.kind == "result" else 7}">'
        f"<title>{escape(p.in_words())}</title></circle>"
        for p in points
    ]
    for point, (from_x, from_y), (at_x, at_y, anchor) in zip(points, places, labels):
        kind = "label strong" if point.kind == "result" else "label small"
        if abs(at_y - 5 - from_y) > 16:  # too far from its dot to be taken for its label
            end = f'x2="{at_x:.1f}" y2="{at_y - 5:.1f}"'
            parts.append(f'<line class="leader" x1="{from_x:.1f}" y1="{from_y:.1f}" {end}/>')
        parts.append(_text(at_x, at_y, point.name, kind, anchor, point.is_named))
    described = "; ".join(point.in_words() for point in points)
    return _svg(height, "Accuracy against latency", described, parts)


def line_chart(
    x_label: str,
    y_label: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    models: Collection[str] = (),
    guides: Collection[str] = (),
) -> str:
    """Lines over a common axis with a legend: training losses, accuracy after each epoch.

    models: which of the lines are called as the user called a model, so that no translation may touch the name
    guides: which of them only show where a line should lie: dashed, and the others keep their colours
    """
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return ""
    left, right, top, bottom, height = 70, 40, 44, 280, 330
    across = [point[0] for points in lines.values() for point in points]
    upward = [point[1] for points in lines.values() for point in points]
    low, high = min(across), max(across)
    high = high if high > low else low + 1
    heights = nice_ticks(min(upward), max(upward), 5)

    def place(point: tuple[float, float]) -> str:
        x = left + (point[0] - low) / (high - low) * (_WIDTH - left - right)
        y = bottom - (point[1] - heights[0]) / (heights[-1] - heights[0]) * (bottom - top)
        return f"{x:.1f},{y:.1f}"

    parts = []
    for tick in heights:
        y = float(place((low, tick)).split(",")[1])
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - right}" y1="{y}" y2="{y}"/>')
        parts.append(_text(left - 12, y + 5, f"{tick:g}", "tick", "end"))
    for tick in nice_ticks(low, high, 8):
        if low <= tick <= high:
            x = float(place((tick, heights[0])).split(",")[0])
            parts.append(_text(x, bottom + 20, f"{tick:g}", "tick", "middle"))
    parts.append(_text(_WIDTH - right, bottom + 42, f"{x_label} →", "tick", "end"))
    parts.append(_text(left - 58, bottom + 42, f"↑ {y_label}", "tick", "start"))
    along = float(left)
    coloured = [name for name in lines if name not in guides]
    for name, points in lines.items():
        kind = "guide" if name in guides else _LINE_CLASSES[coloured.index(name) % len(_LINE_CLASSES)]
        parts.append(f'<polyline class="line {kind}" points="{" ".join(place(point) for point in points)}"/>')
        parts.append(f'<rect class="fill {kind}" x="{along}" y="12" width="14" height="14" rx="3"/>')
        parts.append(_text(along + 20, 24, name, "label small", "start", name in models))
        along += 44 + 7.4 * len(name)
    described = "; ".join(
        f"{'model ' if name in models else ''}{name} ends at {points[-1][1]:.4g}" for name, points in lines.items()
    )
    return _svg(height, title, described, parts)


def heat_map(title: str, rows: Sequence[str], columns: Sequence[str], blocks: Sequence[HeatBlock]) -> str:
    """Blocks of columns beside each other over the same rows: the more is lost, the fuller the colour.

    What is not told from none stays grey, whatever its number.  All blocks share one scale.
    """
    if not rows or not columns or not blocks:
        return ""
    left, gap, top, high = 150, 26, 58, 32
    wide = (_WIDTH - left - gap * (len(blocks) - 1)) / (len(blocks) * len(columns))
    told = [abs(cell.change) for block in blocks for row in block.cells for cell in row if cell.change and cell.is_told]
    most = max(told, default=1.0)
    parts = [_text(left - 14, top + high * (n + 0.5) + 5, name, "label", "end") for n, name in enumerate(rows)]
    for number, block in enumerate(blocks):
        start = left + number * (wide * len(columns) + gap)
        parts.append(_text(start, 20, block.heading, "small", "start"))
        parts += [_text(start + wide * (n + 0.5), top - 10, name, "tick", "middle") for n, name in enumerate(columns)]
        for row, cells in enumerate(block.cells):
            for column, cell in enumerate(cells):
                parts += _heat_cell(cell, start + wide * column, top + high * row, wide, high, most)
    bottom = top + high * len(rows) + 30
    parts.append(_text(left, bottom, f"colour: up to {most:.1f} points", "tick", "start"))
    parts.append(_text(_WIDTH, bottom, "grey: nothing proved", "tick", "end"))
    described = "; ".join(
        f"{block.heading}, row {name}: " + ", ".join(_change_in_points(cell.change) for cell in cells)
        for block in blocks
        for name, cells in zip(rows, block.cells, strict=True)
    )
    return _svg(bottom + 14, title, described, parts)


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers that cover low..high, about so many: nice_ticks(0, 4.3, 5) -> [0, 1, 2, 3, 4, 5]."""
    if high <= low:
        high = low + 1
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(unit * power for unit in (1, 2, 5, 10) if unit * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def signed(value: float) -> str:
    """A number with its sign, zero without: `+2`, `0`, `−1.5`."""
    return "0" if value == 0 else f"{value:+g}".replace("-", "−")


def _heat_cell(cell: HeatCell, x: float, y: float, wide: float, high: float, most: float) -> list[str]:
    kind, share = "unknown", 1.0
    if cell.change is not None and cell.is_told:
        kind = "lost" if cell.change < 0 else "gained"
        share = 0.08 + 0.5 * min(abs(cell.change) / most, 1.0)  # never so full that the number on it fades
    return [
        f'<rect class="heat {kind}" x="{x + 1:.1f}" y="{y + 1:.1f}" width="{wide - 2:.1f}" height="{high - 2:.1f}" '
        f'rx="4" fill-opacity="{share:.2f}"><title>{escape(cell.says)}</title></rect>',
        _text(
            x + wide / 2, y + high / 2 + 5, _change_in_points(cell.change), "cell" if cell.is_told else "tick", "middle"
        ),
    ]


def _change_in_points(change: float | None) -> str:
    """`−12.3`, `+0.4`, `0.0`, `unknown`"""
    if change is None:
        return "unknown"
    text = f"{change:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    return [unit * 10.0**power for power in decades for unit in (1, 2, 5) if low <= math.log10(unit) + power <= high]


def _label_places(
    points: Sequence[ScatterPoint], places: Sequence[tuple[float, float]]
) -> list[tuple[float, float, str]]:
    """A place for each label that no earlier label and no dot lies on, tried right and left, then above and below."""
    taken = [(x - 10, y - 10, x + 10, y + 10) for x, y in places]
    chosen = []
    for point, (x, y) in zip(points, places):
        width = 7.6 * len(point.name)
        options = []
        for lift in (0, *(sign * 16 * level for level in range(1, 8) for sign in (-1, 1))):
            options.append((x + 14, y + 5 + lift, "start", (x + 14, x + 14 + width)))
            options.append((x - 14, y + 5 + lift, "end", (x - 14 - width, x - 14)))
        best = options[0]
        for option in options:
            box = (option[3][0], option[1] - 13, option[3][1], option[1] + 3)
            inside = box[0] >= 60 and box[2] <= _WIDTH and box[1] >= 0 and box[3] <= _SCATTER_BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                best = option
                break
        taken.append((best[3][0], best[1] - 13, best[3][1], best[1] + 3))
        chosen.append((best[0], best[1], best[2]))
    return chosen


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _vertical(x: float, top: float, bottom: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str, is_name: bool = False) -> str:
    alone = ' translate="no"' if is_name else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{alone}>{escape(text)}</text>'


def _svg(height: float, title: str, described: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" preserveAspectRatio="xMidYMid meet">'
        f"<title>{escape(title)}</title><desc>{escape(described)}</desc>{''.join(parts)}</svg>"
    )
