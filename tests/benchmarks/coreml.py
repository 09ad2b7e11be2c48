"""Core ML conversion over forty models: what converts and how, MACs and parameters of the program, parity, findings.

    python -m tests.benchmarks.coreml [--fp16] [MODEL ...]

Nothing needs a Mac: parity is that of the reference evaluator on the saved package.
"""

from __future__ import annotations

import dataclasses
import sys

from tests.benchmarks.exporters import FORTY
from vitprof.errors import VitprofError
from vitprof.export.coreml_parity import reference_parity
from vitprof.export.locks import InUse
from vitprof.places import places
from vitprof.records import Artifact, ModelSpec, Precision, Source
from vitprof.report.progress import NoProgress
from vitprof.workshop import Workshop

# Of MACs and of parameters, program and module may differ by this share.
_SAME = 0.005


def main(models: tuple[str, ...], precision: Precision) -> None:
    like = dataclasses.replace(ModelSpec("", Source.TIMM), precision=precision)
    root = places().cache_root
    converted = agreeing = matching = 0
    with InUse(root) as in_use, Workshop(root, NoProgress()) as workshop:
        for spec in workshop.specs(models, like):
            try:
                artifact = workshop.artifact(spec, "coreml", in_use)
            except VitprofError as error:
                print(f"{spec.name:30s} FAILED {error.message}", flush=True)
                continue
            parity = workshop.elsewhere("parity", spec.name, reference_parity, artifact)
            converted += 1
            agreeing += all(abs(_difference(artifact, what)) <= _SAME for what in ("macs", "params"))
            matching += parity.verdict.value == "match"
            shown = "" if parity.max_rel_error is None else f"{parity.max_rel_error:.1e}"
            print(f"{spec.name:30s} {_row(artifact)} {parity.verdict.value} {shown} {parity.reason or ''}")
            doubts = (f"{doubt.code}: {doubt.detail}" for doubt in artifact.lint)
            for line in (*artifact.fixups, artifact.count_doubt or "", *doubts):
                if line and not line.startswith(("drew ", "set the statistics")):
                    print(f"    {line}", flush=True)
    print(f"{converted} of {len(models)} convert, of {agreeing} MACs and parameters agree, {matching} match")


def _difference(artifact: Artifact, what: str) -> float:
    """(program - module) / module."""
    mine, theirs = getattr(artifact.cost, what), getattr(artifact.program, what)
    return (theirs - mine) / mine if mine and theirs is not None else float("nan")


def _row(artifact: Artifact) -> str:
    program = artifact.program
    ops = sum(program.ops.values()) if program else 0
    shares = f"MACs {_difference(artifact, 'macs'):+.3%} params {_difference(artifact, 'params'):+.3%}"
    way = artifact.exporter.split(", ")[1]
    return f"{artifact.seconds:5.1f} s {way:30s} {ops:5d} ops {artifact.cost.macs:>12,} {shares}"


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--fp16"]
    main(tuple(words) or FORTY, Precision.FP16 if "--fp16" in sys.argv else Precision.FP32)
