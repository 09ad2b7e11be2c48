"""The frozen values that pass between the stages: what is asked, what it costs, where it runs, what came of it.

No behaviour beyond a derived field, no heavy import: every layer above reads this file, and a cached measurement
must not pay for torch. What crosses to the device (Plan, Block, Failure, …) lives in `vitprof.runner.wire`, what
measuring gives in `vitprof.measurements`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from vitprof.counts import Cost, OtherCount
from vitprof.errors import ExitCode
from vitprof.measurements import Doubt, Grade, Instructions, Protocol, Samples, Summary
from vitprof.runner.wire import Failure, Option


class Source(StrEnum):
    TIMM = "timm"
    TORCHVISION = "torchvision"
    # A function of the user's own file that builds a module.
    PYTHON = "python"
    ONNX = "onnx"
    # A program of torch.export.
    PT2 = "pt2"
    # TorchScript, or with the user's leave a pickled module.
    PT = "pt"


# Modules of these are built here, as timm builds its own: from random weights, with blocks that may want fusing.
BUILT_HERE = (Source.TIMM, Source.PYTHON)
AS_BUILT = " --no-reparam"


def typed_name(name: str, source: str | None, *, as_built: bool = False) -> str:
    """What one types to name a model: timm's names and files stand for themselves."""
    prefix = f"{source}:" if source == Source.TORCHVISION else ""
    return f"{prefix}{name}{AS_BUILT if as_built else ''}"


class Precision(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


class Exporter(StrEnum):
    """Of torch's two ways to ONNX."""

    DYNAMO = "dynamo"
    TORCHSCRIPT = "torchscript"


class ParityVerdict(StrEnum):
    MATCH = "match"
    DRIFT = "drift"
    BROKEN = "broken"
    NOT_CHECKED = "not-checked"


class Verdict(StrEnum):
    """Candidate against baseline. `UNDECIDED`: the interval straddles a border of the equivalence band."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    UNDECIDED = "undecided"


# The batch of an artifact that takes any number of images; batches above one are made from it.
ANY_BATCH = 0


@dataclass(frozen=True)
class ModelSpec:
    """What is asked for, by name: no weights, no torch. `size`: (height, width) in pixels, None: the model's own."""

    name: str
    source: Source
    size: tuple[int, int] | None = None
    batch: int = 1
    precision: Precision = Precision.FP32
    seed: int = 0
    pretrained: bool = False
    reparam: bool = True
    # Only for files: where it lies, and for a .py file which function of it builds the module.
    path: str | None = None
    factory: str | None = None
    # None: as docs/decisions chose, with the other one as a fallback.
    exporter: Exporter | None = None
    # Of the GPUs that an engine is built for, as "8.6"; only engines have any.
    compute_capabilities: tuple[str, ...] = ()
    # 8-bit pixels go in instead of a tensor; only Core ML packages can have it.
    image_input: bool = False

    @property
    def is_fused(self) -> bool:
        """Whether its blocks are fused for inference, where it has such."""
        return self.reparam and self.source in BUILT_HERE

    @property
    def is_as_built(self) -> bool:
        """Not fused although it may have such: another network than the one of that name, to whoever times it."""
        return not self.reparam and self.source in BUILT_HERE

    @property
    def typed_name(self) -> str:
        """What one types to mean this network."""
        return typed_name(self.name, self.source, as_built=self.is_as_built)


@dataclass(frozen=True)
class ProgramFacts:
    """What a converted file consists of: its operators by type and by the type of their values, constants left out."""

    ops: dict[str, int]
    dtypes: dict[str, int]
    params: int | None
    macs: int | None
    # 8-bit RGB, normalised by the program itself; else a tensor.
    takes_image: bool = False


@dataclass(frozen=True)
class Artifact:
    """An exported file that travels, with the inputs it is fed and the outputs that the original gave for them."""

    # Folder in the cache; the paths below are relative to it.
    folder: Path
    file: str
    format: str
    sha256: str
    bytes: int
    spec: ModelSpec
    # (N, C, H, W) of one input; `inputs` holds `input_count` of them, little-endian, back to back.
    input_name: str
    input_shape: tuple[int, ...]
    input_dtype: str
    input_count: int
    inputs: str
    # (dtype, shape) of each output for one input; `expected` holds them for input 0, then input 1, …
    expected: str | None
    expected_outputs: tuple[tuple[str, tuple[int, ...]], ...]
    # Why there is nothing to compare with, where `expected` is None.
    expected_missing: str | None
    opset: int | None
    exporter: str
    versions: dict[str, str]
    # What was changed so that it exports and is honest to time: weights drawn anew, blocks fused, …
    fixups: tuple[str, ...]
    cost: Cost
    seconds: float
    # The name of the dimension that leaves the number of images free, in a file for every batch.
    symbolic_batch: str | None = None
    # Weights that the exporter left out, as "layer1.0.conv2 (36,864 values)": the artifact does less than the model.
    folded_weights: tuple[str, ...] = ()
    # Why the two counters disagree on this file; None where they do not.
    count_doubt: str | None = None
    # Read from the file itself, where its format says it.
    program: ProgramFacts | None = None
    # What of it is likely to run elsewhere than on the accelerator that it is for.
    lint: tuple[Doubt, ...] = ()

    @property
    def path(self) -> Path:
        return self.folder / self.file


@dataclass(frozen=True)
class Parity:
    """How far the outputs on the timed backend are from those of the original module."""

    verdict: ParityVerdict
    where: str | None = None
    max_rel_error: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Exported:
    """What came of one export: a file with its parity, or a failure."""

    spec: ModelSpec
    format: str
    path: Path | None = None
    artifact: Artifact | None = None
    parity: Parity | None = None
    failure: Failure | None = None
    # What a script should be told of the failure.
    exit_code: ExitCode = ExitCode.OK


@dataclass(frozen=True)
class Counted:
    """One model's counted work, or why there is none; `others`: what other counters say, where they were asked."""

    spec: ModelSpec
    # (N, C, H, W); None where the model could not be built.
    input_shape: tuple[int, ...] | None = None
    cost: Cost | None = None
    fixups: tuple[str, ...] = ()
    others: tuple[OtherCount, ...] = ()
    failure: Failure | None = None
    exit_code: ExitCode = ExitCode.OK


@dataclass(frozen=True)
class Peak:
    """A limit of a device, with where the number comes from."""

    value: float
    source: str
    # The interval of a measured one.
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Peaks:
    """What a backend can reach at most on a device in one precision: the roof of the roofline."""

    macs_per_s: Peak
    bytes_per_s: Peak
    # What starting one more operator costs, beside its work; None: not known, nothing is added.
    launch_ns: Peak | None = None


@dataclass(frozen=True)
class Calibration:
    """What the calibration of one backend gave: its peaks, or why there are none."""

    device: str
    backend: str
    precision: Precision
    threads: int
    peaks: Peaks | None
    # The worst of the measurements behind the peaks.
    grade: Grade | None = None
    warnings: tuple[Doubt, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class Roofline:
    """The least time that the counted operators can take, one image or `batch` of them, and what it consists of."""

    total_ns: float
    # Sums over the operators that are bound by each; with `overhead_ns` they make `total_ns`.
    compute_ns: float
    memory_ns: float
    overhead_ns: float

    @property
    def bound(self) -> str:
        """`compute`, `memory` or `overhead`: whatever holds the largest part."""
        parts = {"compute": self.compute_ns, "memory": self.memory_ns, "overhead": self.overhead_ns}
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True)
class Readiness:
    """How a device must stand before it is measured on; None: no matter."""

    # Of the system, over the last minute.
    max_load: float | None = None
    max_temperature_c: float | None = None
    min_battery_share: float | None = None
    on_mains: bool = False
    # How long it is waited for that, and for others who use the device.
    wait_s: float = 600.0


@dataclass(frozen=True)
class Device:
    """Where a model runs. `host` is where a transport finds it; `None` means this machine."""

    name: str
    kind: str
    chip: str
    transport: str
    backends: tuple[str, ...]
    host: str | None = None
    # Its interpreter; None: that of the environment which `devices setup` makes there.
    python: str | None = None
    # What `devices setup` installs there, as pip takes it; none: what the backends need.
    requirements: tuple[str, ...] = ()
    # Those that runners are pinned to, as `4-7` or `0,2`: the big ones of a phone's processor.
    cores: str | None = None
    ready: Readiness = field(default_factory=Readiness)
    # Substring of the accelerator's own name, by which a local one is recognised.
    match: str | None = None
    threads: int | None = None
    peak_macs_per_s: dict[str, Peak] = field(default_factory=dict)
    peak_bytes_per_s: Peak | None = None
    # What the runners of a backend are told there beside the Plan's own fields.
    options: dict[str, dict[str, Option]] = field(default_factory=dict)
    notes: str = ""

    @property
    def is_on_cable(self) -> bool:
        """A phone behind a Mac (`runner/backends/coreml_phone.py`), by the option that names it."""
        return any("iphone" in options for options in self.options.values())


@dataclass(frozen=True)
class CheckedDevice:
    """What a device answered when it was asked; its words are its own, and not to be trusted as text."""

    device: Device
    # By the names of the runner's `environment`.
    facts: dict[str, Any]
    # By backend of the device; None where it is not installed there.
    runtimes: dict[str, str | None]
    # Who uses it now.
    held_by: str | None
    doubts: tuple[Doubt, ...]

    @property
    def is_ready(self) -> bool:
        """Nobody uses it, and it stands as its profile asks."""
        return not any(one.code in ("in use", "not ready") for one in self.doubts)


class Metric(StrEnum):
    """What is measured of a model."""

    LATENCY = "latency"
    INSTRUCTIONS = "instructions"


@dataclass(frozen=True)
class Result:
    """One row: the cell, what came of it, and under which conditions. A failed cell is a row too."""

    spec: ModelSpec
    device: str
    backend: str
    threads: int | None
    protocol: Protocol
    started_at: str
    vitprof_version: str
    artifact: Artifact | None = None
    backend_version: str | None = None
    samples: Samples | None = None
    summary: Summary | None = None
    # Of one inference at its batch; None where the operators or the peaks are not known.
    roofline: Roofline | None = None
    # Achieved ÷ peak MAC/s, 0-1; None where no peak is known.
    utilisation: float | None = None
    # Of the MACs, those of operators that run where asked; None where only operators are known, or nothing is.
    placement_macs_share: float | None = None
    # Instead of a summary, where instructions were counted and no time was measured.
    instructions: Instructions | None = None
    parity: Parity | None = None
    failure: Failure | None = None
    environment: dict[str, Any] = field(default_factory=dict)
