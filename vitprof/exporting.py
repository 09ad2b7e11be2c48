"""`vitprof export`: every model in every format, each file checked against the original module.

Its own file beside the pipeline, which measures: here a process of the runner is asked for outputs alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from vitprof import engines
from vitprof.devices import profiles, reach
from vitprof.devices.transports import RunnerFailed, Transport
from vitprof.errors import ExitCode, UsageError, VitprofError
from vitprof.export import coreml_export, litert_export, trt_rtx_export
from vitprof.export.copies import copy_artifact, make_folder
from vitprof.export.coreml_parity import reference_parity
from vitprof.export.locks import InUse
from vitprof.places import Places
from vitprof.placing import plan_of
from vitprof.prepare import QDQ_FORMAT, built_from
from vitprof.records import Artifact, Exported, ModelSpec, Parity, ParityVerdict, Precision
from vitprof.report.progress import Progress
from vitprof.rows import failure_from_error, parity_of, parity_of_engine
from vitprof.runner.backends import BACKENDS
from vitprof.runner.sensors import cores
from vitprof.workshop import Workshop

# The backend that shows whether a file of a format computes the same thing.
_FORMAT_BACKENDS = {"onnx": "ort", "pt2": "torch", coreml_export.FORMAT: "coreml", "trt-rtx": "ort", "litert": "litert"}
# Of ONNX files in bf16, which ONNX Runtime does not take on a processor.
_BF16_BACKEND = "openvino"
# What shows it where that backend does not run on this system; it works in the preparing process.
_FORMAT_REFERENCES = {coreml_export.FORMAT: reference_parity}


def export(
    models: Sequence[str],
    formats: Sequence[str],
    folder: Path | None,
    like: ModelSpec,
    places: Places,
    *,
    progress: Progress,
    trust: bool = False,
    device: str | None = None,
    device_file: Path | None = None,
) -> Iterator[Exported]:
    """Every model in every format, checked against the original module, as it is done; copied to `folder` if any.

    `device`: where engines of TensorRT are built.
    """
    unknown = [name for name in formats if name not in (*_FORMAT_BACKENDS, engines.FORMAT)]
    if unknown or not formats:
        written = ", ".join((*_FORMAT_BACKENDS, engines.FORMAT))
        raise UsageError(
            f"unknown format '{', '.join(unknown)}'; this version writes: {written}",
            remedy="use --to onnx",
        )
    if trt_rtx_export.FORMAT in formats:
        trt_rtx_export.check_installed()
    if coreml_export.FORMAT in formats:
        coreml_export.check_installed()
    if litert_export.FORMAT in formats:
        litert_export.check_set_up(places.cache_root)
    if folder is not None:
        make_folder(folder)
    # The runner stays in the cache as long as this goes on, each artifact as long as it is copied and checked.
    with (
        InUse(places.cache_root),
        reach.connected(profiles.device("local"), places.cache_root) as transport,
        Workshop(places.cache_root, progress, trust=trust) as workshop,
        contextlib.ExitStack() as stack,
    ):
        has_engines = engines.FORMAT in formats
        of_trt = stack.enter_context(engines.builder(device, device_file, places, progress)) if has_engines else None
        for spec in workshop.specs(models, like):
            for name in formats:
                with InUse(places.cache_root) as in_use:
                    if name == engines.FORMAT and of_trt:
                        one = of_trt.exported(spec, folder, workshop, in_use)
                    else:
                        one = _exported(spec, name, folder, workshop, transport, in_use=in_use)
                yield one


def _parity(artifact: Artifact, backend: str, transport: Transport) -> Parity:
    """Of the artifact as this machine's processor runs it; not checked where nothing here computes in its precision."""
    is_bf16_file = artifact.format == "onnx" and artifact.spec.precision is Precision.BF16
    if is_bf16_file and importlib.util.find_spec(BACKENDS[_BF16_BACKEND].requires or "") is None:
        why = f"nothing here runs ONNX files in bf16; {BACKENDS[_BF16_BACKEND].install} brings what does"
        return Parity(ParityVerdict.NOT_CHECKED, reason=why)
    with tempfile.TemporaryDirectory(prefix="vitprof-") as scratch:
        plan = plan_of(artifact, _BF16_BACKEND if is_bf16_file else backend, cores(), transport)
        written = transport.scratch("outputs", Path(scratch))
        try:
            outputs = engines.answers_of(plan, written, transport)[1] if artifact.expected else None
        except RunnerFailed as failed:
            if not is_bf16_file and artifact.format != QDQ_FORMAT:
                raise
            # What does not run here is for another: a processor with bf16, or TensorRT's parsers.
            return Parity(ParityVerdict.NOT_CHECKED, reason=failed.failure.error)
        return parity_of(artifact, outputs, transport.fetch(written, Path(scratch)) if outputs else None)


def _exported(
    spec: ModelSpec, format: str, folder: Path | None, workshop: Workshop, transport: Transport, *, in_use: InUse
) -> Exported:
    try:
        artifact = workshop.artifact(spec, format, in_use)
        path = copy_artifact(artifact, folder) if folder else None
        if format in _FORMAT_REFERENCES and not reach.can_run_here(_FORMAT_BACKENDS[format]):
            parity = workshop.elsewhere("parity", spec.name, _FORMAT_REFERENCES[format], artifact)
            return Exported(artifact.spec, format, path, artifact, parity)
        # An engine runs on its GPU only: checked is what it was built from.
        is_engine = format == trt_rtx_export.FORMAT
        checked = workshop.artifact(*built_from(spec), in_use) if is_engine else artifact
        parity = _parity(checked, _FORMAT_BACKENDS[format], transport)
        return Exported(artifact.spec, format, path, artifact, parity_of_engine(parity) if is_engine else parity)
    except VitprofError as error:
        return Exported(spec, format, failure=failure_from_error(error), exit_code=error.exit_code)
    except RunnerFailed as failed:
        return Exported(spec, format, failure=failed.failure, exit_code=ExitCode.FAILED)
