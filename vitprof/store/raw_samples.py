"""The raw samples of a row as JSON and back: everything that its summary is computed from.

Its own file because this is a format of its own: rounds lie in columns (all sample times of a set, then all reference
times), which compresses better than one object a round and holds the same. Columns that say nothing are left out.

    {"stop_reason": "precision", "failure": null, "protocol": {…},
     "sets": [{"ready": {…}, "end": {…}, "is_warm": true,
               "rounds": {"is_warm_up": [true, …], "reference_before_ns": […], "samples_ns": [[…], …], …}}]}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from vitprof.errors import VitprofError
from vitprof.measurements import Protocol, Round, Samples, SetSamples, StopReason
from vitprof.runner.wire import Block, End, Failure, Ready, WireError, message_from_line

_OF_ROUND = ("reference_before_ns", "reference_after_ns", "is_warm_up")
# What a block cannot be without.
_ALWAYS = ("index", "start_ns", "set_aside_ns", "samples_ns")
_OF_BLOCK = tuple(field.name for field in dataclasses.fields(Block))
# All other columns hold one number a round, or none.
_KINDS: Mapping[str, tuple[type, ...]] = {
    "samples_ns": (list, tuple),
    "set_aside_ns": (list, tuple),
    "device_ns": (list, tuple, type(None)),
    "sensors": (Mapping,),
}
_Made = TypeVar("_Made")


def document_from_samples(samples: Samples, protocol: Protocol) -> dict[str, Any]:
    """The samples with the protocol that they were taken by, as plain values."""
    return {
        "stop_reason": samples.stop_reason.value,
        "failure": dataclasses.asdict(samples.failure) if samples.failure else None,
        "protocol": dataclasses.asdict(protocol),
        "sets": [
            {
                "ready": dataclasses.asdict(one.ready),
                "end": dataclasses.asdict(one.end) if one.end else None,
                "is_warm": one.is_warm,
                "rounds": _columns(one.rounds),
            }
            for one in samples.sets
        ],
    }


def samples_from_document(document: Mapping[str, Any]) -> Samples:
    """The samples again, without fields that this version does not know; `VitprofError` where they are damaged."""
    try:
        return _samples(document)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise VitprofError(
            f"the raw samples of a result cannot be read ({type(error).__name__}: {error})",
            remedy="leave them out: export them again with --no-samples",
            stage="import",
        ) from error


def protocol_from_document(fields: Mapping[str, Any]) -> Protocol:
    """How it was measured, from `samples["protocol"]`; `TypeError` where a field is missing."""
    names = {field.name for field in dataclasses.fields(Protocol)}
    return Protocol(**{name: value for name, value in fields.items() if name in names})


def _samples(document: Mapping[str, Any]) -> Samples:
    failure = document["failure"]
    calls = [one["ready"]["calls_per_sample"] for one in document["sets"]]
    if not all(isinstance(count, int) and count >= 1 for count in calls):
        raise ValueError(f"a sample of {calls} calls")
    return Samples(
        tuple(
            SetSamples(
                _message(Ready, "ready", one["ready"]),
                tuple(_rounds(one["rounds"])),
                bool(one["is_warm"]),
                _message(End, "ended", one["end"]) if one["end"] else None,
            )
            for one in document["sets"]
        ),
        StopReason(document["stop_reason"]),
        _message(Failure, "failure", failure) if failure else None,
    )


def _columns(rounds: Sequence[Round]) -> dict[str, list[Any]]:
    of_round = {name: [getattr(one, name) for one in rounds] for name in _OF_ROUND}
    of_block = {name: [getattr(one.block, name) for one in rounds] for name in _OF_BLOCK}
    every = {**of_round, **of_block}
    return {name: values for name, values in every.items() if name in _ALWAYS or any(map(_says, values))}


def _says(value: object) -> bool:
    # Zero and nothing at all are facts; None and no sensors are what a round has by default.
    return value is not None and value != {}


def _rounds(columns: Mapping[str, Sequence[Any]]) -> Iterable[Round]:
    known = {name: values for name, values in columns.items() if name in (*_OF_ROUND, *_OF_BLOCK)}
    # The column that every round has.
    for index in range(len(known["index"]) if known else 0):
        entry = {name: _numbers(name, values[index]) for name, values in known.items()}
        of_block = {name: value for name, value in entry.items() if name in _OF_BLOCK}
        block = _message(Block, "samples", of_block)
        yield Round(block, **{name: entry.get(name) for name in _OF_ROUND[:2]}, is_warm_up=bool(entry["is_warm_up"]))


def _numbers(name: str, value: Any) -> Any:
    """What a round holds in one of its columns, a list of JSON as a tuple; `TypeError` for anything else."""
    if not isinstance(value, _KINDS.get(name, (int, float, type(None)))):
        raise TypeError(f"{name} holds {value!r}")
    if not isinstance(value, list | tuple):
        return value
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in value):
        raise TypeError(f"{name} holds something that is no number")
    return tuple(value)


def _message(kind: type[_Made], name: str, fields: Mapping[str, Any]) -> _Made:
    """As the runner's line of that type is read: without fields that this version does not know."""
    message = message_from_line(json.dumps({**fields, "type": name}).encode())
    if not isinstance(message, kind):
        raise WireError(f"not of type {name}")
    return message
