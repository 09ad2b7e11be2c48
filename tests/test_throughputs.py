"""The search over batches: which cells are measured together, what ends it, what a script is told.

On a bench that answers at once with made-up rows; the whole way with runners is in tests/cli/test_throughput.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.report import samples
from vitprof.bench import Ask, Job, Measured, Refused, groups_of
from vitprof.curves import ALLOCATOR, NVML, PointOutcome, StoppedBy
from vitprof.devices import profiles
from vitprof.errors import ExitCode, VitprofError
from vitprof.measurements import Interval, Relative
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.protocols import protocol
from vitprof.records import ModelSpec, Result, Source
from vitprof.report.progress import NoProgress
from vitprof.rows import exit_code_of
from vitprof.runner.wire import OUT_OF_MEMORY, Failure
from vitprof.store.results import open_store
from vitprof.store.runs import new_run
from vitprof.throughputs import Asked, Search, Throughput, _BatchProgress, point_from_row

NO_ROOM = Failure("load", "out of memory: 12 images", "use a smaller --batch", kind=OUT_OF_MEMORY)
# Of a batch, the name of its model and how many others are measured with it: reference calls, or what went wrong.
Answer = Callable[[str, int, int], float | Failure]


class Bench:
    """Prepares at once and measures as `answer` says; a `KeyboardInterrupt` of it is Ctrl-C in the middle."""

    def __init__(
        self,
        answer: Answer,
        models: Sequence[str],
        refused: Sequence[int] = (),
        image_bytes: int = 0,
        facts: Mapping[str, int] | None = None,
        free_bytes: float = math.inf,
    ) -> None:
        self.device = profiles.device("local")
        self.backends = ("ort",)
        self.troubles: list[VitprofError] = []
        # What was measured together, in turn.
        self.together: list[list[tuple[str, int]]] = []
        self.held_for = 0
        self._answer, self._models, self._refused = answer, models, refused
        self._free_bytes = free_bytes
        self._image_bytes, self._environment = image_bytes, {"before": dict(facts or {})}

    def specs(self, texts: Sequence[str], like: ModelSpec) -> list[ModelSpec]:
        return [dataclasses.replace(like, name=name) for name in self._models]

    def prepared(self, wanted: Callable[[Bench], Sequence[Ask]] | Sequence[Ask]) -> list[Job | Refused]:
        asks = wanted(self) if callable(wanted) else wanted
        return [self._prepared(ask.spec) for ask in asks]

    def _prepared(self, spec: ModelSpec) -> Job | Refused:
        blank = samples.result(spec.name, spec=spec)
        if spec.batch in self._refused:
            return Refused(dataclasses.replace(blank, failure=samples.failed().failure), ExitCode.USAGE)
        return Job(samples.artifact(spec, 10**6, 10**6), blank, None, {})

    @contextlib.contextmanager
    def held(self, run: object) -> Iterator[Bench]:
        self.held_for += 1
        yield self

    def groups(
        self, jobs: Mapping[int, Job], memory_of: Callable[[int], float] | None = None
    ) -> Iterator[dict[int, Job]]:
        return groups_of(jobs, self._free_bytes, memory_of)

    def measured(self, jobs: Sequence[Job]) -> Measured:
        self.together.append([(job.blank.spec.name, job.blank.spec.batch) for job in jobs])
        rows: list[Result] = []
        for job in jobs:
            try:
                name, batch = job.blank.spec.name, job.blank.spec.batch
                row = _row(job, self._answer(name, batch, len(jobs) - 1), 10**8 + self._image_bytes * batch)
                rows.append(dataclasses.replace(row, environment=self._environment))
            except KeyboardInterrupt:
                return Measured(tuple(rows), frozenset({ExitCode.INTERRUPTED}))
        return Measured(tuple(rows), frozenset(exit_code_of(row) for row in rows))


def _row(job: Job, answer: float | Failure, rss_bytes: int) -> Result:
    if isinstance(answer, Failure):
        return dataclasses.replace(job.blank, artifact=job.artifact, failure=answer)
    relative = Relative(
        "cpu-ref-1", Interval(answer, answer * 0.999, answer * 1.001), 0.01, 4e6, samples.summary(1.0).grade
    )
    summary = samples.summary(4 * answer, relative=relative, peak_rss_bytes=rss_bytes)
    return dataclasses.replace(job.blank, artifact=job.artifact, summary=summary, parity=samples.MATCH)


def _search(
    bench: Bench,
    tmp_path: Path,
    batches: Sequence[int] = (),
    sizes: Sequence[tuple[int, int]] = (),
    max_batch: int = 1024,
) -> Search:
    request = Request(("*",), protocol(), ModelSpec("", Source.TIMM))
    here = Places(tmp_path, tmp_path)
    asked = Asked(request, tuple(batches), tuple(sizes), max_batch)
    search = Search(asked, bench, new_run("throughput"), here, _BatchProgress(NoProgress()))  # type: ignore[arg-type]
    search.measure()
    return search


def _levels_off_at(knee: int) -> Answer:
    """A call of one image costs as much as of `knee` images."""
    return lambda _name, batch, _others: max(1.0, batch / knee)


def test_a_search_ends_after_two_batches_that_bring_nothing(tmp_path: Path) -> None:
    bench = Bench(_levels_off_at(4), ["net"])
    search = _search(bench, tmp_path)
    [curve] = search.curves()
    assert [point.batch for point in curve.points] == [1, 2, 4, 8, 16]
    assert curve.stopped_by is StoppedBy.SATURATION and (curve.best_batch, curve.knee_batch) == (4, 4)
    assert [point.gain_share for point in curve.points] == pytest.approx([None, 1.0, 1.0, 0.0, 0.0])
    assert search.codes == {ExitCode.OK} and bench.held_for == 1


def test_models_that_still_search_are_measured_together_batch_by_batch(tmp_path: Path) -> None:
    bench = Bench(lambda name, batch, _: max(1.0, batch / {"small": 8, "large": 1}[name]), ["small", "large"])
    _search(bench, tmp_path)
    assert bench.together[:3] == [[("small", batch), ("large", batch)] for batch in (1, 2, 4)]
    assert bench.together[3:] == [[("small", batch)] for batch in (8, 16, 32)]


def test_more_than_eight_models_are_measured_in_groups_of_eight(tmp_path: Path) -> None:
    bench = Bench(_levels_off_at(1), [f"net_{index}" for index in range(9)])
    search = _search(bench, tmp_path, batches=[2, 1])
    assert [len(group) for group in bench.together] == [8, 1, 8, 1]
    # Round by round are only compared those of one group.
    groups = {point.group for curve in search.curves() for point in curve.points}
    assert groups == {1, 2, 3, 4}


def test_a_device_of_little_memory_measures_fewer_models_together(tmp_path: Path) -> None:
    for free_bytes, sizes in ((math.inf, [3]), (1e9, [2, 1]), (1.0, [1, 1, 1])):
        bench = Bench(_levels_off_at(1), ["a", "b", "c"], free_bytes=free_bytes)
        _search(bench, tmp_path, batches=[1])
        assert [len(group) for group in bench.together] == sizes


def test_the_end_of_memory_is_found_and_no_failure(tmp_path: Path) -> None:
    bench = Bench(lambda _name, batch, _others: NO_ROOM if batch > 12 else 1.0, ["net"])
    search = _search(bench, tmp_path)
    [curve] = search.curves()
    assert [batch for group in bench.together for _, batch in group] == [1, 2, 4, 8, 16, 12, 14, 13]
    assert curve.stopped_by is StoppedBy.MEMORY and curve.best_batch == 12
    assert [point.outcome for point in curve.points][-3:] == [PointOutcome.OUT_OF_MEMORY] * 3
    assert search.codes == {ExitCode.OK}


def test_a_model_that_fits_in_no_batch_has_failed(tmp_path: Path) -> None:
    search = _search(Bench(lambda *_: NO_ROOM, ["net"]), tmp_path)
    [curve] = search.curves()
    assert curve.stopped_by is StoppedBy.MEMORY and curve.best_batch is None and curve.headroom is None
    assert search.codes == {ExitCode.FAILED}


def test_a_batch_that_was_asked_for_and_does_not_fit_is_a_failure(tmp_path: Path) -> None:
    bench = Bench(lambda _name, batch, _others: NO_ROOM if batch > 12 else 1.0, ["net"])
    search = _search(bench, tmp_path, batches=[8, 16, 32])
    assert [batch for group in bench.together for _, batch in group] == [8, 16]
    assert search.codes == {ExitCode.OK, ExitCode.FAILED} and search.curves()[0].stopped_by is StoppedBy.MEMORY


def test_a_batch_that_was_asked_for_and_is_not_tried_is_a_failure_too(tmp_path: Path) -> None:
    # A terabyte an image by the first two: no machine's memory holds eight.
    bench = Bench(lambda *_: 1.0, ["net"], image_bytes=10**12)
    search = _search(bench, tmp_path, batches=[1, 2, 8])
    assert [batch for group in bench.together for _, batch in group] == [1, 2]
    assert search.curves()[0].stopped_by is StoppedBy.MEMORY and ExitCode.FAILED in search.codes
    # Of a search it is what was to be found.
    assert _search(Bench(lambda *_: 1.0, ["net"], image_bytes=10**12), tmp_path).codes == {ExitCode.OK}


def test_who_runs_out_of_memory_beside_others_is_measured_again_alone(tmp_path: Path) -> None:
    def answer(name: str, batch: int, others: int) -> float | Failure:
        return NO_ROOM if others and name == "large" and batch > 1 else 1.0

    bench = Bench(answer, ["small", "large"])
    search = _search(bench, tmp_path, batches=[1, 2])
    assert bench.together == [[("small", 1), ("large", 1)], [("small", 2), ("large", 2)], [("large", 2)]]
    small, large = search.curves()
    assert [point.outcome for point in large.points] == [PointOutcome.OK, PointOutcome.OK]
    assert [point.group for point in small.points] == [1, 2] and [point.group for point in large.points] == [1, 3]
    assert search.codes == {ExitCode.OK}
    with open_store(tmp_path / "results.sqlite") as store:
        assert {one.document["outcome"] for one in store.rows(is_all=True)} == {"ok"}


def test_another_failure_is_one_of_its_point_and_ends_the_search(tmp_path: Path) -> None:
    broken = Failure("run", "an operator refuses 4 images", "use another --backend")
    bench = Bench(lambda _name, batch, _others: broken if batch == 4 else 1.0, ["net"])
    search = _search(bench, tmp_path)
    [curve] = search.curves()
    assert curve.stopped_by is StoppedBy.FAILURE and curve.points[-1].outcome is PointOutcome.FAILED
    assert curve.best_batch == 2 and ExitCode.FAILED in search.codes


def test_a_batch_that_cannot_be_exported_is_a_row_with_its_reason(tmp_path: Path) -> None:
    bench = Bench(_levels_off_at(8), ["net"], refused=[2])
    search = _search(bench, tmp_path, batches=[1, 2, 4])
    [curve] = search.curves()
    assert [point.outcome for point in curve.points] == [PointOutcome.OK, PointOutcome.FAILED, PointOutcome.OK]
    assert curve.rows[1].failure and search.codes == {ExitCode.OK, ExitCode.USAGE}
    assert curve.stopped_by is StoppedBy.ASKED


def test_without_anything_to_measure_the_device_is_not_taken(tmp_path: Path) -> None:
    bench = Bench(_levels_off_at(8), ["net"], refused=[1])
    assert _search(bench, tmp_path).curves()[0].stopped_by is StoppedBy.FAILURE
    assert bench.held_for == 0


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    def answer(name: str, batch: int, _: int) -> float:
        if (name, batch) == ("b", 4):
            raise KeyboardInterrupt
        return 1.0

    search = _search(Bench(answer, ["a", "b"]), tmp_path)
    first, second = search.curves()
    assert [len(first.points), len(second.points)] == [3, 2]
    assert {first.stopped_by, second.stopped_by} == {StoppedBy.INTERRUPTED}
    assert ExitCode.INTERRUPTED in search.codes
    with open_store(tmp_path / "results.sqlite") as store:
        assert len(store.rows(is_all=True)) == 5
        assert {run.command for run in store.runs()} == {"throughput"}


def test_ctrl_c_between_two_batches_keeps_what_was_measured(tmp_path: Path) -> None:
    class Lost(Bench):
        def groups(
            self, jobs: Mapping[int, Job], memory_of: Callable[[int], float] | None = None
        ) -> Iterator[dict[int, Job]]:
            if len(self.together) == 2:
                # The device was lost and is waited for, which takes minutes.
                raise KeyboardInterrupt
            return super().groups(jobs, memory_of)

    search = _search(Lost(lambda *_: 1.0, ["net"]), tmp_path)
    [curve] = search.curves()
    assert len(curve.points) == 2 and curve.stopped_by is StoppedBy.INTERRUPTED and curve.best_batch == 2
    assert ExitCode.INTERRUPTED in search.codes


@pytest.mark.parametrize(("is_search", "room", "told"), [(True, 2, 0), (True, 0, 1), (False, 2, 1)])
def test_the_end_of_memory_that_a_search_finds_is_told_as_no_failure(
    is_search: bool, room: int, told: int, tmp_path: Path
) -> None:
    bench = Bench(lambda _name, batch, _others: NO_ROOM if batch > room else 1.0, ["net"])
    search = _search(bench, tmp_path, batches=() if is_search else (1, 4))
    found = Throughput(tuple(search.curves()), (), frozenset(search.codes), is_search=is_search)
    assert len(found.failures) == told == (ExitCode.FAILED in search.codes)


def test_sizes_are_curves_of_their_own_beside_each_other(tmp_path: Path) -> None:
    bench = Bench(_levels_off_at(1), ["a", "b"])
    search = _search(bench, tmp_path, batches=[1], sizes=[(192, 192), (288, 224)])
    found = [(curve.name, curve.size) for curve in search.curves()]
    assert found == [("a", (192, 192)), ("a", (288, 224)), ("b", (192, 192)), ("b", (288, 224))]
    assert len(bench.together) == 1


def test_the_largest_batch_is_the_last(tmp_path: Path) -> None:
    [curve] = _search(Bench(lambda *_: 1.0, ["net"]), tmp_path, max_batch=6).curves()
    assert [point.batch for point in curve.points] == [1, 2, 4, 6] and curve.stopped_by is StoppedBy.CAP


@pytest.mark.parametrize(("facts", "memory"), [({}, "host"), ({"gpu_total_bytes": 8 * 10**9}, None)])
def test_the_hosts_room_is_not_that_of_a_gpu_whose_memory_nobody_tells(
    tmp_path: Path, facts: dict[str, int], memory: str | None
) -> None:
    bench = Bench(_levels_off_at(4), ["net"], facts=facts)
    [curve] = _search(bench, tmp_path).curves()
    assert (curve.headroom and curve.headroom.memory) == memory


def test_a_point_has_its_rates_and_whose_memory_it_takes() -> None:
    row = samples.measured("net", 8.0, 10**6, 10**6)
    row = dataclasses.replace(row, spec=dataclasses.replace(row.spec, batch=4))
    point = point_from_row(row, 3)
    # 4 images in 8 ms ±1 %, twice the reference's 4 ms ±0.6 %.
    assert point.images_per_s and point.images_per_s.value == pytest.approx(500)
    assert (point.images_per_s.low, point.images_per_s.high) == pytest.approx((500 / 1.01, 500 / 0.99))
    assert point.images_per_reference and point.images_per_reference.value == pytest.approx(2)
    assert point.images_per_reference.low == pytest.approx(2 / 1.006)
    assert (point.memory_bytes, point.device_bytes, point.group) == (212_000_000, (), 3)
    summary = samples.summary(8.0, peak_device_bytes=100, peak_device_nvml_bytes=150)
    told = point_from_row(dataclasses.replace(row, summary=summary))
    assert [(one.counted_by, one.bytes) for one in told.device_bytes] == [(ALLOCATOR, 100), (NVML, 150)]
    assert told.memory_bytes == 150
    assert point_from_row(dataclasses.replace(row, parity=samples.BROKEN)).is_broken
