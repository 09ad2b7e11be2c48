"""`vitprof gate`: is a run, or a model, slower than its baseline by more than is allowed?"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitprof.cli import options
from vitprof.errors import UsageError
from vitprof.protocols import Effort
from vitprof.records import Metric, Precision

if TYPE_CHECKING:
    from vitprof.gating.again import Means
    from vitprof.gating.stored import GateRun
    from vitprof.pipeline import Request


def gate(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|MODEL]",
            help="The candidate: a stored run, default the newest; with --against a model.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", help="A stored run, or last:5: its last 5 that were not rejected.", show_default=False
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="The baseline is this model, measured now beside MODEL.", show_default=False),
    ] = None,
    max_slowdown: Annotated[str, typer.Option("--max-slowdown", help="How much slower is still allowed.")] = "3%",
    accept: Annotated[bool, typer.Option("--accept", help="What is slower is so on purpose: accept it.")] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not measure once more what is slower or undecided.")
    ] = False,
    device: options.DeviceName = "local",
    device_file: options.DeviceFile = None,
    backend: options.Backends = None,
    batch: options.Batch = 1,
    size: options.Size = None,
    precision: options.PrecisionOption = Precision.FP32,
    metric: options.MetricOption = Metric.LATENCY,
    threads: options.Threads = None,
    effort: options.EffortOption = Effort.STANDARD,
    seed: options.Seed = 0,
    pretrained: options.Pretrained = False,
    no_reparam: options.NoReparam = False,
    exporter: options.ExporterOption = None,
    trust: options.Trust = False,
    timeout: options.Timeout = "300s",
    store: options.Store = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML to FILE.", show_default=False)] = None,
    annotations: Annotated[
        bool, typer.Option("--annotations", help="Annotate for GitHub Actions; there it is the default.")
    ] = False,
    json: options.JsonFile = None,
    md: options.MarkdownFile = None,
) -> int:
    """Gate: is the candidate slower than its baseline by more than is allowed? Exit 0 fine, 1 slower, 5 undecided.

    --baseline judges a stored run by earlier ones, --against two models measured now, round by round.
    """
    from vitprof.errors import worst
    from vitprof.gating.again import Means
    from vitprof.group import Timeouts
    from vitprof.pipeline import Request
    from vitprof.protocols import protocol
    from vitprof.units import share_from_text

    options.check_writable(json, md, junit)
    options.check_at_least("--threads", threads, 1)
    like = options.model_like(
        batch=batch,
        size=size,
        precision=precision,
        seed=seed,
        pretrained=pretrained,
        no_reparam=no_reparam,
        exporter=exporter,
    )
    wish = _Wish(share_from_text(max_slowdown), accept, not no_verify, options.timeout_s_from_text(timeout))
    if against is not None:
        if target is None or baseline is not None:
            what = "--against needs a MODEL" if target is None else "--against and --baseline are two baselines"
            raise UsageError(what, remedy="vitprof gate head/net.py:make --against base/net.py:make")
        request = Request(
            (target, against),
            protocol(effort),
            like,
            device,
            device_file,
            options.names_from_list(backend),
            threads,
            trust,
            timeouts=Timeouts(wish.timeout_s, wish.timeout_s),
        )
        found = _pair(request, metric, wish, store)
    else:
        given = {
            **{"--device": device != "local", "--backend": backend, "--batch": batch != 1, "--size": size},
            **{"--precision": precision is not Precision.FP32, "--metric": metric is not Metric.LATENCY},
            **{"--threads": threads, "--effort": effort is not Effort.STANDARD, "--seed": seed},
            **{"--pretrained": pretrained, "--no-reparam": no_reparam, "--exporter": exporter},
        }
        unfit = ", ".join(name for name, is_given in given.items() if is_given)
        if unfit:
            raise UsageError(f"a stored run says itself what {unfit} would say", remedy=f"leave out {unfit}")
        found = _stored(
            target, baseline, wish, Means(device_file, trust, Timeouts(wish.timeout_s, wish.timeout_s)), store
        )
    _show(found, junit, json, md, is_annotating=annotations or os.environ.get("GITHUB_ACTIONS") == "true")
    for trouble in found.troubles:
        options.say(trouble.message, trouble.remedy)
    return int(worst({*found.exit_codes, *(trouble.exit_code for trouble in found.troubles)}))


@dataclass(frozen=True)
class _Wish:
    limit_share: float
    is_accepting: bool
    is_verifying: bool
    timeout_s: float


def _pair(request: Request, metric: Metric, wish: _Wish, store: str | None) -> GateRun:
    from vitprof.gating.pairs import PairRequest, gate_pair
    from vitprof.places import places
    from vitprof.report.progress import progress_for

    asked = PairRequest(request, wish.limit_share, metric, wish.is_accepting, wish.is_verifying)
    progress = progress_for(sys.stderr)
    try:
        return gate_pair(asked, places(store), progress)
    finally:
        progress.close()


def _stored(run: str | None, baseline: str | None, wish: _Wish, means: Means, store: str | None) -> GateRun:
    from vitprof.gating.stored import GateRequest, gate_stored
    from vitprof.places import places
    from vitprof.report.progress import progress_for

    if baseline is None:
        what = "gate needs something to compare with"
        raise UsageError(what, remedy="give --baseline last:5, --baseline RUN, or MODEL --against MODEL")
    asked = GateRequest(baseline, wish.limit_share, run, wish.is_accepting, wish.is_verifying, means)
    progress = progress_for(sys.stderr)
    try:
        return gate_stored(asked, places(store), progress)
    finally:
        progress.close()


def _show(found: GateRun, junit: Path | None, json: Path | None, md: Path | None, *, is_annotating: bool) -> None:
    from vitprof.report.gate import document_from_gate, gate_sections
    from vitprof.report.sections import sections_text, show_sections

    sections = gate_sections(found.gated)
    if json:
        from vitprof.report.document import json_text

        options.write_text(json, json_text(document_from_gate(found.gated)))
    if md:
        options.write_text(md, sections_text(sections))
    if junit:
        from vitprof.report.junit import junit_text

        options.write_text(junit, junit_text(found.gated))
    if not options.takes_stdout(json, md, junit):
        from rich.console import Console

        show_sections(sections, Console())
    if is_annotating:
        from vitprof.report.junit import annotations_from_gate

        # GitHub reads them from either stream, and standard output may be a program's.
        for line in annotations_from_gate(found.gated):
            typer.echo(line, err=True)
