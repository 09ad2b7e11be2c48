"""LiteRT's `benchmark_model` as two pure functions: Plan → arguments, output → readings.

One file for both programs of that name, which share flags and lines: that of TensorFlow Lite's interpreter
(`tflite/tools/benchmark`) and that of LiteRT's CompiledModel (`litert/tools`). Which one it is, and how old, it says by
the flags that it lists for `--help`: an unknown flag it would only warn of, and measure something else.

It tells no single runs, only count, first, last, least, largest, mean and deviation of them. With a given number of
runs the mean is what those runs took together, divided: a sample of so many calls in a row, and that is how it is kept.
A line that is not as documented is an error that quotes it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from vitprof.runner.backends import SMALLER, is_out_of_memory, litert_gpu
from vitprof.runner.wire import OUT_OF_MEMORY, Failure, Plan

BACKENDS = ("litert", "litert-gpu")
# Where the program is got, by the name of the project: no address of a download is kept here.
WHERE_TO_GET_IT = (
    "LiteRT's documentation, 'Benchmark CompiledModel API', has it for android_arm64, or build it from there"
)
# The program stops after so long whatever was asked, each of its two phases: a limit for one that runs away.
_LONGEST_S = 600
_NEEDED = frozenset({"graph", "num_threads", "num_runs", "min_secs", "max_secs", "warmup_runs", "warmup_min_secs"})
_INPUT_FLAGS = frozenset({"input_layer", "input_layer_shape", "input_layer_value_files"})
_INPUT_NAME = "image"

_FLAG = re.compile(r"^\s*--(\w+)=", re.MULTILINE)
_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_PHASE = re.compile(r"Running benchmark for at least \d+ iterations")
_COUNT = re.compile(rf"count=(\d+)(?: first=({_NUMBER}))? curr=({_NUMBER})(.*)")
_OTHERS = re.compile(rf"(min|max|avg|std|p5|median|p95)=({_NUMBER})")
_INIT = re.compile(rf"Initialized session in ({_NUMBER})ms")
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({_NUMBER})")
_IGNORED = re.compile(r"Unconsumed cmdline flags: (.*)")
_SPLIT = re.compile(
    r"(\d+) operations will run on the GPU, and the remaining (\d+) (?:operations will run )?on the CPU"
)
_REPLACED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((?!\w*XNN)[^)]*\)", re.IGNORECASE)
_WHOLE = re.compile(r"applied GPU delegate, and the model graph will be completely executed by the delegate")
_ERROR = re.compile(r"^(?:ERROR|E|FATAL|F)\b[^:]*: *(.*\S)", re.MULTILINE)
_NO_GPU = ("gpu acceleration is unsupported", "gpu accelerator", "opencl library", "no gpu", "failed to register")
_NOT_RUNNABLE = re.compile(
    r"exec format error|not executable|cannot execute|CANNOT LINK|: not found|inaccessible", re.I
)


@dataclass(frozen=True)
class Asked:
    """One invocation: so many timed runs, and before them at least one and `warm_up_s` seconds that are not."""

    runs: int
    # For so long at least, more than `runs` if it takes them; 0: `runs` exactly.
    min_s: float = 0.0
    warm_up_s: float = 0.0
    # A file with exactly one image in it; None: random numbers of the program's own.
    image: str | None = None
    # Where the outputs of the last run go.
    outputs: str | None = None
    # Costs time in every run.
    with_memory: bool = False


@dataclass(frozen=True)
class Statistics:
    """What is told of the runs of one phase, nanoseconds; of runs that all took the same, only that."""

    runs: int
    first_ns: float
    last_ns: float
    mean_ns: float
    # By the program's names: min, max, std, p5, median, p95.
    others_ns: dict[str, float]


@dataclass(frozen=True)
class Readings:
    """What one invocation said."""

    load_ns: float
    warm_up: Statistics
    counted: Statistics
    # Of the operators; None where nothing is said of them.
    gpu_share: float | None
    peak_rss_bytes: int | None
    # Flags that it did not know.
    ignored: tuple[str, ...]


class NotUnderstood(Exception):
    """The output has no line of the documented form where there should be one; the message quotes what is there."""


def flags_from_help(text: str) -> frozenset[str]:
    """Names of the flags in a usage text; empty where it is none."""
    return frozenset(_FLAG.findall(text))


def takes_images(flags: Collection[str]) -> bool:
    """Whether it can run on an image that it is given; it uses random numbers of its own otherwise."""
    return _INPUT_FLAGS.issubset(flags)


def tells_outputs(flags: Collection[str]) -> bool:
    """Whether its outputs can be compared: they can be had, and for a known image."""
    return takes_images(flags) and "output_filepath" in flags


def refusal(plan: Plan, flags: Collection[str]) -> Failure | None:
    """Why this program cannot measure `plan` as it is meant, if so: better no number than another thing's."""
    if plan.backend not in BACKENDS:
        return Failure("load", f"benchmark_model has no backend '{plan.backend}'", f"use --backend {BACKENDS[0]}")
    if plan.profile_path:
        return Failure("load", "benchmark_model is not asked for a profile by layer", "profile with another --device")
    if plan.region != "call":
        return Failure("load", f"benchmark_model times calls, not '{plan.region}'", "leave --region at its default")
    missing = sorted(_NEEDED - set(flags))
    if plan.backend == "litert-gpu":
        missing += sorted({"use_gpu", "require_full_delegation"} - set(flags))
        if plan.precision == "fp32" and not {"gpu_precision_loss_allowed", "allow_fp16"} & set(flags):
            missing.append("gpu_precision_loss_allowed (without which a GPU computes in fp16)")
    if missing:
        return Failure(
            "load", f"this benchmark_model has no flag {', '.join(missing)}", f"take a newer: {WHERE_TO_GET_IT}"
        )
    return None


def arguments(plan: Plan, flags: Collection[str], asked: Asked) -> tuple[str, ...]:
    """What the program is started with; only flags that it knows, so that none is ignored."""
    wanted = {
        "graph": plan.artifact,
        "num_threads": str(plan.threads),
        "num_runs": str(asked.runs),
        "min_secs": f"{asked.min_s:g}",
        "max_secs": str(_LONGEST_S),
        "warmup_runs": "1",
        "warmup_min_secs": f"{asked.warm_up_s:g}",
        **_placement(plan, flags),
    }
    if asked.image is not None:
        wanted["input_layer"] = _INPUT_NAME
        wanted["input_layer_shape"] = ",".join(str(size) for size in plan.input_shape)
        wanted["input_layer_value_files"] = f"{_INPUT_NAME}:{asked.image.replace(':', '::')}"
    if asked.outputs is not None:
        wanted["output_filepath"] = asked.outputs
    if asked.with_memory:
        wanted["report_peak_memory_footprint"] = "true"
    return tuple(f"--{name}={value}" for name, value in wanted.items() if name in flags)


def _placement(plan: Plan, flags: Collection[str]) -> dict[str, str]:
    """Where it runs: on the GPU alone, or on the processor alone."""
    on_gpu = plan.backend == "litert-gpu"
    if not on_gpu:
        # XNNPACK is the default of both; said aloud, the interpreter's own tells whether it took it.
        return {"use_cpu": "true", "use_gpu": "false", "use_xnnpack": "true"}
    is_rounded = "false" if plan.precision == "fp32" else "true"
    # `allow_fp16` of the interpreter's tool is about processors.
    precision = "allow_fp16" if "use_cpu" in flags else "gpu_precision_loss_allowed"
    chosen = {"use_cpu": "false", "use_gpu": "true", "require_full_delegation": "true", precision: is_rounded}
    backend = plan.options.get("gpu_backend")
    return {**chosen, "gpu_backend": str(backend)} if backend else chosen


def readings_from_output(text: str) -> Readings:
    """What the program said of a run that succeeded; `NotUnderstood` with the line that is not as documented."""
    load = _INIT.search(text)
    if load is None:
        raise NotUnderstood(f"no line 'Initialized session in …ms', last line: {_last_line(text)!r}")
    starts = [found.end() for found in _PHASE.finditer(text)]
    if len(starts) != 2:
        raise NotUnderstood(f"{len(starts)} instead of 2 lines 'Running benchmark for …', last: {_last_line(text)!r}")
    peak = _PEAK.search(text)
    ignored = _IGNORED.search(text)
    return Readings(
        load_ns=float(load.group(1)) * 1e6,
        warm_up=_statistics(text[starts[0] : starts[1]]),
        counted=_statistics(text[starts[1] :]),
        gpu_share=gpu_share(text),
        peak_rss_bytes=round(float(peak.group(1)) * 1024**2) if peak else None,
        ignored=tuple(ignored.group(1).split()) if ignored else (),
    )


def gpu_share(text: str) -> float | None:
    """Share of the operators that the GPU took, by what the delegate or the runtime says of it; None: nothing."""
    split = _SPLIT.search(text)
    if split:
        on_gpu, elsewhere = int(split.group(1)), int(split.group(2))
        return on_gpu / (on_gpu + elsewhere) if on_gpu + elsewhere else None
    if _WHOLE.search(text):
        return 1.0
    replaced = _REPLACED.search(text)
    return int(replaced.group(1)) / int(replaced.group(2)) if replaced and int(replaced.group(2)) else None


def failure_from_output(text: str, status: int) -> Failure:
    """Why a run failed, from its last words and its exit status."""
    stage = "run" if _INIT.search(text) else "load"
    detail = text[-4_000:]
    if status in (126, 127) or (stage == "load" and _NOT_RUNNABLE.search(text)):
        what = f"benchmark_model does not run there: {_last_line(text) or f'status {status}'}"
        return Failure("load", what, f"take the one for the device's processor: {WHERE_TO_GET_IT}", detail)
    if status in (9, 137, -9):
        # Android's own killer of what takes too much memory does it so, and counts nowhere what it has done.
        what = "benchmark_model was killed (SIGKILL), nobody says by whom"
        return Failure(stage, what, f"if memory was short, close other apps, or {SMALLER}", detail)
    refused = litert_gpu.refused_operators(_without_level(text))
    if refused or "Disallowed CPU fallback detected" in text:
        error = litert_gpu.load_error("some operators would run on the processor", _without_level(text))
        return Failure(error.stage, str(error), error.remedy, detail)
    said = _ERROR.findall(text)
    what = f"benchmark_model: {said[0] if said else _last_line(text) or 'not a word'} (status {status})"
    if any(sign in text.lower() for sign in _NO_GPU):
        return Failure(stage, what, "measure with --backend litert, on the processor", detail)
    if any(is_out_of_memory(one) for one in said):
        return Failure(stage, f"out of memory: {what}", SMALLER, detail, OUT_OF_MEMORY)
    return Failure(stage, what, "see all that it said with --debug", detail)


def _without_level(text: str) -> str:
    """Each line as the runtime wrote it, before its logger put `ERROR: ` and the like in front."""
    return re.sub(r"^(?:ERROR|INFO|WARNING|VERBOSE|[EIWV]): (?:\[[^\]]*\] ?)?", "", text, flags=re.MULTILINE)


def _statistics(text: str) -> Statistics:
    found = _COUNT.search(text)
    if found is None:
        line = next((line.strip() for line in text.splitlines()[1:] if line.strip()), "")
        raise NotUnderstood(f"no line 'count=… curr=…' but {line!r}")
    others = {name: float(value) * 1e3 for name, value in _OTHERS.findall(found.group(4))}
    runs, last_ns = int(found.group(1)), float(found.group(3)) * 1e3
    first_ns = float(found.group(2)) * 1e3 if found.group(2) else last_ns
    # Runs that all took the same, one alone among them, have only `curr`.
    mean_ns = others.pop("avg", None if found.group(2) else last_ns)
    if mean_ns is None or runs < 1:
        raise NotUnderstood(f"no mean in {found.group(0)!r}")
    return Statistics(runs, first_ns, last_ns, mean_ns, others)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
