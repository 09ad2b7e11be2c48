"""The pictures: what is written in them, that they are the same for the same values, and what cannot be drawn.

How they look cannot be tested; they were looked at, in colour, in grey and as the colour-blind see them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.text import Text

from vitprof.comparisons import FrontPoint
from vitprof.errors import ExitCode, UsageError, VitprofError
from vitprof.measurements import Interval
from vitprof.report.plot_axes import ticks_between
from vitprof.report.plot_front import pareto_plot
from vitprof.report.plot_labels import Label, place_labels, spread
from vitprof.report.plot_layers import ShareBar, layer_share_plot
from vitprof.report.plot_style import check_plot_file, family_of, family_styles, new_figure, settle, shown
from vitprof.report.plots import rank_shift_plot, scatter_plot

from . import compared

BARS = (
    ShareBar("depthwise_conv", 0.41, 0.06, 0.22),
    ShareBar("pointwise_conv", 0.5, 0.94, 0.7),
    ShareBar("not attributed", 0.09, None, None),
)
PICTURES: dict[str, Callable[[Path], object]] = {
    "scatter": lambda file: scatter_plot([compared.measured()], file),
    "ranks": lambda file: rank_shift_plot([compared.measured()], file),
    "front": lambda file: pareto_plot(compared.front(), "latency", file),
    "layers": lambda file: layer_share_plot(BARS, file, title="light_b0, ort"),
}
_SVG = "{http://www.w3.org/2000/svg}"


def texts(file: Path) -> list[str]:
    """Every text of an SVG; that it parses at all means that nothing broke out of it."""
    root = ElementTree.fromstring(file.read_bytes())  # noqa: S314
    assert root.tag == f"{_SVG}svg"
    assert not list(root.iter(f"{_SVG}script"))
    return ["".join(text.itertext()) for text in root.iter(f"{_SVG}text")]


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_equal_values_give_equal_bytes(name: str, suffix: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{which}{suffix}" for which in ("one", "two")]
    for file in files:
        PICTURES[name](file)
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert first.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
    assert not re.search(rb"\d{4}-\d\d-\d\dT", first)


def test_the_users_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    PICTURES["scatter"](tmp_path / "one.svg")
    with matplotlib.rc_context({"font.size": 20, "text.usetex": True, "svg.fonttype": "path", "axes.facecolor": "red"}):
        PICTURES["scatter"](tmp_path / "two.svg")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_the_scatter_says_what_it_shows(tmp_path: Path) -> None:
    scatter_plot([compared.measured()], tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert {"Time against MACs", "local × ort × fp32, batch 1: 5 models", "MACs of one image", "latency, ms"} <= {
        *found
    }
    assert {"Spearman 0.300 [-0.712, 0.910]", "Kendall 0.400", "R² of the line 0.457"} <= {*found}
    assert {"3 inversions in 10 pairs", "2 of the worst linked"} <= {*found}
    # Both ends of the inversions, and the families.
    assert {"ghostnetv2_100", "mid_m", "heavy_l", "ghostnet", "light", "inversion", "least squares"} <= {*found}
    assert {"1 G", "10"} <= {*found}


def test_throughput_turned_over_is_not_called_latency(tmp_path: Path) -> None:
    for draw in (scatter_plot, rank_shift_plot):
        draw([compared.published()], tmp_path / "a.svg")
        found = " ".join(texts(tmp_path / "a.svg"))
        assert "time per image at batch 1024" in found and "latency" not in found


def test_a_model_at_two_sizes_is_named_with_its_size(tmp_path: Path) -> None:
    rank_shift_plot([compared.published()], tmp_path / "a.svg")
    found = " ".join(texts(tmp_path / "a.svg"))
    assert "light_b0 224" in found and "light_b0 288" in found and "giant 224" not in found


def test_the_rank_picture_names_every_model_with_both_ranks(tmp_path: Path) -> None:
    rank_shift_plot([compared.measured()], tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    # The worked-out ranks of test_comparison; the largest shift of five models is drawn strongly and says how far.
    assert {"ghostnetv2_100  1", "4  ghostnetv2_100 (+3)", "heavy_l  4", "2  heavy_l", "giant  5", "5  giant"} <= {
        *found
    }


def test_groups_are_panels_and_at_most_the_four_largest(tmp_path: Path) -> None:
    small = replace(compared.measured(), batch=8, points=compared.measured().points[:2], inversions=())
    single = replace(compared.measured(), batch=9, points=compared.measured().points[:1], inversions=())
    groups = [single, small, *(replace(compared.measured(), batch=batch) for batch in (1, 2, 4, 16))]
    for draw in (scatter_plot, rank_shift_plot):
        drawn = draw(groups, tmp_path / "a.svg")
        assert [group.batch for group in drawn] == [1, 2, 4, 16]
        titles = [text for text in texts(tmp_path / "a.svg") if "×" in text]
        assert len(titles) == 4 and "batch 16" in titles[-1]
    assert [group.batch for group in scatter_plot(groups[:3], tmp_path / "a.svg")] == [8, 1]


def test_models_without_macs_are_counted_not_drawn(tmp_path: Path) -> None:
    group = compared.measured()
    group = replace(group, points=(*group.points, compared.point("uncounted", None, 3.0)))
    scatter_plot([group], tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert "1 model without MACs not shown" in found and "uncounted" not in found


@pytest.mark.parametrize("draw", [scatter_plot, rank_shift_plot])
def test_names_from_outside_are_drawn_letter_for_letter(draw: Callable[..., object], tmp_path: Path) -> None:
    draw([compared.hostile()], tmp_path / "a.svg")
    draw([compared.hostile()], tmp_path / "a.png")
    found = " ".join(texts(tmp_path / "a.svg"))
    assert "<script>alert(" in found and "a$b_c$" in found and "名前_b" in found
    assert "&amp;" in found and "<b>$\\alpha$" in found
    # The long one is there with both of its ends.
    assert re.search(r"vit_very_\S*…\S*long_patch16_224", found)
    raw = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "<script" not in raw and "\x1b" not in raw and "\ufffe" not in raw


def test_hostile_names_in_the_front_and_in_layers(tmp_path: Path) -> None:
    points = [replace(point, model=compared.HOSTILE) for point in compared.front()]
    pareto_plot(points, "latency", tmp_path / "a.svg", where="<i>$^{x}$")
    assert "<script>" in " ".join(texts(tmp_path / "a.svg")) and "<i>$^{x}$" in " ".join(texts(tmp_path / "a.svg"))
    layer_share_plot([replace(bar, label=compared.HOSTILE) for bar in BARS], tmp_path / "a.svg", title="$\\frac")
    assert "$\\frac" in texts(tmp_path / "a.svg")


def test_the_front_names_its_models_and_its_units(tmp_path: Path) -> None:
    pareto_plot(compared.front(), "latency", tmp_path / "a.svg", where="local, ort")
    found = " ".join(texts(tmp_path / "a.svg"))
    assert "Accuracy against latency: 5 models, local, ort" in found and "latency, ms" in found
    assert "cheap" in found and "dear" in found and "beaten" not in found
    assert "on the front" in found and "not distinguishable" in found and "dominated" in found
    pareto_plot(compared.front(), "macs", tmp_path / "a.svg")
    assert "MACs" in texts(tmp_path / "a.svg") and "30 M" in texts(tmp_path / "a.svg")


def test_a_front_of_macs_names_all_of_a_few_models(tmp_path: Path) -> None:
    # Who does more work in more time is on it: here everybody, and nobody is beaten.
    rising = [
        FrontPoint(f"net{at}", None, at * 1e8, Interval(at * 1e6, at * 0.9e6, at * 1.1e6), True) for at in (1, 2, 4, 8)
    ]
    names = {point.model for point in rising}
    pareto_plot(rising, "latency", tmp_path / "a.svg", gain="macs")
    assert names <= set(texts(tmp_path / "a.svg"))
    late = FrontPoint("late", None, 1.5e8, Interval(6e6, 5.9e6, 6.1e6), False, False, "net4", None)
    pareto_plot([*rising, late], "latency", tmp_path / "a.svg", gain="macs")
    assert {*names, "late"} <= set(texts(tmp_path / "a.svg"))


def test_the_title_of_a_front_ends_before_its_legend(tmp_path: Path) -> None:
    where = "device0, openvino, fp32, batch 1, 1 thread"
    many = [FrontPoint(f"n{at}", None, at, Interval(at, None, None), True) for at in range(1, 1251)]
    pareto_plot(many, "latency", tmp_path / "a.svg", where=where, gain="macs")
    found = texts(tmp_path / "a.svg")
    assert "MACs against latency: 1,250 models, device0, openvino, fp32, batch 1," in found and "1 thread" in found


def test_between_names_there_is_room() -> None:
    figure = new_figure(5.0, 4.0)
    axes = figure.subplots()
    axes.set(xlim=(0, 10), ylim=(0, 10))
    settle(figure)
    points = [(1 + at % 9, 1 + at * 0.35) for at in range(24)]
    labels = [Label(f"family{at}_m{at}", x, y) for at, (x, y) in enumerate(points)]
    assert place_labels(axes, labels, points, 4.5) > 12
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(one).padded(0.9 * figure.dpi / 72) for one in axes.texts]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_layers_say_every_share_and_what_is_not_known(tmp_path: Path) -> None:
    layer_share_plot(BARS, tmp_path / "a.svg", title="light_b0, ort")
    found = texts(tmp_path / "a.svg")
    assert {"light_b0, ort", "depthwise_conv", "41.0%", "6.0%", "22.0%", "share of time", "share of bytes"} <= {*found}
    assert found.count("n/a") == 2
    # The part with most time is on top.
    assert found.index("pointwise_conv") < found.index("depthwise_conv")
    many = [ShareBar(f"block.{index}", 0.01, 0.01, 0.01) for index in range(30)]
    layer_share_plot(many, tmp_path / "b.svg")
    assert "6 rows with less time not shown" in texts(tmp_path / "b.svg")


@pytest.mark.parametrize("name", PICTURES)
def test_a_suffix_that_is_no_picture_is_refused(name: str, tmp_path: Path) -> None:
    for bad in ("a.pdf", "a", "svg"):
        with pytest.raises(UsageError) as caught:
            PICTURES[name](tmp_path / bad)
        assert ".svg and .png" in caught.value.remedy
    PICTURES[name](tmp_path / "A.PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["A.PNG"]


def test_nothing_to_draw_is_said_with_what_to_do(tmp_path: Path) -> None:
    empty = replace(compared.measured(), points=(), inversions=())
    for draw in (
        lambda file: scatter_plot([empty], file),
        lambda file: rank_shift_plot([], file),
        lambda file: pareto_plot((), "latency", file),
        lambda file: layer_share_plot((), file),
    ):
        with pytest.raises(VitprofError, match="nothing to draw") as caught:
            draw(tmp_path / "a.svg")
        assert caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(VitprofError, match=r"cannot write .*a\.svg"):
        PICTURES["layers"](tmp_path / "missing" / "a.svg")


def test_without_matplotlib_the_remedy_is_the_extra() -> None:
    script = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from pathlib import Path\n"
        "from vitprof.errors import UnreachableError\n"
        "from vitprof.report.plot_style import check_plot_file\n"
        "try:\n    check_plot_file(Path('a.svg'))\n"
        "except UnreachableError as error:\n    print(int(error.exit_code), error.remedy)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{int(ExitCode.UNREACHABLE)} pip install 'vitprof[report]'"


def test_importing_the_pictures_does_not_import_matplotlib_nor_pyplot() -> None:
    script = (
        "import sys\nimport vitprof.report.plots, vitprof.report.plot_front, vitprof.report.plot_layers\n"
        "print('matplotlib' in sys.modules, 'pydantic' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]


def test_pictures_leave_pyplot_alone(tmp_path: Path) -> None:
    code = "from tests.report.test_plots import PICTURES; import sys; from pathlib import Path\n"
    code += f"for name in PICTURES: PICTURES[name](Path({str(tmp_path)!r}) / (name + '.png'))\n"
    code += "print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "False" and not done.stderr


def test_families_are_leading_letters_without_versions() -> None:
    names = (
        "efficientformerv2_s0",
        "tf_efficientnet_b0",
        "mobilenetv3_large_100",
        "torchvision:resnet50",
        "1x1",
        "vgg16",
    )
    assert [family_of(name) for name in names] == [
        "efficientformer",
        "efficientnet",
        "mobilenet",
        "resnet",
        "1x1",
        "vgg",
    ]
    assert family_of("convnextv2_base") == family_of("convnext_tiny") == "convnext"
    assert family_of("levit_128") == "levit"


def test_the_seven_largest_families_have_colour_and_marker_of_their_own() -> None:
    models = [f"{letter * 3}_{index}" for letter in "abcdefghi" for index in range(2 if letter == "i" else 1)]
    styles = family_styles(models)
    own = {style for style in styles.values() if style.name != "other families"}
    assert len(own) == len({one.colour for one in own}) == len({one.marker for one in own}) == 7
    assert styles["iii"] in own and styles["aaa"] in own
    assert [name for name, style in styles.items() if style not in own] == ["ggg", "hhh"]


def test_a_long_name_keeps_both_ends() -> None:
    assert shown("a" * 20 + "b" * 20, 11) == "aaaaa…bbbbb"
    assert shown("short", 11) == "short"


def test_ticks_are_round_numbers_and_at_least_three() -> None:
    assert ticks_between(0.9, 1_100) == [1, 10, 100, 1_000]
    assert ticks_between(2, 40) == [3, 10, 30]
    assert ticks_between(90, 310) == [100, 150, 200, 300]
    for low, high in ((1.0, 1.3), (0.97, 1.06), (3e8, 7e8), (1e-3, 1e5)):
        ticks = ticks_between(low, high)
        assert len(ticks) >= 3 and low <= ticks[0] and ticks[-1] <= high


def test_labels_that_are_too_close_are_moved_apart_around_their_middle() -> None:
    assert spread([1.0, 5.0, 9.0], 1.0) == [1.0, 5.0, 9.0]
    assert spread([3.0, 3.0], 1.0) == [2.5, 3.5]
    # The pair around 3 would reach 3.5, too near to 4: all three are centred on 10 ÷ 3.
    assert spread([3.0, 3.0, 4.0], 1.0) == pytest.approx([7 / 3, 10 / 3, 13 / 3])
    assert spread([], 1.0) == []


def test_a_check_of_the_file_comes_before_any_work() -> None:
    check_plot_file(Path("a.svg"))
    with pytest.raises(UsageError, match=r"'a\.gif'"):
        check_plot_file(Path("a.gif"))
