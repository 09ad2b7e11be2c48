"""The command line: one file per command, and the one place where errors become messages and exit codes.

Nothing heavy is imported here or at the top of a command's file: `vitprof --help` must answer at once.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, NoReturn

import typer

import vitprof
from vitprof.cli import (
    cache,
    compare,
    count,
    devices,
    doctor,
    export,
    gate,
    history,
    latency,
    layers,
    models,
    options,
    pareto,
    report,
    results,
    setup,
    sweep,
    throughput,
)
from vitprof.errors import ExitCode, VitprofError

app = typer.Typer(
    name="vitprof",
    help=vitprof.__doc__,
    no_args_is_help=True,
    # Plain help: the decorated one doubles the time to the first line.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(latency.latency)
app.command()(throughput.throughput)
app.command()(count.count)
app.command()(compare.compare)
app.command()(layers.layers)
app.command()(pareto.pareto)
app.command()(sweep.sweep)
app.command()(export.export)
app.command()(models.models)
app.add_typer(devices.app, name="devices")
app.add_typer(cache.app, name="cache")
app.add_typer(results.app, name="results")
app.command()(report.report)
app.command()(gate.gate)
app.command()(history.history)
app.command()(setup.setup)
app.command()(doctor.doctor)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"vitprof {vitprof.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and the runner's own words; may stand anywhere.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line and exits with the code of docs/interface.md."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options.DEBUG.set("--debug" in words)
    code = ExitCode.FAILED
    try:
        # A command returns its code, or None where nothing can go wrong.
        returned = app([word for word in words if word != "--debug"], standalone_mode=False)
        code = ExitCode(returned or ExitCode.OK)
    except VitprofError as error:
        code = error.exit_code
        options.say(error.message, error.remedy)
        _show_traceback()
    except KeyboardInterrupt:
        # While the commands are put together; a command hears of it by itself.
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; Python must not complain about it while it exits.
        sys.stderr.close()
    except Exception as error:
        if not hasattr(error, "format_message"):
            options.say(
                f"internal error: {type(error).__name__}: {error}", "run again with --debug and report what it shows"
            )
            _show_traceback()
        else:
            # Typer's own usage errors; the class is private to it.
            code = ExitCode.USAGE
            options.say(error.format_message(), f"{_command_of(error)} --help")
    if code is ExitCode.INTERRUPTED:
        options.say("interrupted", "what was measured is kept; run again to measure the rest (a sweep: with --resume)")
    sys.exit(int(code))


def _command_of(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context else "vitprof"


def _show_traceback() -> None:
    if options.DEBUG.get():
        traceback.print_exc()
