"""The JSON document of `layers --static`.

Its own file beside `schema_analysis`, whose `layers` has times: what a build tells and what a run tells share no field.
"""

from __future__ import annotations

from vitprof.report.schema import Part


class KernelWorkPart(Part):
    """MACs of one image, bytes of the whole batch in the engine's types; `null` where it could not be told."""

    macs: int | None
    macs_share: float | None
    bytes: int | None
    bytes_share: float | None
    macs_per_byte: float | None


class KernelKindPart(Part):
    kind: str | None
    kernels: int
    work: KernelWorkPart


class KernelModulePart(Part):
    module: str | None
    kernels: int
    work: KernelWorkPart


class KernelPart(Part):
    name: str
    type: str
    tactic: str
    kind: str | None
    module: str
    work: KernelWorkPart
    # Whole ones: both products and the softmax.
    fused_attentions: int
    nodes: tuple[str, ...]


class FusedAttentionPart(Part):
    """`found`: softmax attentions of the file; `fused`: those that are one kernel."""

    found: int
    fused: int


class EngineMemoryPart(Part):
    weights: int | None
    activations: int | None
    scratch: int | None


class StaticLayersDocument(Part):
    """`layers --static`."""

    schema_version: int = 1
    model: str
    source: str
    size: tuple[int, int]
    batch: int
    precision: str
    backend: str
    backend_version: str
    compute_capability: str
    synchronisations: int
    onnx_nodes: int
    macs: int
    image_free_macs: int
    attributed_macs_share: float | None
    attention: FusedAttentionPart
    memory_bytes: EngineMemoryPart
    by_kind: tuple[KernelKindPart, ...]
    by_module: tuple[KernelModulePart, ...]
    kernels: tuple[KernelPart, ...]
