"""Counted operators to the time that they must take at least.

Its own file because it needs nothing of how the work was counted: a module's operators and a graph's nodes have the
same rows. The formula is the roofline model, an operator at a time:

    time = max(MACs ÷ peak MAC/s, bytes ÷ peak bytes/s) + launch

S. Williams, A. Waterman, D. Patterson, "Roofline: An Insightful Visual Performance Model for Multicore
Architectures", Communications of the ACM 52(4), 2009, gives the first term as a rate, min(peak, intensity ×
bandwidth); the launch cost is added here, because small operators at batch 1 are bound by neither.

Two things make a real time shorter than this one. A runtime that fuses operators moves fewer bytes and starts fewer of
them than were counted, and a tensor that the next operator still finds in a cache comes faster than from memory.
"""

from __future__ import annotations

from vitprof.counts import Cost, OpRow
from vitprof.records import Peaks, Roofline

# What rows are counted in: fp32.
_COUNTED_BYTES_PER_VALUE = 4


def roofline(cost: Cost, peaks: Peaks, batch: int, bytes_per_value: int = 4) -> Roofline | None:
    """The least time of one inference of `batch` images; None where the operators of `cost` are not known.

    Activations and MACs grow with the batch, weights do not. `bytes_per_value`: 4, 2 for fp16, 1 for int8, where every
    value counts as one byte, though runtimes hold some in fp32 still: it must not be more than they move. Operators
    that do not depend on the input are left out, as an exporter may leave them out; their results are read by others.
    """
    if not cost.rows:
        return None
    compute_ns = memory_ns = overhead_ns = 0.0
    for row in cost.rows:
        if not row.depends_on_input:
            continue
        # A row holds the sums over equal calls, and the larger of two sums is the sum of the larger.
        row_compute_ns = 1e9 * row.macs * batch / peaks.macs_per_s.value
        row_memory_ns = 1e9 * _bytes_moved(row, batch, bytes_per_value) / peaks.bytes_per_s.value
        if row_compute_ns >= row_memory_ns:
            compute_ns += row_compute_ns
        else:
            memory_ns += row_memory_ns
        overhead_ns += row.calls * peaks.launch_ns.value if peaks.launch_ns else 0.0
    return Roofline(compute_ns + memory_ns + overhead_ns, compute_ns, memory_ns, overhead_ns)


def _bytes_moved(row: OpRow, batch: int, bytes_per_value: int) -> float:
    counted = (row.bytes_moved - row.weight_bytes) * batch + row.weight_bytes
    return counted * bytes_per_value / _COUNTED_BYTES_PER_VALUE
