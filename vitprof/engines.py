"""Engines of TensorRT as files: built on the device that is to run them, checked there, brought here.

Its own file beside `exporting`, because every other format is made on this machine. The ONNX file that an engine is
built from is kept in any case: without a GPU it is what travels to one.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vitprof.devices import lease, profiles, reach
from vitprof.devices.transports import RunnerFailed, Transport
from vitprof.errors import ExitCode, UsageError, VitprofError
from vitprof.export.cache import files_sha256
from vitprof.export.copies import copy_artifact
from vitprof.export.locks import InUse
from vitprof.group import Timeouts
from vitprof.places import Places
from vitprof.placing import format_of, plan_of
from vitprof.records import Artifact, Device, Exported, ModelSpec
from vitprof.report.progress import Progress
from vitprof.rows import failure_from_error, parity_of
from vitprof.runner.wire import Outputs, OutputsRequest, Plan, Ready
from vitprof.workshop import Workshop

FORMAT = "trt"


@dataclasses.dataclass(frozen=True)
class Builder:
    """Where engines are built: a device and the way to it, or why there is none."""

    device: Device | None
    transport: Transport | None
    lacking: VitprofError | None = None

    def exported(self, spec: ModelSpec, folder: Path | None, workshop: Workshop, in_use: InUse) -> Exported:
        """The engine of `spec` in `folder`; a failure that says where the ONNX file is, where it cannot be built."""
        kept: Path | None = None
        try:
            reach.check_precision(FORMAT, spec.precision)
            source = workshop.artifact(spec, format_of(FORMAT, spec.precision), in_use)
            kept = copy_artifact(source, folder) if folder else source.path
            if self.device is None or self.transport is None:
                raise self.lacking or UsageError("no device is named", remedy="name one with --device")
            return _built(source, self.device, self.transport, folder)
        except VitprofError as error:
            failure, code = failure_from_error(error), error.exit_code
        except RunnerFailed as failed:
            failure, code = failed.failure, ExitCode.FAILED
        told = f"{failure.error}; the ONNX file that it is built from is kept: {kept}" if kept else failure.error
        return Exported(spec, FORMAT, failure=dataclasses.replace(failure, error=told), exit_code=code)


@contextmanager
def builder(name: str | None, file: Path | None, places: Places, progress: Progress) -> Iterator[Builder]:
    """The device of that name, for this process alone; without a name the only reachable one that has TensorRT."""
    with ExitStack() as stack:
        try:
            device = reach.device_for(profiles.device(name or "local", file), (FORMAT,))
            reach.check_backend(FORMAT, device)
            reach.check_reachable(device)
            reach.check_installed(FORMAT, device)
            transport = stack.enter_context(reach.connected(device, places.cache_root))
            stack.enter_context(lease.held(device, transport, lambda what: progress.stage("wait", what)))
            ready = Builder(device, transport)
        except UsageError:
            raise
        except VitprofError as error:
            ready = Builder(None, None, error)
        yield ready


def _built(source: Artifact, device: Device, transport: Transport, folder: Path | None) -> Exported:
    with tempfile.TemporaryDirectory(prefix="vitprof-") as scratch:
        plan = plan_of(source, FORMAT, device.threads or 1, transport, reach.options_of(device, FORMAT))
        plan = dataclasses.replace(plan, engine_path=transport.scratch("engine", Path(scratch)))
        written = transport.scratch("outputs", Path(scratch))
        ready, outputs = answers_of(plan, written if source.expected else None, transport)
        parity = parity_of(source, outputs, transport.fetch(written, Path(scratch)) if outputs else None)
        # By itself, under a name of ours.
        engine = Path(scratch) / "built" / f"model.{FORMAT}"
        engine.parent.mkdir()
        shutil.copyfile(transport.fetch(str(plan.engine_path), Path(scratch)), engine)
        built = dataclasses.replace(
            source,
            folder=engine.parent,
            file=engine.name,
            format=FORMAT,
            sha256=files_sha256([engine]),
            bytes=engine.stat().st_size,
            exporter=f"TensorRT {ready.backend_version} on {ready.environment.get('gpu', device.chip)}, "
            f"from {source.exporter}",
        )
        path = copy_artifact(built, folder) if folder else None
    return Exported(built.spec, FORMAT, path, built, parity)


def answers_of(plan: Plan, outputs_path: str | None, transport: Transport) -> tuple[Ready, Outputs | None]:
    """What a fresh process says of itself, and its outputs for every input, in the file at `outputs_path`.

    `RunnerFailed` where it breaks.
    """
    timeouts = Timeouts()
    link = transport.start(plan)
    try:
        ready = link.receive(timeouts.load_s)
        assert isinstance(ready, Ready)  # noqa: S101 - the protocol of wire.py
        if outputs_path is None:
            return ready, None
        link.send(OutputsRequest(outputs_path))
        outputs = link.receive(timeouts.load_s)
        assert isinstance(outputs, Outputs)  # noqa: S101 - the protocol of wire.py
        return ready, outputs
    finally:
        link.close()
