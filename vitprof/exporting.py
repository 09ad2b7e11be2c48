"""`vitprof export`: every model in every format, each file checked against the original module.

Its own file beside the pipeline, which measures: here a process of the runner is asked for outputs alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from vitprof.devices import profiles, reach
from vitprof.devices.transports import RunnerFailed, Transport
from vitprof.errors import ExitCode, UsageError, VitprofError
from vitprof.export import coreml_export, litert_export, trt_rtx_export
from vitprof.export.copies import copy_artifact, make_folder
from vitprof.export.coreml_parity import reference_parity
from vitprof.export.locks import InUse
from vitprof.group import outputs_of
from vitprof.pipeline import plan_of
from vitprof.places import Places
from vitprof.prepare import built_from
from vitprof.records import Exported, ModelSpec
from vitprof.report.progress import Progress
from vitprof.rows import failure_from_error, parity_of, parity_of_engine
from vitprof.runner.sensors import cores
from vitprof.workshop import Workshop

# The backend that shows whether a file of a format computes the same thing.
_FORMAT_BACKENDS = {"onnx": "ort", "pt2": "torch", "trt-rtx": "ort", "litert": "litert"}
# What shows it of a format that no backend of this machine need run; it works in the preparing process.
_FORMAT_REFERENCES = {coreml_export.FORMAT: reference_parity}
_FORMATS = (*_FORMAT_BACKENDS, *_FORMAT_REFERENCES)


def export(
    models: Sequence[str],
    formats: Sequence[str],
    folder: Path | None,
    like: ModelSpec,
    places: Places,
    *,
    progress: Progress,
    trust: bool = False,
) -> Iterator[Exported]:
    """Every model in every format, checked against the original module, as it is done; copied to `folder` if any."""
    unknown = [name for name in formats if name not in _FORMATS]
    if unknown or not formats:
        raise UsageError(
            f"unknown format '{', '.join(unknown)}'; this version writes: {', '.join(_FORMATS)}",
            remedy=f"use --to {_FORMATS[0]}",
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
    ):
        for spec in workshop.specs(models, like):
            for name in formats:
                with InUse(places.cache_root) as in_use:
                    one = _exported(spec, name, folder, workshop, transport, in_use=in_use)
                yield one


def _exported(
    spec: ModelSpec, format: str, folder: Path | None, workshop: Workshop, transport: Transport, *, in_use: InUse
) -> Exported:
    try:
        artifact = workshop.artifact(spec, format, in_use)
        path = copy_artifact(artifact, folder) if folder else None
        if format in _FORMAT_REFERENCES:
            parity = workshop.elsewhere("parity", spec.name, _FORMAT_REFERENCES[format], artifact)
            return Exported(artifact.spec, format, path, artifact, parity)
        # An engine runs on its GPU only: checked is what it was built from.
        is_engine = format == trt_rtx_export.FORMAT
        checked = workshop.artifact(*built_from(spec), in_use) if is_engine else artifact
        with tempfile.TemporaryDirectory(prefix="vitprof-") as scratch:
            plan = plan_of(checked, _FORMAT_BACKENDS[format], cores(), transport)
            written = transport.scratch("outputs", Path(scratch))
            outputs = outputs_of(plan, written, transport) if checked.expected else None
            file = transport.fetch(written, Path(scratch)) if outputs else None
            parity = parity_of(checked, outputs, file)
        return Exported(artifact.spec, format, path, artifact, parity_of_engine(parity) if is_engine else parity)
    except VitprofError as error:
        return Exported(spec, format, failure=failure_from_error(error), exit_code=error.exit_code)
    except RunnerFailed as failed:
        return Exported(spec, format, failure=failed.failure, exit_code=ExitCode.FAILED)
