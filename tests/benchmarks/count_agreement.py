"""The two counters over forty models: MACs in torch, MACs of the exported graph, what the exporter folded, the rest.

    python -m tests.benchmarks.count_agreement [MODEL ...]

The graph is that of the artifact that `vitprof latency MODEL` runs, as is the count in torch.
"""

from __future__ import annotations

import sys
import time

from tests.benchmarks.artifacts import prepared
from tests.benchmarks.exporters import FORTY
from vitprof.cost.agreement import Agreement, agreement
from vitprof.cost.onnx_count import count_onnx
from vitprof.errors import VitprofError


def main(models: tuple[str, ...]) -> None:
    print(f"{'model':30s} {'MACs torch':>16s} {'MACs onnx':>16s} {'folded':>12s} {'difference':>11s} {'count':>7s}")
    agreeing = 0
    for name in models:
        try:
            artifact = prepared(name)
        except VitprofError as error:
            print(f"{name:30s} FAILED {error.message}", flush=True)
            continue
        start = time.perf_counter()
        onnx_cost = count_onnx(artifact.path, artifact.input_shape, input_name=artifact.input_name)
        seconds = time.perf_counter() - start
        compared = agreement(artifact.cost, onnx_cost)
        agreeing += compared.agrees
        print(f"{name:30s} {_row(compared)} {seconds:5.2f} s", *onnx_cost.uncounted_ops, flush=True)
        for cause in compared.causes[:5]:
            print(f"    {cause.module} {cause.kind.value}: {cause.torch_macs:,} torch, {cause.onnx_macs:,} onnx")
    print(f"{agreeing} of {len(models)} agree")


def _row(compared: Agreement) -> str:
    share = f"{compared.difference_share:+.4%}" if compared.difference_share is not None else "unknown"
    torch_macs, onnx_macs = (
        "unknown" if macs is None else str(macs) for macs in (compared.torch_macs, compared.onnx_macs)
    )
    return f"{torch_macs:>16} {onnx_macs:>16} {compared.folded_macs:12d} {share:>11s}"


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or FORTY)
