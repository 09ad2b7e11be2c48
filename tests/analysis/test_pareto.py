from __future__ import annotations

import csv
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitprof.analysis.pareto import Candidate, front
from vitprof.comparisons import FrontPoint
from vitprof.measurements import Interval

_WTF = Path(__file__).parents[2].parent / "shared" / "data" / "wtf_benchmark_2023.csv"


def _candidate(model: str, accuracy: float, cost: float, half: float | None = None) -> Candidate:
    low, high = (None, None) if half is None else (cost - half, cost + half)
    return Candidate(model, (224, 224), accuracy, Interval(cost, low, high))


def _front(*candidates: Candidate, is_cost_to_gain: bool = False) -> dict[str, FrontPoint]:
    return {one.model: one for one in front(candidates, is_cost_to_gain=is_cost_to_gain)}


def test_on_the_front_is_who_nobody_beats() -> None:
    found = _front(
        _candidate("cheap", 70, 1), _candidate("middle", 75, 2), _candidate("beaten", 74, 3), _candidate("best", 80, 4)
    )
    assert [name for name, one in found.items() if one.is_on_front] == ["cheap", "middle", "best"]
    assert found["beaten"].dominated_by == "middle"
    assert found["cheap"].dominated_by is None


def test_equals_on_both_beat_nobody_and_equals_on_one_do() -> None:
    twins = _front(_candidate("a", 70, 1), _candidate("b", 70, 1))
    assert all(one.is_on_front for one in twins.values())
    assert not _front(_candidate("a", 70, 1), _candidate("b", 70, 2))["b"].is_on_front
    # Equal exact costs are no overlap of intervals: it is surely beaten.
    same_cost = _front(_candidate("a", 71, 1), _candidate("b", 70, 1))["b"]
    assert (same_cost.is_on_front, same_cost.is_indistinguishable) == (False, False)


def test_who_is_beaten_only_within_the_intervals_is_not_distinguishable() -> None:
    found = _front(_candidate("a", 75, 1.0, 0.1), _candidate("close", 74, 1.1, 0.1), _candidate("far", 74, 2.0, 0.1))
    assert (found["close"].is_on_front, found["close"].is_indistinguishable) == (False, True)
    assert (found["far"].is_on_front, found["far"].is_indistinguishable) == (False, False)
    assert not found["a"].is_indistinguishable


def test_one_who_surely_beats_it_is_enough() -> None:
    found = _front(_candidate("close", 75, 1.0, 0.1), _candidate("sure", 74.5, 0.5, 0.1), _candidate("x", 74, 1.1, 0.1))
    assert not found["x"].is_indistinguishable
    assert found["x"].dominated_by == "sure"


def test_throughput_is_a_cost_to_gain() -> None:
    found = _front(
        _candidate("fast", 70, 9_000, 100), _candidate("slow", 69, 100, 10), _candidate("near", 69, 8_950, 100),
        is_cost_to_gain=True,
    )  # fmt: skip
    assert [one.is_on_front for one in found.values()] == [True, False, False]
    assert [one.is_indistinguishable for one in found.values()] == [False, False, True]
    assert found["near"].cost == Interval(8_950, 8_850, 9_050)


def test_no_candidates_make_no_front() -> None:
    assert front([]) == ()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=15), st.booleans())
def test_every_beaten_candidate_is_beaten_by_somebody_on_the_front(pairs: list[tuple[int, int]], is_gain: bool) -> None:
    candidates = [_candidate(str(at), accuracy, cost) for at, (accuracy, cost) in enumerate(pairs)]
    found = front(candidates, is_cost_to_gain=is_gain)
    sign = -1 if is_gain else 1

    def beats(one: FrontPoint, other: FrontPoint) -> bool:
        mine, its = sign * one.cost.value, sign * other.cost.value
        return one.accuracy >= other.accuracy and mine <= its and (one.accuracy > other.accuracy or mine < its)

    for one in found:
        assert one.is_on_front == (not any(beats(other, one) for other in found))
        assert one.is_on_front or any(beats(other, one) for other in found if other.is_on_front)
        assert not one.is_indistinguishable


_FRONTS: dict[str, tuple[bool, set[tuple[str, int]]]] = {
    "throughput_img_s": (
        True,
        {
            ("ViT-Ti/16", 224), ("token_learner_vit_8_50_small_patch16", 224),
            ("synthesizer_fr_vit_small_patch16", 224), ("token_learner_vit_8_75_small_patch16", 224),
            ("dynamic_vit_small_patch16", 224),
            ("tome_vit_small_r8_patch16", 224), ("evit_small_patch16", 224), ("deit_small_patch16_LS", 224),
            ("ViT-S/16", 224), ("xcit_small_12_p16", 224), ("ViT-B/16", 224), ("focalnet_small_srf", 224),
        },
    ),
    "params": (
        False,
        {
            ("efficientformerv2_s0", 224), ("efficientformerv2_s0", 382), ("coat_tiny", 224),
            ("token_learner_vit_8_50_small_patch16", 384), ("token_learner_vit_8_75_small_patch16", 224),
            ("token_learner_vit_8_75_small_patch16", 384), ("evit_small_patch16", 384), ("ViT-S/16", 384),
            ("xcit_small_12_p16", 384), ("swin_small_patch4_window7", 224), ("focalnet_small_srf", 224),
        },
    ),
    "train_mem_total_bytes": (
        False,
        {
            ("ViT-Ti/16", 224), ("mixer_s16", 224), ("token_learner_vit_8_50_small_patch16", 224),
            ("token_learner_vit_8_75_small_patch16", 224), ("synthesizer_fr_vit_small_patch16", 224),
            ("tome_vit_small_r8_patch16", 224), ("evit_small_patch16", 224), ("evit_small_patch16_fuse", 224),
            ("ViT-S/16", 224), ("xcit_small_12_p16", 224), ("ViT-B/16", 224), ("swin_small_patch4_window7", 224),
            ("focalnet_small_srf", 224),
        },
    ),
    "infer_mem_bs1_bytes": (
        False,
        {
            ("coat_tiny", 224), ("cvt_13", 224), ("wavevit_s", 224), ("evit_small_patch16", 384), ("cait_s24", 224),
            ("xcit_small_12_p16", 384), ("swin_small_patch4_window7", 224), ("focalnet_small_srf", 224),
        },
    ),
}  # fmt: skip


@pytest.mark.skipif(not _WTF.exists(), reason="the WTF benchmark's table lies beside the checkout, not in it")
@pytest.mark.parametrize("column", list(_FRONTS))
def test_the_fronts_of_the_wtf_benchmark(column: str) -> None:
    """Over models at every size together; a model that was run several times has the median of its runs."""
    is_gain, expected = _FRONTS[column]
    with _WTF.open(newline="") as file:
        runs = list(csv.DictReader(file))
    by_model: dict[tuple[str, int], list[dict[str, str]]] = {}
    for run in runs:
        by_model.setdefault((run["model"], int(run["image_size"])), []).append(run)
    assert len(by_model) == 55

    def median(of: list[dict[str, str]], name: str, keep: Callable[[float], bool] = lambda _: True) -> float | None:
        known = [float(run[name]) for run in of if run[name] and keep(float(run[name]))]
        return statistics.median(known) if known else None

    candidates = []
    for (model, size), of in by_model.items():
        # A throughput of −1 means that nothing ran.
        accuracy, cost = median(of, "top_val_acc1"), median(of, column, lambda value: value > 0)
        if accuracy is not None and cost is not None:
            candidates.append(Candidate(model, (size, size), accuracy, Interval(cost, None, None)))
    found = front(candidates, is_cost_to_gain=is_gain)
    assert {(one.model, one.size[0]) for one in found if one.is_on_front and one.size} == expected
