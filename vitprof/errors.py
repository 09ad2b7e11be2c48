"""Errors that a person can act on.

One class per exit code of docs/interface.md, so that `cli.main` maps an error to its code without looking inside.
A remedy is required: an error that does not say what to type next is half an error.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script reads from `vitprof` (docs/interface.md, "Streams, files, exit codes")."""

    OK = 0
    REGRESSION = 1
    USAGE = 2
    FAILED = 3
    UNREACHABLE = 4
    UNDECIDED = 5
    PARITY_BROKEN = 6
    INTERRUPTED = 130


# The order of docs/interface.md: of several outcomes in one run, the first of these is the exit code.
EXIT_PRECEDENCE = (
    ExitCode.INTERRUPTED,
    ExitCode.USAGE,
    ExitCode.UNREACHABLE,
    ExitCode.FAILED,
    ExitCode.PARITY_BROKEN,
    ExitCode.REGRESSION,
    ExitCode.UNDECIDED,
    ExitCode.OK,
)


def worst(codes: set[ExitCode]) -> ExitCode:
    """The code that stands for several outcomes at once; `OK` for none."""
    return next((code for code in EXIT_PRECEDENCE if code in codes), ExitCode.OK)


def first_line(error: BaseException) -> str:
    """What a foreign error says on its first line, or its type where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class VitprofError(Exception):
    """What happened, with the actual values, and what to type next."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, remedy: str, stage: str = "run") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.stage = stage

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross a process border (the preparing process); the default would lose the keyword arguments.
        return (_rebuild, (type(self), self.message, self.remedy, self.stage))


def _rebuild(kind: type[VitprofError], message: str, remedy: str, stage: str) -> VitprofError:
    return kind(message, remedy=remedy, stage=stage)


class UsageError(VitprofError):
    """Something that was typed cannot be meant: unknown name, value out of range."""

    exit_code = ExitCode.USAGE


class UnreachableError(VitprofError):
    """A known device is absent or unreachable, or a package is not installed."""

    exit_code = ExitCode.UNREACHABLE
