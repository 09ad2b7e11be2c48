"""Comparisons made by hand, with figures that a reader can check."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vitprof.comparisons import Correlation, Disagreement, FrontPoint, Inversion, PairVerdict, Point
from vitprof.counts import Kind, KindSum
from vitprof.measurements import Interval

HOSTILE = "<script>alert('$x_1$')</script>|`a_b`\x1b[31m"
LONG = "vit_" + "very_" * 40 + "long_patch16_224"
# (name, millions of MACs, ms). By MACs: ghost, light, mid, heavy, giant; by time: heavy is 2nd, mid 3rd, ghost 4th.
_MODELS = (
    ("light_b0", 400, 4.0),
    ("ghostnetv2_100", 180, 12.0),
    ("mid_m", 1_000, 10.0),
    ("heavy_l", 2_000, 6.0),
    ("giant", 8_000, 40.0),
)
REASON = "moves 3.0 times as many bytes below 10 MACs/byte (30 MB against 10 MB)"


def point(name: str, mmacs: float | None, ms: float, **changes: Any) -> Point:
    """A measured model; its roofline is a quarter of its time, and it moves a tenth of a byte for each MAC."""
    macs = None if mmacs is None else mmacs * 1e6
    moved = (KindSum(Kind.CONV, 10, int(macs), int(macs * 0.06), int(macs * 0.04), 1_000),) if macs else ()
    values: dict[str, Any] = {
        "size": (224, 224),
        "batch": 1,
        "precision": "fp32",
        "device": "local",
        "backend": "ort",
        "image_ns": ms * 1e6,
        "latency_ns": Interval(ms * 1e6, ms * 0.99e6, ms * 1.01e6),
        "macs": macs,
        "roofline_ns": ms * 0.25e6,
        "kinds": moved,
    }
    return Point(name, **{**values, **changes})


def measured() -> Disagreement:
    points = tuple(point(*one) for one in _MODELS)
    by_name = {one.model: one for one in points}
    rows = (
        # 180 ÷ 2,000 = 0.09 and 12 ÷ 6 = 2; 1,000 ÷ 2,000 = 0.5 and 10 ÷ 6 = 1.667.
        Inversion(by_name["ghostnetv2_100"], by_name["heavy_l"], 0.09, 2.0, REASON),
        Inversion(by_name["mid_m"], by_name["heavy_l"], 0.5, 10 / 6, "unexplained"),
    )
    return Disagreement(
        "local",
        "ort",
        "fp32",
        1,
        points,
        # Ranks by time less ranks by MACs: -1, +3, 0, -2, 0; 1 - 6 · 14 ÷ (5 · 24) = 0.3.
        spearman={
            "macs": Correlation(0.3, -0.712, 0.91),
            "params": Correlation(None, None, None),
            "roofline": Correlation(1.0, 0.95, 1.0),
        },
        # 7 of 10 pairs agree: (7 - 3) ÷ 10.
        kendall={"macs": Correlation(0.4, None, None), "roofline": Correlation(1.0, 0.9, 1.0)},
        log_macs_r2=0.4567891,
        inversions_total=3,
        pairs=10,
        inversions=rows,
        best_count="roofline",
    )


def published() -> Disagreement:
    """A table's rows at batch 1024: images/s turned over, and one model there at two sizes."""
    points = tuple(
        replace(one, batch=1024, latency_ns=None, roofline_ns=None, kinds=(), backend="torch", device="rtx4090")
        for one in (*measured().points, point("light_b0", 800, 9.0, size=(288, 288)))
    )
    inversion = Inversion(points[1], points[3], 0.09, 2.0, "unexplained")
    known = {"macs": Correlation(0.5, 0.1, 0.7), "activations": Correlation(0.9, 0.8, 0.95)}
    return Disagreement("rtx4090", "torch", "amp", 1024, points, known, known, 0.8, 1, 15, (inversion,), "activations")


def hostile() -> Disagreement:
    """Names that are markup, formulas, and too long, where every one of them is drawn and labelled."""
    group = measured()
    names = dict(
        zip([one.model for one in group.points], (HOSTILE, "a$b_c$", LONG, "名前_b", "x\ufffe&amp;"), strict=True)
    )

    def renamed(one: Point) -> Point:
        return replace(one, model=names[one.model])

    rows = tuple(replace(one, slower=renamed(one.slower), faster=renamed(one.faster)) for one in group.inversions)
    return replace(group, device="<b>$\\alpha$", points=tuple(map(renamed, group.points)), inversions=rows)


def pairs() -> tuple[PairVerdict, ...]:
    return (
        PairVerdict("light_b0", "ort", "openvino", Interval(0.712, 0.7, 0.731), "faster", ("backend_version",)),
        PairVerdict("mid_m", "ort", "openvino", Interval(1.01, 0.99, 1.03), "undecided", ()),
        PairVerdict("a|b<i>", "ort", "openvino", None, None, ("protocol", "threads")),
    )


def front() -> tuple[FrontPoint, ...]:
    """In no order: two on the front, one within the interval of a better one, one beaten, one of unknown interval."""
    return (
        FrontPoint("dear", (224, 224), 80.0, Interval(20e6, 19e6, 21e6), True),
        FrontPoint("beaten", (224, 224), 70.0, Interval(30e6, 29e6, 31e6), False, False, "cheap"),
        FrontPoint("cheap", (224, 224), 75.25, Interval(10e6, 9.8e6, 10.2e6), True),
        FrontPoint("close", (256, 256), 75.0, Interval(10.1e6, 9.9e6, 10.3e6), False, True, "cheap"),
        FrontPoint("unsure", None, 60.0, Interval(40e6, None, None), False, False, "cheap"),
    )
