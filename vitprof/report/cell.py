"""What every format asks of one result: did it fail, is its number void, what is it called.

Its own file so that a table, a block and a JSON document cannot disagree on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitprof.records import ParityVerdict, Result
from vitprof.report.outside import plain
from vitprof.runner.wire import Failure, Ready
from vitprof.units import NOT_KNOWN

# What a number of a broken export is called where it cannot be struck out.
BROKEN = "broken: not the model's outputs"


def failure_of(result: Result) -> Failure | None:
    """Why there is no sound number, `None` for a cell that was measured."""
    if result.failure is not None:
        return result.failure
    if result.samples is not None and result.samples.failure is not None:
        return result.samples.failure
    if result.summary is None and result.instructions is None:
        return Failure("run", "nothing was measured", "run the same command again")
    return None


def is_broken(result: Result) -> bool:
    """Whether the timed artifact gives other outputs than the model: its latency says nothing about the model."""
    return result.parity is not None and result.parity.verdict is ParityVerdict.BROKEN


def ready_of(result: Result) -> Ready | None:
    """What the first process said when its session was loaded."""
    return result.samples.sets[0].ready if result.samples and result.samples.sets else None


def placement_ops_share(result: Result) -> float | None:
    """The smallest share of operators placed where asked, over the processes; `None` where none told."""
    shares = [one.ready.placement_ops_share for one in result.samples.sets] if result.samples else []
    return min((share for share in shares if share is not None), default=None)


def size_of(result: Result) -> tuple[int, int] | None:
    """(height, width) as measured: as asked for, else the artifact's own."""
    if result.spec.size is not None:
        return result.spec.size
    shape = result.artifact.input_shape if result.artifact else ()
    return (shape[2], shape[3]) if len(shape) == 4 else None


def chip_of(result: Result) -> str | None:
    """The name of the processor that the numbers are from."""
    ready = ready_of(result)
    chip = result.environment.get("cpu") or (ready.environment.get("cpu") if ready else None)
    return plain(str(chip)) if chip else None


def keys_of(result: Result) -> dict[str, str]:
    """What tells two cells of one model apart, by the heads that tables use."""
    size = size_of(result)
    return {
        "source": result.spec.source.value,
        "size": f"{size[0]}x{size[1]}" if size else NOT_KNOWN,
        "batch": str(result.spec.batch),
        "precision": result.spec.precision.value,
        "backend": plain(result.backend),
        "version": plain(result.backend_version) if result.backend_version else NOT_KNOWN,
        "threads": str(result.threads) if result.threads else NOT_KNOWN,
        "device": plain(result.device),
    }


def varying_keys(results: Sequence[Result]) -> tuple[str, ...]:
    """The keys in which the results differ; one that some do not know (a failed cell) does not make a difference."""
    keys = [keys_of(result) for result in results]
    return tuple(name for name in (keys[0] if keys else ()) if len({one[name] for one in keys} - {NOT_KNOWN}) > 1)


def labels_of(results: Sequence[Result]) -> tuple[str, ...]:
    """A name for each result: the model's, with the keys that tell it apart where one model is there twice."""
    names = [plain(result.spec.name) for result in results]
    if len(set(names)) == len(names):
        return tuple(names)
    varying = varying_keys(results)
    return tuple(
        ", ".join([name, *(f"{key} {keys_of(result)[key]}" for key in varying)])
        for name, result in zip(names, results, strict=True)
    )
