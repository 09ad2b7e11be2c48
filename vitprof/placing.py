"""An artifact placed on a device, as the Plan of a process there.

Its own file beneath `bench` because profiles, exports and counts of instructions start such processes too, and time
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from vitprof.devices.transports import Transport
from vitprof.errors import UnreachableError, VitprofError
from vitprof.export.cache import files_in
from vitprof.prepare import QDQ_FORMAT
from vitprof.records import Artifact, Precision
from vitprof.rows import failure_from_error
from vitprof.runner.backends import BACKENDS
from vitprof.runner.wire import Failure, Option, Plan


def format_of(backend: str, precision: Precision) -> str:
    """What `backend` is given to load: int8 for TensorRT is written in another way than for ONNX Runtime."""
    return QDQ_FORMAT if backend == "trt" and precision is Precision.INT8 else BACKENDS[backend].format or ""


def plan_of(
    artifact: Artifact, backend: str, threads: int, transport: Transport, options: Mapping[str, Option] | None = None
) -> Plan:
    """How a process runs `artifact` on a backend, its files placed on the device."""
    return Plan(
        backend=backend,
        options=options or {},
        artifact=_placed(artifact, transport),
        artifact_sha256=artifact.sha256 if _is_alone(artifact) else "",
        inputs=transport.place(str(artifact.folder / artifact.inputs)),
        input_name=artifact.input_name,
        input_shape=artifact.input_shape,
        input_dtype=artifact.input_dtype,
        input_count=artifact.input_count,
        expected_outputs=artifact.expected_outputs,
        symbolic_batch=artifact.symbolic_batch,
        precision=artifact.spec.precision.value,
        threads=threads,
    )


def plan_or_failure(
    artifact: Artifact, backend: str, threads: int, transport: Transport, options: Mapping[str, Option]
) -> Plan | Failure:
    """The same, or why the files of this artifact cannot be placed, as on a full disk.

    `UnreachableError` where none could be.
    """
    try:
        return plan_of(artifact, backend, threads, transport, options)
    except UnreachableError:
        raise
    except VitprofError as error:
        return failure_from_error(error)


def _placed(artifact: Artifact, transport: Transport) -> str:
    """The device's path of the artifact, with the weights beside it where it has any."""
    if artifact.path.is_dir() or _is_alone(artifact):
        return transport.place(str(artifact.path))
    return f"{transport.place(str(artifact.path.parent))}/{artifact.path.name}"


def _is_alone(artifact: Artifact) -> bool:
    """The runner can check a file, or a folder's files; with weights beside it, the hash is of more than it is told."""
    files = files_in(artifact.path) if artifact.path.is_dir() else [artifact.path]
    return all(file.is_file() for file in files) and sum(file.stat().st_size for file in files) == artifact.bytes
