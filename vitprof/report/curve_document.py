"""Curves to the JSON document of `schema_curves`, and to CSV, a line a point.

Its own file beside `document`, which converts rows: nothing of a curve is in a row. Both forms are made of the same
parts, so that they cannot differ.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vitprof.curves import Crossover, Curve, CurvePoint, Headroom
from vitprof.measurements import Interval
from vitprof.report.document import rows_from_results
from vitprof.report.outside import csv_cell, encodable
from vitprof.report.schema_curves import (
    CrossoverPart,
    CurvePart,
    CurvePointPart,
    DeviceBytesPart,
    HeadroomPart,
    ThroughputDocument,
)
from vitprof.units import six_digits

# Of a curve, of a point, of the curve again. New columns go at the end: scripts may read by position.
_OF_CURVE = (
    *("model", "source", "height", "width", "precision", "device", "backend", "backend_version", "threads"),
    "region",
)
_OF_POINT = (
    *("batch", "outcome", "images_per_s", "images_per_s_ci95_low", "images_per_s_ci95_high"),
    *("images_per_reference", "reference_ci95_low", "reference_ci95_high", "gain_share"),
    *("latency_p50_ns", "latency_ci95_low_ns", "latency_ci95_high_ns", "memory_bytes", "peak_rss_bytes"),
    *("device_bytes", "parity_broken", "grade", "relative_grade"),
)
_MARKS = ("is_best", "is_knee", "stopped_by", "reference", "protocol_hash")
COLUMNS = (*_OF_CURVE, *_OF_POINT, *_MARKS)


def document_from_curves(
    curves: Sequence[Curve], crossovers: Sequence[Crossover], *, with_samples: bool
) -> ThroughputDocument:
    """The document of `throughput`: all rows, the curves that they make, and where these cross."""
    results = [row for curve in curves for row in curve.rows]
    return ThroughputDocument(
        results=rows_from_results(results, with_samples=with_samples).results,
        curves=tuple(map(_curve, curves)),
        crossovers=tuple(map(_crossover, crossovers)),
    )


def curves_csv(curves: Sequence[Curve]) -> str:
    """Header and one line a point, lines ended by `\\n`; batches that failed have lines too."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for curve in map(_curve, curves):
        for point in curve.points:
            writer.writerow({name: _cell(value) for name, value in _line(curve, point)})
    return file.getvalue()


def _curve(curve: Curve) -> CurvePart:
    row = curve.row
    relative = row.summary.relative if row.summary else None
    return CurvePart(
        model=encodable(row.spec.name),
        source=row.spec.source.value,
        size=curve.size,
        precision=row.spec.precision.value,
        device=encodable(row.device),
        backend=row.backend,
        backend_version=row.backend_version,
        threads=row.threads,
        region=row.protocol.region,
        reference=relative.reference if relative else None,
        protocol_hash=row.protocol.hash,
        points=tuple(map(_point, curve.points)),
        best_batch=curve.best_batch,
        knee_batch=curve.knee_batch,
        stopped_by=curve.stopped_by.value,
        headroom=_headroom(curve.headroom) if curve.headroom else None,
    )


def _point(point: CurvePoint) -> CurvePointPart:
    rate, relative, latency = point.images_per_s, point.images_per_reference, point.latency_ns
    return CurvePointPart(
        batch=point.batch,
        images_per_s=six_digits(rate.value) if rate else None,
        ci95=_borders(rate, six_digits),
        images_per_reference=six_digits(relative.value) if relative else None,
        reference_ci95=_borders(relative, six_digits),
        gain_share=None if point.gain_share is None else six_digits(point.gain_share),
        latency_ns=round(latency.value) if latency else None,
        latency_ci95=_borders(latency, round),
        memory_bytes=point.memory_bytes,
        peak_rss_bytes=point.peak_rss_bytes,
        device_bytes=tuple(DeviceBytesPart(counted_by=one.counted_by, bytes=one.bytes) for one in point.device_bytes),
        outcome=point.outcome.value,
        parity_broken=point.is_broken,
        grade=point.grade,
        relative_grade=point.relative_grade,
    )


def _headroom(headroom: Headroom) -> HeadroomPart:
    return HeadroomPart(
        memory=headroom.memory,
        usable_bytes=headroom.usable_bytes,
        taken_bytes=headroom.taken_bytes,
        left_bytes=headroom.left_bytes,
        largest_batch=headroom.largest_batch,
    )


def _crossover(one: Crossover) -> CrossoverPart:
    return CrossoverPart(
        axis=one.axis.value,
        batch=one.batch,
        size=one.size,
        below=encodable(one.below),
        above=encodable(one.above),
        at=six_digits(one.at),
        between=(six_digits(one.between[0]), six_digits(one.between[1])),
        verdict="decided" if one.is_decided else "undecided",
    )


def _borders(interval: Interval | None, shown: Callable[[float], Any]) -> tuple[Any, Any] | None:
    if interval is None or interval.low is None or interval.high is None:
        return None
    return shown(interval.low), shown(interval.high)


def _line(curve: CurvePart, point: CurvePointPart) -> Iterator[tuple[str, Any]]:
    height, width = curve.size or (None, None)
    own = {**curve.model_dump(include={*_OF_CURVE, *_MARKS}), "height": height, "width": width}
    yield from own.items()
    for name, interval, unit in (
        ("images_per_s_ci95", point.ci95, ""),
        ("reference_ci95", point.reference_ci95, ""),
        ("latency_ci95", point.latency_ci95, "_ns"),
    ):
        low, high = interval or (None, None)
        yield from ((f"{name}_low{unit}", low), (f"{name}_high{unit}", high))
    yield from point.model_dump(include={*_OF_POINT} - {"device_bytes"}).items()
    yield "latency_p50_ns", point.latency_ns
    yield "device_bytes", "; ".join(f"{one.counted_by} {one.bytes}" for one in point.device_bytes)
    yield "is_best", point.batch == curve.best_batch
    yield "is_knee", point.batch == curve.knee_batch


def _cell(value: Any) -> str | float:
    return csv_cell(str(value).lower() if isinstance(value, bool) else value)
