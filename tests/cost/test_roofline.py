"""Sums worked out by hand. Peaks: 1 GMAC/s and 1 GB/s, so a MAC and a byte take a nanosecond each; a launch takes 5."""

from __future__ import annotations

import pytest

from vitprof.cost.roofline import roofline
from vitprof.counts import Cost, Kind, OpRow
from vitprof.records import Peak, Peaks, Roofline

PEAKS = Peaks(Peak(1e9, "made up"), Peak(1e9, "made up"), Peak(5.0, "made up"))
# Two calls: 1,000 MACs and 100 + 40 bytes, of which 60 are weights.
PRODUCT = OpRow("mm", Kind.LINEAR, "", 2, 1_000, bytes_in=100, bytes_out=40, shape_out=(1,), weight_bytes=60)
# Three calls: 300 + 150 bytes and nothing else.
SUM = OpRow("add", Kind.ELEMENTWISE, "", 3, 0, bytes_in=300, bytes_out=150, shape_out=(1,))


def _cost(*rows: OpRow) -> Cost:
    return Cost(None, None, None, None, None, rows=rows)


def _of(*rows: OpRow, peaks: Peaks = PEAKS, batch: int = 1, bytes_per_value: int = 4) -> Roofline:
    found = roofline(_cost(*rows), peaks, batch, bytes_per_value)
    assert found
    return found


def test_an_operator_takes_the_longer_of_its_work_and_its_bytes_and_each_call_is_launched() -> None:
    # The product: max(1000, 140) ns of compute; the sum: 450 ns of memory; five calls of 5 ns.
    found = _of(PRODUCT, SUM)
    assert (found.compute_ns, found.memory_ns, found.overhead_ns) == (1_000, 450, 25)
    assert found.total_ns == 1_475 and found.bound == "compute"


def test_activations_grow_with_the_batch_and_weights_do_not() -> None:
    # Four images: 4 x 80 bytes of activations and 60 of weights, 4 x 450 of the sum. The calls stay five.
    peaks = Peaks(Peak(1e12, "made up"), PEAKS.bytes_per_s, PEAKS.launch_ns)
    found = _of(PRODUCT, SUM, peaks=peaks, batch=4)
    assert (found.compute_ns, found.memory_ns, found.overhead_ns) == (0, 380 + 1_800, 25)
    assert _of(PRODUCT, batch=4).compute_ns == 4_000


@pytest.mark.parametrize(("bytes_per_value", "memory_ns"), [(4, 450), (2, 225), (1, 112.5)])
def test_values_of_a_lower_precision_are_fewer_bytes(bytes_per_value: int, memory_ns: float) -> None:
    found = _of(SUM, bytes_per_value=bytes_per_value)
    assert found.memory_ns == memory_ns and found.bound == "memory"


def test_many_small_operators_are_bound_by_their_launches() -> None:
    tiny = OpRow("mul", Kind.ELEMENTWISE, "", 100, 0, bytes_in=100, bytes_out=100, shape_out=(1,))
    # 200 ns of memory, 100 x 5 ns of launches.
    assert (_of(tiny).total_ns, _of(tiny).bound) == (700, "overhead")


def test_a_launch_cost_that_is_not_known_adds_nothing() -> None:
    peaks = Peaks(PEAKS.macs_per_s, PEAKS.bytes_per_s)
    assert _of(PRODUCT, SUM, peaks=peaks).total_ns == 1_450


def test_what_an_exporter_may_fold_is_left_out() -> None:
    folded = OpRow("mm", Kind.LINEAR, "", 1, 10_000, 10, 10, (1,), depends_on_input=False)
    assert _of(SUM, folded) == _of(SUM)


def test_without_operators_there_is_no_roofline() -> None:
    assert roofline(_cost(), PEAKS, batch=1) is None
