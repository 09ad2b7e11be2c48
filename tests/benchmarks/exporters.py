"""The two exporters over forty models: what succeeds, in how many seconds, and how fast ONNX Runtime runs the result.

    python -m tests.benchmarks.exporters [MODEL ...]

For each model both artifacts (forced with `--exporter`), then their ratio in one `quick` group on one thread.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys

import onnx

from tests.benchmarks.artifacts import prepared, ratio_of
from vitprof.errors import VitprofError
from vitprof.records import Artifact, Exporter, ModelSpec, Source

FORTY = (
    "vit_tiny_patch16_224", "deit3_small_patch16_224", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256",
    "xcit_tiny_12_p16_224", "cait_xxs24_224", "coat_tiny", "efficientformer_l1", "efficientformerv2_s0", "fastvit_t8",
    "mobilevit_s", "mobilevitv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "mobileone_s1", "repvit_m1_1",
    "efficientvit_b1", "efficientvit_m2", "convnext_atto", "edgenext_small", "poolformer_s12", "tnt_s_patch16_224",
    "pit_s_224", "levit_256", "maxvit_nano_rw_256", "davit_tiny", "focalnet_tiny_srf", "nextvit_small",
    "gcvit_xxtiny", "mvitv2_tiny", "hiera_tiny_224", "crossvit_9_240", "twins_svt_small", "convit_tiny", "resnet50",
    "mixer_b16_224", "lowformer_b0", "lowformer_b3", "swiftformer_xs", "tiny_vit_5m_224",
)  # fmt: skip


def main(models: tuple[str, ...]) -> None:
    seconds: dict[Exporter, list[float]] = {one: [] for one in Exporter}
    ratios: list[float] = []
    for name in models:
        made = {one: _made(name, one) for one in Exporter}
        shown = [f"{name:30s}"]
        for exporter, artifact in made.items():
            if isinstance(artifact, Artifact):
                seconds[exporter].append(artifact.seconds)
                nodes = len(onnx.load(str(artifact.path), load_external_data=False).graph.node)
                folded = f" folded {len(artifact.folded_weights)}" if artifact.folded_weights else ""
                shown.append(f"{exporter.value} {artifact.seconds:5.1f} s {nodes:4d} nodes{folded}")
            else:
                shown.append(f"{exporter.value} FAILED {artifact}")
        dynamo, script = made[Exporter.DYNAMO], made[Exporter.TORCHSCRIPT]
        if isinstance(dynamo, Artifact) and isinstance(script, Artifact):
            ratio = ratio_of(script, dynamo, "ort")
            if ratio and ratio.low is not None:
                ratios.append(ratio.value)
                shown.append(f"dynamo ÷ torchscript {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]")
        print("  ".join(shown), flush=True)
    for exporter, values in seconds.items():
        print(f"{exporter.value}: {len(values)} of {len(models)}, median {statistics.median(values):.1f} s each")
    print(f"dynamo ÷ torchscript, geometric mean of {len(ratios)}: {statistics.geometric_mean(ratios):.3f}")


def _made(name: str, exporter: Exporter) -> Artifact | str:
    try:
        return prepared(name, like=dataclasses.replace(ModelSpec("", Source.TIMM), exporter=exporter))
    except VitprofError as error:
        return error.message


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or FORTY)
