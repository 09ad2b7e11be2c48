"""What host and runner say to each other: one JSON object a line, each a frozen dataclass here.

Its own file because both sides import exactly this. Unknown fields are ignored (an older runner in a device's cache
goes on working), unknown types and text that is no message raise `WireError`.

Host to runner: `Plan` first, then `BlockRequest` and `OutputsRequest` in any order, or one `ProfileRequest`, then
`EndRequest`. Runner to host: `Ready` once, then one `Block`, `Outputs` or `Profile` a request, then `End`; a `Failure`
at any time ends it. Or `Hold` first, answered with `Facts` (or a `Failure` of the stage `hold.IN_USE_STAGE`,
where another has the device), and then any number of `FactsRequest`s.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple, Type, Union

Option = Union[str, int, float, bool, None]
# What a `Failure.kind` says: memory ran out, the processor's or an accelerator's; or the way to the device is gone.
OUT_OF_MEMORY, LINK_LOST = "out of memory", "link lost"


class WireError(ValueError):
    """A line that is not a message of this protocol."""


@dataclass(frozen=True)
class Plan:
    """Everything about one process that changes a number. Paths are the device's own."""

    backend: str
    options: Mapping[str, Option] = field(default_factory=dict)
    artifact: str = ""
    artifact_sha256: str = ""
    # Seeded random images, little-endian, `input_count` of them one after the other, each of `input_shape`.
    inputs: str = ""
    input_name: str = ""
    input_shape: Tuple[int, ...] = ()
    input_dtype: str = "float32"
    input_count: int = 1
    # (dtype, shape) of each output of one input, where that is known: for programs that write outputs without them.
    expected_outputs: Tuple[Tuple[str, Tuple[int, ...]], ...] = ()
    # The dimension that the file leaves free for the number of images: fixed to this batch when it is loaded.
    symbolic_batch: Optional[str] = None
    # `call`: from submitting to completion, with the image where the model runs; `e2e`: from an image in the host's
    # memory to outputs in it.
    region: str = "call"
    # What was asked for: a runtime must not compute in less (OpenVINO's own choice on some processors is bf16).
    precision: str = "fp32"
    threads: int = 1
    # A block: consecutive calls of at least this long, and at least `min_calls` counted ones.
    block_ns: int = 50_000_000
    min_calls: int = 3
    # A block begins with calls for so long that are set aside, and its `block_ns` begins after them: the clock of a
    # GPU falls while it waits. 0: one sample is.
    rewarm_ns: int = 0
    # A call at least this long is its own warm-up: nothing is set aside, and one such call makes a block.
    slow_call_ns: int = 500_000_000
    # Load with the runtime's own profiler on; the files that it writes have this path as their beginning. It costs
    # time in every call: such a process answers a `ProfileRequest` and is never timed.
    profile_path: Optional[str] = None
    # Watch how much energy the device takes: at rest before the model is loaded, and over further calls at the end.
    with_energy: bool = False
    # Where the engine is to be left that the runtime made of the artifact, for who exports it.
    engine_path: Optional[str] = None
    # The process ends by itself this long after it has read the Plan, whatever it is doing.
    deadline_s: float = 3600.0


@dataclass(frozen=True)
class Hold:
    """Be the one that uses the device: the process keeps its lock until it ends, or `deadline_s` is over.

    Each `FactsRequest` gives it that time anew.
    """

    # Who asks, as others are told that wait: `me@laptop, pid 123`.
    who: str
    deadline_s: float = 3600.0
    # Tell how the device stands, and who holds it, without taking the lock.
    only_look: bool = False


@dataclass(frozen=True)
class FactsRequest:
    """How does the device stand?"""

    # And which runtimes are installed in it: `runtimes` of the answer, by backend the version or None.
    with_runtimes: bool = False


@dataclass(frozen=True)
class Facts:
    """Load, temperature, power and the like at this moment, by the names of `sensors.environment`."""

    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BlockRequest:
    index: int


@dataclass(frozen=True)
class OutputsRequest:
    """Run every input once and write the outputs to `path`."""

    path: str


@dataclass(frozen=True)
class ProfileRequest:
    """Run under the profiler so often, or for about `longest_ns` if that is less; once in a process."""

    runs: int = 100
    longest_ns: int = 3_000_000_000


@dataclass(frozen=True)
class CountRequest:
    """How many instructions do so many calls execute? Answered where an emulator counts them."""

    calls: int


@dataclass(frozen=True)
class EndRequest:
    pass


@dataclass(frozen=True)
class Ready:
    """The session is loaded. The three cold times are apart: load, build (engines only), first call."""

    load_ns: int
    build_ns: Optional[int]
    first_call_ns: int
    # Smallest step and cost of one reading of the clock, and what the timed loop itself adds to a sample.
    clock: str
    clock_step_ns: int
    clock_cost_ns: Optional[int]
    loop_overhead_ns: Optional[int]
    # Calls that make one sample: above 1 where one call is shorter than 100 steps of the clock.
    calls_per_sample: int
    backend_version: str
    placement_ops_share: Optional[float] = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    # The operators that run elsewhere than asked for, by their names in the program, where the runtime tells.
    misplaced_ops: Optional[Tuple[str, ...]] = None


@dataclass(frozen=True)
class Block:
    """The samples of one block, in order, in nanoseconds of `clock`."""

    index: int
    start_ns: int
    set_aside_ns: Tuple[int, ...]
    samples_ns: Tuple[int, ...]
    # How long the process's threads stood ready to run without a core, and how often they were pushed off one.
    queue_delay_ns: Optional[int] = None
    involuntary_switches: Optional[int] = None
    # Clock, temperature and throttling as they stood after the block.
    sensors: Mapping[str, Any] = field(default_factory=dict)
    # Further calls after the counted ones, each timed by the clock of the accelerator that ran it: figures of their
    # own, never among the samples. None where none ran it, or it has no clock.
    device_ns: Optional[Tuple[int, ...]] = None


@dataclass(frozen=True)
class Tensor:
    """One output inside the tensor file: where it starts, how it is shaped."""

    name: str
    dtype: str
    shape: Tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Outputs:
    """`tensors` holds the outputs of input 0, then of input 1, …"""

    path: str
    tensors: Tuple[Tensor, ...]
    # Why there are none, where this kind of device cannot give any: a normal answer, and no failure.
    missing: Optional[str] = None


@dataclass(frozen=True)
class ProfiledOp:
    """One operator as the runtime ran it, equal calls of one module added up where the runtime names modules."""

    name: str
    op: str
    # Of one inference, on average.
    ns: float
    calls: int = 1
    # Dotted path of the module that called it, where the runtime knows modules.
    module: Optional[str] = None
    # What it was made of or calls, by the names that the runtime remembers.
    members: Tuple[str, ...] = ()
    # Names of the profiled operators that read its output, where the runtime tells.
    feeds: Tuple[str, ...] = ()
    # The unit that it runs on, where a runtime shares its operators out among several.
    placed: Optional[str] = None


@dataclass(frozen=True)
class Profile:
    """Where the time of an inference goes; `total_ns` is the whole of it, under the profiler."""

    ops: Tuple[ProfiledOp, ...]
    total_ns: float
    # How many inferences the means are taken of.
    runs: int
    # The graph as the runtime changed it, where it writes one.
    graph: Optional[str] = None
    # Measured is `total_ns` alone: how it is shared is what the runtime estimates.
    is_estimate: bool = False


@dataclass(frozen=True)
class Counts:
    """Executed instructions of each call, in order, without what the counting itself takes."""

    instructions: Tuple[int, ...]


@dataclass(frozen=True)
class End:
    # Of the whole process, what loading took among it.
    peak_rss_bytes: Optional[int]
    environment: Mapping[str, Any] = field(default_factory=dict)
    # Of the accelerator's own memory, by the runtime's allocator; None where none ran it, or it does not tell.
    peak_device_bytes: Optional[int] = None
    # Of one call, over calls without a pause; what the device uses at rest is in it.
    call_energy_j: Optional[float] = None
    # Share of a call, by the accelerator's own clock, that the same call recorded as one graph does not take, 0-1.
    launch_share: Optional[float] = None
    # From the first block on.
    peak_rss_measuring_bytes: Optional[int] = None
    # Of the accelerator's memory as its driver sees it, code and context among it, at the readings between blocks.
    peak_device_nvml_bytes: Optional[int] = None
    # What counted the energy; the mean power over those calls, and at rest before the model was loaded.
    energy_source: Optional[str] = None
    power_w: Optional[float] = None
    idle_power_w: Optional[float] = None


@dataclass(frozen=True)
class Failure:
    """A normal outcome: what broke, where, and what to type."""

    stage: str
    error: str
    remedy: str
    detail: str = ""
    # `OUT_OF_MEMORY` or `LINK_LOST`, known and not guessed; None: anything else, and whatever an older runner sends.
    kind: Optional[str] = None


# What a process is told first, and what it is for.
Task = Union[Plan, Hold]
Request = Union[BlockRequest, OutputsRequest, ProfileRequest, CountRequest, FactsRequest, EndRequest]
Message = Union[Task, Request, Ready, Block, Outputs, Profile, Counts, Facts, End, Failure]
_TYPES: Mapping[str, Type[Any]] = {
    "plan": Plan,
    "hold": Hold,
    "ask": FactsRequest,
    "facts": Facts,
    "block": BlockRequest,
    "outputs": OutputsRequest,
    "profile": ProfileRequest,
    "count": CountRequest,
    "end": EndRequest,
    "ready": Ready,
    "samples": Block,
    "tensors": Outputs,
    "profiled": Profile,
    "counted": Counts,
    "ended": End,
    "failure": Failure,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}


def line_from_message(message: Message) -> bytes:
    """One line, newline included."""
    body = {"type": _NAMES[type(message)], **dataclasses.asdict(message)}
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def message_from_line(line: bytes) -> Message:
    """The message in `line`; `WireError` where there is none."""
    try:
        body = json.loads(line)
        kind = _TYPES[body.pop("type")]
        return _built(kind, body)  # type: ignore[no-any-return]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WireError(f"not a message: {line[:200]!r} ({type(error).__name__}: {error})") from error


def _built(kind: Type[Any], body: Mapping[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    values = {name: _frozen(value) for name, value in body.items() if name in known}
    if kind is Outputs:
        values["tensors"] = tuple(_built(Tensor, tensor) for tensor in body["tensors"])
    if kind is Profile:
        values["ops"] = tuple(_built(ProfiledOp, op) for op in body["ops"])
    return kind(**values)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
