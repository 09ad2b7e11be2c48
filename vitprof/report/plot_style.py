"""How every picture looks and how it is written: colours, markers, text, the file.

Its own file because the four pictures must agree on it. Nothing here touches pyplot, whose figures and settings are
global; the settings of the user's own matplotlibrc are left out, so that the same values give the same bytes and a
name is never handed to TeX.
"""

from __future__ import annotations

import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.errors import UnreachableError, UsageError, VitprofError
from vitprof.report.outside import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#222222"
QUIET = "#6E6E6E"
FAINT = "#D5D5D5"
# Okabe and Ito (2008), "Color Universal Design": told apart by the colour-blind. Neighbours differ in lightness, and
# every family has a marker of its own as well, for print without colours.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
OTHERS = "other families"
_LONGEST_NAME = 34
_FORMATS = {".svg": "svg", ".png": "png"}
_INSTALL = "pip install 'vitprof[report]'"
_SETTINGS = {
    # A `$` or `_` of a name is a character, not the start of a formula.
    "text.parse_math": False,
    "text.usetex": False,
    # Text stays text: it can be searched, and read aloud. Verdana has the widths of DejaVu Sans where that is missing.
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    # Element ids are drawn from this instead of at random.
    "svg.hashsalt": "vitprof",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.facecolor": "white",
    "savefig.dpi": 160,
}


@dataclass(frozen=True)
class FamilyStyle:
    """How the points of one family are drawn."""

    name: str
    colour: str
    marker: str
    face: str


OTHER_STYLE = FamilyStyle(OTHERS, "#8A8A8A", "o", "none")


def check_plot_file(file: Path) -> None:
    """Raises `UsageError` for a suffix that is no picture's, `UnreachableError` where matplotlib is not installed.

    Quick: for the start of a command, before a minute of measuring.
    """
    if file.suffix.lower() not in _FORMATS:
        raise UsageError(
            f"cannot tell what kind of picture '{file}' is to be",
            remedy=f"give the file one of the suffixes {' and '.join(_FORMATS)}",
        )
    try:
        import matplotlib as _  # noqa: F401
    except ImportError as error:
        raise UnreachableError(
            "pictures need matplotlib, which is not installed", remedy=_INSTALL, stage="report"
        ) from error


@contextmanager
def pictured(file: Path) -> Iterator[None]:
    """Everything of a picture, from the making of its figure to `save`, happens inside."""
    check_plot_file(file)
    from matplotlib import style

    with style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes in PNG; that is no error of the program.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width_inch: float, height_inch: float) -> Figure:
    """A figure whose text can be measured before it is saved."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inch, height_inch), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def settle(figure: Figure) -> None:
    """Puts the axes where they will be, so that labels can be placed in them."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save(figure: Figure, file: Path) -> None:
    """Writes the picture in the format of the suffix; without a date, so that equal values give equal bytes."""
    kind = _FORMATS[file.suffix.lower()]
    unsaid = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
    try:
        figure.savefig(file, format=kind, metadata=unsaid)
    except OSError as error:
        raise VitprofError(
            f"cannot write {file}: {error.strerror}", remedy="name a file on a disk with free space", stage="report"
        ) from error


def family_of(model: str) -> str:
    """The family that a model is drawn with: its leading letters without `tf_` and without a version such as `v2`.

    Wider than the families of inversions, of which there are hundreds: a picture has seven colours.
    """
    name = model.rpartition(":")[2].removeprefix("tf_")
    letters = re.match(r"[A-Za-z]+?(?=v\d|[^A-Za-z]|$)", name)
    return letters[0].lower() if letters else name


def family_styles(models: Iterable[str]) -> Mapping[str, FamilyStyle]:
    """A style for every family: one of its own for the seven with most models, `OTHER_STYLE` for the rest."""
    counts = Counter(family_of(model) for model in sorted(set(models)))
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    styles = {
        name: FamilyStyle(shown(name), colour, marker, colour)
        for name, colour, marker in zip(ranked, PALETTE, _MARKERS, strict=False)
    }
    return {name: styles.get(name, OTHER_STYLE) for name in ranked}


def size_behind(size: tuple[int, int] | None) -> str:
    """What follows a name that a picture shows at several sizes: ` 224`, ` 256x192`."""
    return f" {'x'.join(map(str, dict.fromkeys(size)))}" if size else ""


def titled(text: str, width: int = 52) -> str:
    """A title from outside in at most two lines of `width` characters: one is no wider than the axes under it."""
    return textwrap.fill(shown(text, 2 * width), width, max_lines=2, placeholder="…")


def shown(name: str, longest: int = _LONGEST_NAME) -> str:
    """A name from outside as a picture shows it: one line that XML allows, the middle of a long one left out."""
    text = plain(name).translate({0xFFFE: "\N{REPLACEMENT CHARACTER}", 0xFFFF: "\N{REPLACEMENT CHARACTER}"})
    if len(text) <= longest:
        return text
    tail = longest // 2
    return f"{text[: longest - 1 - tail]}…{text[-tail:]}"
