"""Logarithmic axes whose ticks are read without powers of ten: `500 M`, `2 G`, `0.5`, `20`.

Its own file because every picture but one has such an axis, over less than one decade or over five.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis

# Free space on both sides, as a share of the range in logarithms, and the least of it as a factor.
_MARGIN_SHARE = 0.06
_LEAST_MARGIN = 1.15
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def log_counts(axis: Axis, values: Sequence[float], suffix: str = "") -> None:
    """A logarithmic axis for counts, over `values` with a margin."""
    _logarithmic(axis, values, lambda value: _short_count(value, suffix))


def log_times(axis: Axis, values: Sequence[float]) -> None:
    """A logarithmic axis for numbers in a unit that the label of the axis names."""
    _logarithmic(axis, values, lambda value: f"{value:,.10g}")


def _logarithmic(axis: Axis, values: Sequence[float], text: Callable[[float], str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    low, high = min(values), max(values)
    margin = max(_LEAST_MARGIN, (high / low) ** _MARGIN_SHARE)
    low, high = low / margin, high * margin
    # `x` or `y`; matplotlib's types do not know the attribute.
    name = str(axis.axis_name)  # type: ignore[attr-defined]
    axis.axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
    axis.set_major_locator(FixedLocator(ticks_between(low, high)))
    axis.set_minor_locator(FixedLocator([]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_formatter(NullFormatter())


def _short_count(value: float, suffix: str) -> str:
    scale, prefix = next(((scale, prefix) for scale, prefix in _PREFIXES if value >= scale), (1.0, ""))
    return f"{value / scale:.6g} {prefix}{suffix}".rstrip()


def ticks_between(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`: the fewest steps a decade that give three ticks at least."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(range(10, 100))):
        scale = 10 if steps[-1] > 10 else 1
        ticks = [step * 10.0**decade / scale for decade in decades for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            return inside
    return [low, high]
