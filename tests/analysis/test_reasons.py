from __future__ import annotations

import dataclasses

import pytest

from tests.analysis.points import kind, point
from vitprof.analysis.reasons import UNEXPLAINED, reason
from vitprof.comparisons import Point
from vitprof.counts import Kind, KindSum

# 10 ms against 5 ms. A count explains it from √2 times as many on; bytes from 2.5 MB more on (half of the gap of 5 ms
# at 1 GB/s); operators from 250 more on (half of the gap at 10 µs).
_SLOWER_NS, _TIME_RATIO = 10e6, 2.0
_PLAIN = (kind(Kind.LINEAR, 10, 400e6),)


def _reason(slower: tuple[KindSum, ...], faster: tuple[KindSum, ...] = _PLAIN, **facts: object) -> str:
    return reason(point("a", _SLOWER_NS, kinds=slower, **facts), point("b", kinds=faster), _TIME_RATIO)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (Kind.DEPTHWISE_CONV, "depthwise convolutions"),
        (Kind.NORM, "elementwise and norm traffic"),
        (Kind.ACTIVATION, "elementwise and norm traffic"),
        (Kind.SOFTMAX, "attention softmax"),
        (Kind.RESAMPLE, "resampling"),
        (Kind.DATA_MOVEMENT, "layout changes and copies"),
        (Kind.POOL, "pooling and reductions"),
    ],
)
def test_bytes_at_low_intensity_are_named_by_their_kind(of: Kind, words: str) -> None:
    said = _reason((kind(of, 20), kind(Kind.LINEAR, 10, 100e6)))
    assert said == f"moves bytes below 4 MACs/byte (20.00 MB against 0 B), of the excess 100% in {words}"


def test_a_reason_gives_the_figures_of_both_models() -> None:
    slower = (kind(Kind.DEPTHWISE_CONV, 20, 22e6), kind(Kind.ELEMENTWISE, 10), kind(Kind.NORM, 4))
    faster = (kind(Kind.ELEMENTWISE, 4), kind(Kind.LINEAR, 40, 800e6))
    # 34 MB against 4 MB: 30 MB more, 20 of them depthwise (22 MMACs over 20 MB) and 10 in elementwise and norms.
    assert _reason(slower, faster) == (
        "moves 8.5 × the bytes below 4 MACs/byte (34.00 MB against 4.000 MB), of the excess "
        "67% in depthwise convolutions at 1.1 MACs/byte, 33% in elementwise and norm traffic"
    )


def test_bytes_of_operators_with_much_arithmetic_do_not_hide_those_without() -> None:
    """The faster model moves more bytes, but as weights that each serve many products."""
    said = _reason((kind(Kind.ELEMENTWISE, 20),), (kind(Kind.ELEMENTWISE, 5), kind(Kind.LINEAR, 300, 17e9)))
    assert "4.0 × the bytes below 4 MACs/byte" in said


def test_more_bytes_at_high_intensity_are_a_reason_too() -> None:
    # 40 MB at 5 MACs/byte against 10 MB at 40.
    assert _reason((kind(Kind.POINTWISE_CONV, 40, 200e6),)) == "moves 4.0 × the bytes, at 5.0 against 40 MACs/byte"


def test_a_batch_shares_the_weights() -> None:
    weighty = (kind(Kind.LINEAR, 20, 20e6, weights=20),)
    slower, faster = (point(kinds=one, image_ns=_SLOWER_NS, batch=8) for one in (weighty, _PLAIN))
    # Alone 20 MB and one MAC for each; in a batch of 8 an image moves 2.5 MB, at 8 MACs/byte.
    assert "linear layers at 1.0 MACs/byte" in _reason(weighty)
    assert reason(slower, faster, _TIME_RATIO) == UNEXPLAINED


def test_many_small_operators() -> None:
    slower, faster = point(image_ns=_SLOWER_NS, ops=412), point(ops=96)
    assert reason(slower, faster, _TIME_RATIO) == "many small operators: 412 against 96, 24.27 µs each"


def test_operators_whose_start_costs_nothing_beside_the_gap_explain_nothing() -> None:
    # 316 more at 10 µs are 3 ms of a gap of 500 ms.
    assert reason(point(image_ns=1e9, ops=412), point(ops=96), _TIME_RATIO) == UNEXPLAINED
    # In a batch of 8 the gap of one image is 5 ms, that of the inference 40 ms.
    assert reason(point(image_ns=_SLOWER_NS, ops=412, batch=8), point(ops=96, batch=8), _TIME_RATIO) == UNEXPLAINED
    # Nor do 300 more of 1,300, though starting them takes as long as half of the gap.
    assert reason(point(image_ns=_SLOWER_NS, ops=1_300), point(ops=1_000), _TIME_RATIO) == UNEXPLAINED


def test_bytes_that_take_no_time_beside_the_gap_explain_nothing() -> None:
    # Four times as many, but 0.3 MB: at most 0.3 ms of 5.
    assert _reason((kind(Kind.ELEMENTWISE, 0.4),), (kind(Kind.ELEMENTWISE, 0.1), *_PLAIN)) == UNEXPLAINED


def test_two_reasons_stand_with_the_one_that_covers_more_first() -> None:
    slower = point(image_ns=_SLOWER_NS, ops=900, kinds=(kind(Kind.ELEMENTWISE, 20),))
    faster = point(ops=100, kinds=(kind(Kind.ELEMENTWISE, 10),))
    operators, traffic = reason(slower, faster, _TIME_RATIO).split("; ")
    assert operators.startswith("many small operators: 900 against 100")
    assert traffic.startswith("moves 2.0 × the bytes")


def test_the_measured_time_by_kind_goes_before_what_was_counted() -> None:
    slower = point(
        image_ns=_SLOWER_NS,
        kinds=(kind(Kind.ELEMENTWISE, 90), kind(Kind.DEPTHWISE_CONV, 10, 11e6)),
        time_shares={Kind.DEPTHWISE_CONV: 0.6, Kind.DATA_MOVEMENT: 0.2, Kind.ELEMENTWISE: 0.1},
    )
    # 5 ms of the faster: 0.5 ms depthwise, 4 ms linear. Depthwise 6 − 0.5, layout changes 2, elementwise 1 ms more.
    faster = point(kinds=_PLAIN, time_shares={Kind.DEPTHWISE_CONV: 0.1, Kind.LINEAR: 0.8})
    assert reason(slower, faster, _TIME_RATIO) == (
        "measured: 5.500 ms more in depthwise convolutions at 1.1 MACs/byte, of a gap of 5.000 ms"
    )
    # Without a profile of both, the bytes speak.
    unprofiled = dataclasses.replace(faster, time_shares=None)
    assert "elementwise" in reason(slower, unprofiled, _TIME_RATIO)


def test_dense_products_are_one_kind_in_time() -> None:
    # 10 ms: 7 ms in linear layers for 70 MMACs. 5 ms: 4.5 ms in pointwise convolutions for 90 MMACs.
    linear, pointwise = kind(Kind.LINEAR, 1, 70e6), kind(Kind.POINTWISE_CONV, 1, 90e6)
    slower = point(image_ns=_SLOWER_NS, kinds=(linear,), time_shares={Kind.LINEAR: 0.7, Kind.NORM: 0.25})
    faster = point(kinds=(pointwise,), time_shares={Kind.POINTWISE_CONV: 0.9})
    # Of 5.0 ms more, products take 2.5 and norms 2.5.
    assert reason(slower, faster, _TIME_RATIO) == (
        "measured: 2.500 ms more in matrix products and convolutions at 10.00 GMAC/s against 20.00 GMAC/s"
        " and 2.500 ms more in elementwise and norm traffic, of a gap of 5.000 ms"
    )


def test_a_profile_that_cannot_place_the_gap_leaves_it_to_the_counts() -> None:
    slower = point(image_ns=_SLOWER_NS, kinds=(kind(Kind.RESAMPLE, 30),), time_shares={Kind.CONV: 0.2})
    faster = point(kinds=_PLAIN, time_shares={Kind.CONV: 0.1})
    assert "resampling" in reason(slower, faster, _TIME_RATIO)


def test_operators_that_run_elsewhere_come_first() -> None:
    slower = point(image_ns=_SLOWER_NS, placement_ops_share=0.6, kinds=(kind(Kind.RESAMPLE, 30),))
    faster = point(placement_ops_share=1.0, kinds=_PLAIN)
    fallback, second = reason(slower, faster, _TIME_RATIO).split("; ")
    assert fallback == "fallback: 40% of its operators do not run where asked, against 0%"
    assert "resampling" in second
    equally = dataclasses.replace(faster, placement_ops_share=0.6)
    assert "fallback" not in reason(slower, equally, _TIME_RATIO)


def test_activations_speak_for_published_tables_that_have_nothing_else() -> None:
    slower, faster = point(activations=8e6), point(activations=2e6)
    assert reason(slower, faster, _TIME_RATIO) == "writes 4.0 × the activations"
    assert reason(faster, slower, _TIME_RATIO) == UNEXPLAINED


@pytest.mark.parametrize(
    ("slower", "faster"),
    [
        (point(), point()),
        (point(kinds=_PLAIN), point()),
        (point(kinds=_PLAIN, ops=90), point(kinds=_PLAIN, ops=90)),
        # Fewer bytes, fewer operators: nothing that was counted explains it.
        (
            point(kinds=(kind(Kind.DEPTHWISE_CONV, 5, 6e6),), ops=50),
            point(kinds=(kind(Kind.NORM, 20), *_PLAIN), ops=90),
        ),
        (point(kinds=(kind(Kind.NORM, 24),), ops=90), point(kinds=(kind(Kind.NORM, 20),), ops=90)),
    ],
)
def test_where_nothing_is_in_excess_the_pair_is_unexplained(slower: Point, faster: Point) -> None:
    assert reason(dataclasses.replace(slower, image_ns=_SLOWER_NS), faster, _TIME_RATIO) == "unexplained"


def test_names_have_no_say() -> None:
    slower = point("ghostnet_100", _SLOWER_NS, kinds=(kind(Kind.NORM, 20),), ops=900)
    faster = point("vit_base_patch16_224", kinds=_PLAIN, ops=90)
    renamed = [dataclasses.replace(one, model=f"depthwise_{place}") for place, one in enumerate((slower, faster))]
    said = reason(slower, faster, _TIME_RATIO)
    assert said != UNEXPLAINED and reason(*renamed, _TIME_RATIO) == said
