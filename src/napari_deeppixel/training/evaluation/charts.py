"""Charts as SVG text; their colours come from the page, so that they follow light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 380, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 40
_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart.

    Attributes
    ----------
    name
        For the legend.
    points
        x and y; a point with NaN interrupts the line.
    style
        Number of its colour and dashes: 1, 2 or 3.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    style: int = 1


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a chart spans.

    Attributes
    ----------
    title
        Of the chart, also for those who hear it.
    x_label, y_label
        Under and beside it.
    x_limits, y_limits
        First and last value of each axis.
    """

    title: str
    x_label: str
    y_label: str
    x_limits: tuple[float, float] = (0.0, 1.0)
    y_limits: tuple[float, float] = (0.0, 1.0)

    def x(self, value: float) -> float:
        """Return where a value lies, in the chart's units."""
        low, high = self.x_limits
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Return where a value lies, in the chart's units."""
        low, high = self.y_limits
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def line_chart(axes: Axes, lines: Sequence[Line], marks: Sequence[tuple[float, str]] = ()) -> str:
    """Return a chart of lines with a legend.

    Parameters
    ----------
    axes
        What it spans.
    lines
        In the order of the legend.
    marks
        Places on the x axis that get an upright line, and what is written there.
    """
    parts = [_grid(axes)]
    for number, (place, text) in enumerate(marks):
        if math.isfinite(place):
            x = axes.x(place)
            shift, anchor = (-4, "end") if x > _WIDTH / 2 else (4, "start")
            parts.append(
                f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" '
                f'y2="{_HEIGHT - _BOTTOM}"/><text class="small" x="{x + shift:.1f}" '
                f'y="{_HEIGHT - _BOTTOM - 8 - 14 * number}" text-anchor="{anchor}">'
                f"{escape(text)}</text>"
            )
    parts += [
        f'<path class="line s{line.style}" d="{_path(axes, line.points)}"/>' for line in lines
    ]
    return _figure(axes, parts, [(f"line s{line.style}", line.name) for line in lines])


def _path(axes: Axes, points: Sequence[tuple[float, float]]) -> str:
    commands, pen = [], "M"
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            commands.append(f"{pen}{axes.x(x):.1f} {axes.y(y):.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(commands)


def scatter_chart(axes: Axes, points: Sequence[tuple[float, float, str]]) -> str:
    """Return a chart of points (x, y, name) about the diagonal."""
    dots = [
        f'<circle class="dot" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3.5">'
        f"<title>{escape(name)}: {x:g}, {y:g}</title></circle>"
        for x, y, name in points
    ]
    return _figure(axes, [_grid(axes), _diagonal(axes), *dots], [])


def bar_chart(axes: Axes, edges: Sequence[float], bars: Sequence[tuple[float, str]]) -> str:
    """Return a chart of bars (height, what it says) between edges, about the diagonal."""
    parts = [_grid(axes)]
    for left, right, (height, text) in zip(edges[:-1], edges[1:], bars, strict=True):
        if math.isfinite(height):
            x, y = axes.x(left), axes.y(height)
            parts.append(
                f'<rect class="bar" x="{x + 1:.1f}" y="{y:.1f}" '
                f'width="{axes.x(right) - x - 2:.1f}" height="{axes.y(axes.y_limits[0]) - y:.1f}">'
                f"<title>{escape(text)}</title></rect>"
            )
    return _figure(axes, [*parts, _diagonal(axes)], [])


def _diagonal(axes: Axes) -> str:
    low = max(axes.x_limits[0], axes.y_limits[0])
    high = min(axes.x_limits[1], axes.y_limits[1])
    return (
        f'<line class="mark" x1="{axes.x(low):.1f}" y1="{axes.y(low):.1f}" '
        f'x2="{axes.x(high):.1f}" y2="{axes.y(high):.1f}"/>'
    )


def _grid(axes: Axes) -> str:
    parts = []
    for step in range(_STEPS + 1):
        x_value, y_value = (
            low + (high - low) * step / _STEPS for low, high in (axes.x_limits, axes.y_limits)
        )
        x, y = axes.x(x_value), axes.y(y_value)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="small" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 15}" '
            f'text-anchor="middle">{x_value:g}</text>'
            f'<text class="small" x="{_LEFT - 5}" y="{y + 4:.1f}" '
            f'text-anchor="end">{y_value:g}</text>'
        )
    middle_x, middle_y = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text x="{middle_x}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(axes.x_label)}</text>'
        f'<text transform="translate(12 {middle_y}) rotate(-90)" '
        f'text-anchor="middle">{escape(axes.y_label)}</text>'
    )
    return "".join(parts)


def _figure(axes: Axes, parts: Sequence[str], legend: Sequence[tuple[str, str]]) -> str:
    keys = "".join(
        f'<span class="key"><svg width="30" height="10"><path class="{style}" d="M1 5H29"/></svg>'
        f"{escape(name)}</span>"
        for style, name in legend
    )
    return (
        f'<figure class="chart"><figcaption>{escape(axes.title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(axes.title)}">'
        f"{''.join(parts)}</svg><div>{keys}</div></figure>"
    )
