"""The table of several results: its columns, for the terminal and for markdown alike.

Its own file because which columns there are and which may go where room is short is one decision, and how a column
is drawn (`columns`) is another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vitprof.measurements import Interval, Summary
from vitprof.records import Result
from vitprof.report.cell import chip_of, failure_of, keys_of, varying_keys
from vitprof.report.columns import Column, counts_column, middle, number, times_column
from vitprof.report.outside import plain
from vitprof.units import NOT_KNOWN, significant, time_unit

_INTERVAL_DIGITS = 2
# What stands under a table of counts.
COUNTED = "instructions: executed in one inference, the median of several calls, as an emulator counts them"


def columns_of(results: Sequence[Result]) -> tuple[Column, ...]:
    """All columns in order, those that would be empty left out."""
    measured = _instructions(results) if is_count(results) else _timings(results)
    columns = (*_names(results), *measured, *_costs(results), *_verdicts(results))
    return tuple(column for column in columns if column.spare == 0 or set(column.cells) != {NOT_KNOWN})


def is_count(results: Sequence[Result]) -> bool:
    """Whether instructions were counted; then nothing was timed, in those that failed neither."""
    return any(result.instructions for result in results)


def shared_facts(results: Sequence[Result]) -> tuple[str, ...]:
    """What holds for every row, said once instead of in a column each."""
    varying = varying_keys(results)
    keys = [keys_of(result) for result in results]
    known = {name: next((one[name] for one in keys if one[name] != NOT_KNOWN), None) for name in keys[0]}
    chips = {chip for result in results if (chip := chip_of(result))}
    if known["version"] and "version" not in varying:
        known["backend"] = f"{known['backend']} {known['version']}"
    left_out = {"source", "version", *varying}
    facts = [_fact(name, text) for name, text in known.items() if text and name not in left_out]
    return (*facts, *(chips if len(chips) == 1 else ()))


def _fact(name: str, text: str) -> str:
    """A key with as many words as it needs to be understood without a head."""
    if name == "threads":
        return f"{text} thread{'' if text == '1' else 's'}"
    return {"batch": f"batch {text}", "device": f"on {text}"}.get(name, text)


def references_of(results: Sequence[Result]) -> tuple[str, ...]:
    """Names of the reference cells that the ratios are to."""
    found = (result.summary.relative for result in results if result.summary)
    return tuple(dict.fromkeys(plain(relative.reference) for relative in found if relative))


def _names(results: Sequence[Result]) -> tuple[Column, ...]:
    varying = varying_keys(results)
    keys = [keys_of(result) for result in results]
    return (
        Column("model", tuple(plain(result.spec.name) for result in results), is_number=False),
        *(Column(name, tuple(one[name] for one in keys), is_number=name in ("batch", "threads")) for name in varying),
    )


def _instructions(results: Sequence[Result]) -> tuple[Column, ...]:
    counted = [result.instructions.per_inference if result.instructions else None for result in results]
    return (counts_column("instructions", counted, is_timing=True),)


def _timings(results: Sequence[Result]) -> tuple[Column, ...]:
    def values(of: Callable[[Summary], float | None]) -> list[float | None]:
        return [of(result.summary) if result.summary else None for result in results]

    def intervals(of: Callable[[Summary], Interval | None]) -> tuple[str, ...]:
        return tuple(_half_width(of(result.summary) if result.summary else None) for result in results)

    region = results[0].protocol.region if results else "call"
    call_ns = values(lambda one: one.latency.p50_ns.value)
    unit = time_unit(middle(call_ns))
    ratio = values(lambda one: one.relative.ratio.value if one.relative else None)
    achieved = values(lambda one: one.achieved_macs_per_s)
    return (
        times_column(region, call_ns, unit, 0, is_timing=True),
        Column("±95%", intervals(lambda one: one.latency.p50_ns), is_timing=True),
        Column("grade", tuple(map(_grade, results)), is_number=False, is_timing=True),
        Column("ratio", tuple(number(value) for value in ratio), 1, is_timing=True),
        Column("±95%", intervals(lambda one: one.relative.ratio if one.relative else None), 2, is_timing=True),
        Column("grade", tuple(map(_relative_grade, results)), 3, is_number=False, is_timing=True),
        times_column("p90", values(lambda one: one.latency.p90_ns), unit, 7, is_timing=True),
        times_column("p99", values(lambda one: one.latency.p99_ns), unit, 8, is_timing=True),
        Column("n", tuple(_whole(value) for value in values(lambda one: one.latency.samples)), 9),
        times_column("corrected", values(lambda one: one.drift_corrected_ns), unit, 10, is_timing=True),
        Column("images/s", tuple(map(number, values(lambda one: one.throughput_images_per_s))), 6, is_timing=True),
        counts_column("MAC/s", achieved, 5, is_timing=True),
    )


def _costs(results: Sequence[Result]) -> tuple[Column, ...]:
    costs = [result.artifact.cost if result.artifact else None for result in results]
    peaks = [result.summary.peak_rss_bytes if result.summary else None for result in results]
    return (
        counts_column("MAC", [cost.macs if cost else None for cost in costs], 4),
        counts_column("params", [cost.params if cost else None for cost in costs], 11),
        counts_column("B peak", peaks, 12),
    )


def _verdicts(results: Sequence[Result]) -> tuple[Column, ...]:
    """What became of each cell in one word: a failed one has no parity to speak of, so one column serves both."""
    words = tuple("failed" if failure_of(result) else _verdict(result) for result in results)
    head = "outcome" if "failed" in words else "parity"
    return (Column(head, words, 5 if set(words) == {"match"} else 0, is_number=False),)


def _verdict(result: Result) -> str:
    return result.parity.verdict.value if result.parity else NOT_KNOWN


def _whole(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:,.0f}"


def _half_width(interval: Interval | None) -> str:
    share = interval.half_width_share if interval else None
    return NOT_KNOWN if share is None else f"{significant(share * 100, _INTERVAL_DIGITS)}%"


def _grade(result: Result) -> str:
    return result.summary.grade.value if result.summary and not failure_of(result) else NOT_KNOWN


def _relative_grade(result: Result) -> str:
    return result.summary.relative.grade.value if result.summary and result.summary.relative else NOT_KNOWN
