"""
Plots as inline SVG, which stretch to the width of the page.

Their texts are HTML beside them, because those in a stretched SVG would
stretch, too.
"""

import html
import math

from collections.abc import Sequence
from typing import Final

import attrs


_HEIGHT: Final = 100
# The share of a column that stays empty beside it.
_GAP: Final = 0.12
# The first digits at the upper edge of a plot.
_STEPS: Final = 1, 2, 4, 6, 8, 10


@attrs.frozen(kw_only=True)
class Column:
    """
    A column of a plot, with one part on top of the other.

    Attributes:
        at: The place, in widths of columns.
        parts: The values of the parts, lowest first.
        title: The text that a pointer shows.
    """

    at: int
    parts: Sequence[float]
    title: str


def bar(value: float, most: float, *, part: int = 0) -> str:
    """
    Draw a horizontal bar, as decoration of a number beside it.

    Args:
        value: The value.
        most: The value of a full bar.
        part: The number of the colour.
    """
    width = _HEIGHT * value / most if most else 0
    return (
        f'<svg class="bar" aria-hidden="true" viewBox="0 0 {_HEIGHT} 1" '
        f'preserveAspectRatio="none">'
        f'<rect class="part-{part}" width="{width:.2f}" height="1"/></svg>'
    )


def columns(
    bars: Sequence[Column], *, top: float, label: str, marks: Sequence[int]
) -> str:
    """
    Draw a plot of columns.

    Args:
        bars: The columns, from left to right.
        top: The value at the upper edge.
        label: The description for those who do not see it.
        marks: The places of dashed vertical lines.
    """
    width = bars[-1].at + 1 if bars else 1
    drawn = "".join(_column(each, top) for each in bars)
    grid = "".join(
        f'<path class="grid" d="M0 {y}H{width}"/>'
        for y in (0, _HEIGHT // 2, _HEIGHT)
    )
    dashes = "".join(
        f'<path class="pause" d="M{x + 0.5} 0V{_HEIGHT}"/>' for x in marks
    )
    return (
        f'<svg class="plot" role="img" aria-label="{html.escape(label)}" '
        f'viewBox="0 0 {width} {_HEIGHT}" preserveAspectRatio="none">'
        f"{grid}{dashes}{drawn}</svg>"
    )


def _column(column: Column, top: float) -> str:
    y, drawn = float(_HEIGHT), []
    for number, value in enumerate(column.parts):
        height = _HEIGHT * value / top
        y -= height
        if value:
            drawn.append(
                f'<rect class="part-{number}" x="{column.at + _GAP / 2:g}" '
                f'y="{y:.2f}" width="{1 - _GAP:g}" height="{height:.2f}"/>'
            )
    return f"<g><title>{html.escape(column.title)}</title>{''.join(drawn)}</g>"


def round_up(value: float) -> float:
    """
    Return the next number of one even digit, or 1, times a power of ten.

    Args:
        value: A number above 0.
    """
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        step * power
        for step in _STEPS
        if step == _STEPS[-1] or step * power >= value
    )
