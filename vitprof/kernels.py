"""What a compiler made of a model, told without running it: its kernels, and what of the model each of them does.

Its own file beside `comparisons` because nothing here is measured. The exporter reads kernels from a build, the
analysis puts the counted work beside them, the report shows both; the three do not know each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitprof.counts import Kind
from vitprof.records import ModelSpec


@dataclass(frozen=True)
class Kernel:
    """One kernel as its compiler lists it. Bytes are in the compiler's own types and of the whole batch."""

    name: str
    # In the compiler's words: `correlation`, `gemm`, `kgen`, `wait`.
    type: str
    tactic: str
    # Of the ONNX file, in the order listed; none where the compiler does not say what a kernel is made of.
    nodes: tuple[str, ...]
    # The tensors' names: whose output goes where.
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    # Inputs, weights and outputs, each once; None where one of them is of a type without a known size.
    bytes_moved: int | None


@dataclass(frozen=True)
class KernelList:
    """What a build says of its engine, for one compute capability. None: it does not say."""

    kernels: tuple[Kernel, ...]
    weight_bytes: int | None
    activation_bytes: int | None
    scratch_bytes: int | None


@dataclass(frozen=True)
class Attention:
    """The nodes of a softmax attention: two products of tensors that depend on the image, and what is between."""

    scores: str
    softmax: str
    values: str

    @property
    def nodes(self) -> frozenset[str]:
        return frozenset((self.scores, self.softmax, self.values))


@dataclass(frozen=True)
class KernelWork:
    """Counted MACs of one image and bytes moved by the whole batch; shares are of the model and of all kernels.

    None where it could not be told.
    """

    macs: int | None
    macs_share: float | None
    bytes_moved: int | None
    bytes_share: float | None
    # Over all images of the batch.
    macs_per_byte: float | None


@dataclass(frozen=True)
class FusedKernel:
    """A kernel with what of the model it does. `kind` None: it could not be told."""

    kernel: Kernel
    kind: Kind | None
    module: str
    work: KernelWork
    # Attentions of which it does both products and the softmax.
    attentions: int


@dataclass(frozen=True)
class KernelSum:
    """The kernels of one kind or one module together; `name` None: those that could not be told."""

    name: str | None
    kernels: int
    work: KernelWork


@dataclass(frozen=True)
class StaticLayers:
    """The kernels of an engine beside the work that was counted in the ONNX file that it was built from."""

    listed: KernelList
    # Entries of the list that are no kernels: events that keep the streams of a GPU in step.
    synchronisations: int
    # Nodes that depend on the image, and those of the others that a kernel names all the same.
    nodes: int
    macs: int
    # Of `macs`, products of weights alone: done again for every image, because the compiler left them in kernels.
    image_free_macs: int
    # Of the counted MACs, those of nodes that a kernel names; None where there are none.
    attributed_macs_share: float | None
    # Softmax attentions of the file, and those whose two products and softmax are one kernel.
    attentions: int
    fused_attentions: int
    kernels: tuple[FusedKernel, ...]
    by_kind: tuple[KernelSum, ...]
    by_module: tuple[KernelSum, ...]


@dataclass(frozen=True)
class StaticModel:
    """Static layers with what they are of."""

    spec: ModelSpec
    # (N, C, H, W)
    input_shape: tuple[int, ...]
    backend: str
    backend_version: str
    compute_capability: str
    layers: StaticLayers
