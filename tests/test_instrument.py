"""The instrument tested as an instrument: equal pairs must not be called different, a 5 % delay must be found.

Whole measurements on fake models under the recorded noise of a real machine (`tests/benchmarks/pairs.py`).
"""

from __future__ import annotations

import pytest

from tests.benchmarks.noise import length_ns, noise_from
from tests.benchmarks.pairs import verdicts
from vitprof.records import Verdict


def test_the_recorded_noise_is_as_rough_as_it_is_said_to_be() -> None:
    factors = [noise_from(0)(now) for now in range(0, length_ns(), 50_000_000)]
    ordered = sorted(factors)
    spread = ordered[int(0.9 * len(ordered))] - ordered[int(0.1 * len(ordered))]
    assert length_ns() > 150e9 and 0.1 < spread < 0.4


def test_equal_pairs_are_not_called_different_and_a_large_delay_is_found() -> None:
    equal = verdicts(6, delay_share=0.0)
    assert equal[Verdict.SAME] + equal[Verdict.UNDECIDED] == 6
    assert verdicts(6, delay_share=0.15)[Verdict.SLOWER] == 6


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_of_200_equal_pairs_at_most_5_percent_are_called_different() -> None:
    equal = verdicts(200, delay_share=0.0)
    assert equal[Verdict.FASTER] + equal[Verdict.SLOWER] <= 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_of_200_pairs_with_a_5_percent_delay_at_least_95_percent_are_found() -> None:
    assert verdicts(200, delay_share=0.05)[Verdict.SLOWER] >= 190
