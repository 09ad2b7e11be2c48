"""The picture of a layer profile: the share of time beside the shares of MACs and of bytes.

Its own file beside `plots` because its bars are parts of one model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitprof.errors import VitprofError
from vitprof.report.plot_style import INK, PALETTE, new_figure, pictured, save, shown
from vitprof.units import NOT_KNOWN, text_from_share

# Bars that are drawn: more would be too small to read, and the rest has next to no time.
_MOST_BARS = 24
_LEDGERS = (
    # (name, field, colour, hatch): told apart by lightness and hatch in print.
    ("time", "time_share", PALETTE[0], ""),
    ("MACs", "macs_share", PALETTE[1], "////"),
    ("bytes", "bytes_share", "#FFFFFF", "...."),
)
_BAR_HEIGHT = 0.27
_LONGEST_LABEL = 48


@dataclass(frozen=True)
class ShareBar:
    """One kind of operator, or one module, with its shares of the whole model; None: not known."""

    label: str
    time_share: float | None
    macs_share: float | None
    bytes_share: float | None


def layer_share_plot(rows: Sequence[ShareBar], file: Path, *, title: str = "") -> None:
    """Three bars a row, the rows with most time on top; `title` names the model and where it ran.

    Raises `VitprofError` where there is no row.
    """
    if not rows:
        raise VitprofError(
            "there is nothing to draw: the profile holds no operator",
            remedy="run the same command with another --backend",
            stage="report",
        )
    drawn = sorted(rows, key=lambda row: -(row.time_share or 0.0))[:_MOST_BARS]
    with pictured(file):
        figure = new_figure(8.0, 1.4 + 0.52 * len(drawn))
        axes = figure.subplots()
        for index, (name, field, colour, hatch) in enumerate(_LEDGERS):
            places = [row + (index - 1) * _BAR_HEIGHT for row in range(len(drawn))]
            shares: list[float | None] = [getattr(row, field) for row in drawn]
            axes.barh(
                places,
                [100 * (share or 0.0) for share in shares],
                height=_BAR_HEIGHT,
                color=colour,
                hatch=hatch,
                edgecolor=INK,
                linewidth=0.5,
                label=f"share of {name}",
            )
            for place, share in zip(places, shares, strict=True):
                text = NOT_KNOWN if share is None else text_from_share(share)
                axes.annotate(
                    text, (100 * (share or 0.0), place), xytext=(3, 0), textcoords="offset points", va="center",
                    fontsize=6.5,
                )  # fmt: skip
        axes.set_yticks(range(len(drawn)), [shown(row.label, _LONGEST_LABEL) for row in drawn])
        axes.set_ylim(len(drawn) - 0.45, -0.55)
        axes.set_xlim(0, 108 * max(_largest(row) for row in drawn) or 1)
        axes.set_xlabel("share of the model, %")
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")
        left_out = len(rows) - len(drawn)
        rest = f"\n{left_out} rows with less time not shown" if left_out else ""
        axes.set_title(shown(title, 90) + rest if title or rest else "", loc="left")
        axes.legend(loc="lower right", frameon=True, framealpha=1.0, edgecolor="none")
        save(figure, file)


def _largest(row: ShareBar) -> float:
    return max(share or 0.0 for share in (row.time_share, row.macs_share, row.bytes_share))
