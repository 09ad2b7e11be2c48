"""Labels of points, placed so that none covers another.

Its own file because it is the only geometry here. Greedy: labels come in the order of their importance, each takes
the free place beside its point that hides fewest other points, and one that finds none is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_SIZE = 7.5
# From the rim of the point to the label, in 1/72 inch; from the third on a line leads to it.
_REACHES = (2, 6, 14, 26, 40)
_LED_FROM = 12
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.7), (-0.8, 0.7), (0.8, -0.7), (-0.8, -0.7))
# What a label may hide or how far it may stand off: a point of the crowd weighs as much as 8/72 inch.
_COST_OF_A_POINT = 8.0
_LEADER_STEPS = 8
# Between labels, in 1/72 inch: a reader of SVG may have a wider font, and the ground of a label covers its neighbour.
_GAP = 2.0
# A label that would hide more of the crowd is left out.
_MOST_HIDDEN = 3


@dataclass(frozen=True)
class Label:
    text: str
    x: float
    y: float


def place_labels(
    axes: Axes, labels: Sequence[Label], crowd: Sequence[tuple[float, float]], rim: float, taken: Sequence[Bbox] = ()
) -> int:
    """How many labels found a place; the figure must have its final layout and limits.

    `crowd`: the points, in the units of the axes, that labels should not hide. `rim`: radius of a point in 1/72 inch.
    `taken`: rectangles in pixels that labels must not touch.
    """
    import numpy as np

    pixels = axes.figure.dpi / 72
    points = axes.transData.transform(np.asarray(crowd, dtype=float).reshape(-1, 2))
    boxes = list(taken)
    for label in labels:
        at = axes.transData.transform((label.x, label.y))
        size = _size_of(axes, label.text)
        found = [
            (math.hypot(*offset) + _COST_OF_A_POINT * hidden, offset, box)
            for offset in _offsets(rim)
            if (box := _box(at, offset, size, pixels)) and _fits(box, axes.bbox, boxes)
            if (hidden := _hidden(box.padded(rim * pixels), points)) <= _MOST_HIDDEN
            if not any(_hidden(other, _leader(at, offset, pixels)) for other in boxes)
        ]
        if not found:
            continue
        _, offset, box = min(found, key=lambda one: one[0])
        boxes.append(box.padded(_GAP * pixels))
        points = np.concatenate([points, _leader(at, offset, pixels)])
        _draw(axes, label, offset, rim)
    return len(boxes) - len(taken)


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """The ascending positions moved as little as keeps neighbours `gap` apart: runs that are too close are centred."""
    runs: list[tuple[float, int]] = []
    for position in positions:
        centre, count = position, 1
        # A run reaches half its height to both sides of its centre.
        while runs and centre - runs[-1][0] < gap * (count + runs[-1][1]) / 2:
            before, others = runs.pop()
            centre = (centre * count + before * others) / (count + others)
            count += others
        runs.append((centre, count))
    return [centre + gap * (index - (count - 1) / 2) for centre, count in runs for index in range(count)]


def _offsets(rim: float) -> list[tuple[float, float]]:
    return [((rim + reach) * x, (rim + reach) * y) for reach in _REACHES for x, y in _DIRECTIONS]


def _size_of(axes: Axes, text: str) -> tuple[float, float]:
    """Width and height in pixels."""
    drawn = axes.text(0, 0, text, fontsize=_SIZE)
    box = drawn.get_window_extent()
    drawn.remove()
    return box.width, box.height


def _box(at: Any, offset: tuple[float, float], size: tuple[float, float], pixels: float) -> Bbox:
    from matplotlib.transforms import Bbox

    x, y = at[0] + offset[0] * pixels, at[1] + offset[1] * pixels
    width, height = size
    left = x - width * {"left": 0.0, "center": 0.5, "right": 1.0}[_side(offset)]
    low = y - height * {"bottom": 0.0, "center": 0.5, "top": 1.0}[_edge(offset)]
    return Bbox.from_bounds(left, low, width, height)


def _leader(at: Any, offset: tuple[float, float], pixels: float) -> Any:
    """Places on the line from the point to its label, in pixels."""
    import numpy as np

    shares = np.linspace(0.2, 0.9, _LEADER_STEPS)[:, None]
    return np.asarray(at) + shares * np.asarray(offset) * pixels


def _side(offset: tuple[float, float]) -> str:
    return "center" if offset[0] == 0 else "left" if offset[0] > 0 else "right"


def _edge(offset: tuple[float, float]) -> str:
    return "center" if offset[1] == 0 else "bottom" if offset[1] > 0 else "top"


def _fits(box: Bbox, room: Bbox, boxes: Sequence[Bbox]) -> bool:
    is_inside = room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1
    return is_inside and not any(box.overlaps(other) for other in boxes)


def _hidden(box: Bbox, points: Any) -> int:
    x, y = points[:, 0], points[:, 1]
    return int(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).sum())


def _draw(axes: Axes, label: Label, offset: tuple[float, float], rim: float) -> None:
    is_led = math.hypot(*offset) >= rim + _LED_FROM
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=offset,
        textcoords="offset points",
        ha=_side(offset),
        va=_edge(offset),
        fontsize=_SIZE,
        zorder=6,
        arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "#6E6E6E", "shrinkA": 0, "shrinkB": rim} if is_led else None,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
    )
