"""`vitprof doctor`: what works on this machine, how steady it is, what to type to mend what does not."""

from __future__ import annotations

import typer

_MARKS = {"ok": "ok   ", "doubt": "doubt", "broken": "BROKEN"}
_NAME_WIDTH = 18


def doctor() -> int:
    """Check this machine: packages, processor, clock, overhead, steadiness, backends, devices. Takes 15 seconds."""
    from vitprof.checkup import State, checkup
    from vitprof.errors import ExitCode
    from vitprof.places import places

    is_broken = False
    for check in checkup(places()):
        is_broken = is_broken or check.state is State.BROKEN
        typer.echo(f"{_MARKS[check.state]:<7} {check.name:<{_NAME_WIDTH}} {check.detail}")
        if check.state is not State.OK and check.remedy:
            typer.echo(f"{'':<7} {'':<{_NAME_WIDTH}} → {check.remedy}")
    return int(ExitCode.UNREACHABLE if is_broken else ExitCode.OK)
