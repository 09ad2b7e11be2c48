"""Raw samples: what the store keeps of a row is enough to compute its summary again."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report import samples
from vitprof.analysis.summary import summarise
from vitprof.errors import VitprofError
from vitprof.measurements import Protocol, Round, Samples, SetSamples, StopReason
from vitprof.runner.wire import Block, End, Failure, Ready
from vitprof.store import packing
from vitprof.store.raw_samples import document_from_samples, protocol_from_document, samples_from_document
from vitprof.store.results import open_store
from vitprof.store.runs import new_run

READY = Ready(1, None, 2, "host", 40, 45, None, 3, "1.31.1", 1.0, {"cpu": "x", "load_1min": 0.5}, ("a", "b"))
END = End(200, {"load_1min": 0.75})
BLOCKS = st.builds(
    Block,
    index=st.integers(0, 10**6),
    start_ns=st.integers(0, 2**63 - 1),
    set_aside_ns=st.lists(st.integers(1, 10**12), max_size=3).map(tuple),
    samples_ns=st.lists(st.integers(1, 10**12), max_size=20).map(tuple),
    queue_delay_ns=st.none() | st.integers(0, 10**9),
    involuntary_switches=st.none() | st.integers(0, 10),
    sensors=st.just({}) | st.fixed_dictionaries({"temperature_c": st.floats(0, 100), "gpu": st.text()}),
    device_ns=st.none() | st.lists(st.integers(1, 10**9), max_size=3).map(tuple),
)
TIMES = st.none() | st.floats(1, 1e12)
ROUNDS = st.builds(Round, BLOCKS, TIMES, TIMES, st.booleans())
SAMPLES = st.builds(
    Samples,
    st.lists(
        st.builds(SetSamples, st.just(READY), st.lists(ROUNDS, max_size=4).map(tuple), st.booleans(), st.just(END)),
        max_size=3,
    ).map(tuple),
    st.sampled_from(StopReason),
    st.none() | st.just(Failure("run", "broke", "mend it")),
)


@settings(max_examples=50, deadline=None)
@given(SAMPLES)
def test_samples_come_back_as_they_were(raw: Samples) -> None:
    document = packing.unpacked(packing.packed(document_from_samples(raw, samples.PROTOCOL)))
    assert samples_from_document(document) == raw
    assert protocol_from_document(document["protocol"]) == samples.PROTOCOL


def _raw(rounds: int) -> Samples:
    def one(index: int, base: int) -> Round:
        block = Block(index, index * 90, (15 + base,), tuple(1_000_000 + base + call for call in range(20)))
        return Round(block, 5e5 + index % 3, 5e5 + (index + 1) % 3, is_warm_up=index < 5)

    return Samples(
        tuple(SetSamples(samples.ready(), tuple(one(i, base) for i in range(rounds)), True) for base in (0, 900)),
        StopReason.PRECISION,
    )


def test_a_summary_is_computed_again_from_what_the_store_holds(address: str) -> None:
    """Of one row of several, with its protocol, which the store keeps once for all of them."""
    raw = _raw(25)
    protocols = [samples.PROTOCOL, dataclasses.replace(samples.PROTOCOL, sets=3)]
    rows = [
        {**_row(), "model": f"m{index}", "protocol_hash": protocols[index % 2].hash, "batch": 2} for index in range(4)
    ]
    with open_store(address) as store:
        store.add(new_run("latency"), rows, samples=[document_from_samples(raw, protocols[i % 2]) for i in range(4)])
        [found] = store.rows("m1")
        document = store.samples_of(found.id)
        assert document
        assert store.protocol_of(protocols[1].hash) == document["protocol"]
        assert store.protocol_of("unknown") is None
    protocol = protocol_from_document(document["protocol"])
    assert protocol == protocols[1] and protocol.hash == found.document["protocol_hash"]
    again = _summary(samples_from_document(document), protocol)
    assert again == _summary(raw, protocols[1]) and again.relative and again.latency.rounds == 40


def _summary(raw: Samples, protocol: Protocol) -> Any:
    return summarise(raw, protocol, batch=2, macs_per_image=10**9, reference_long_run_ns=5e5)


def _row() -> dict[str, Any]:
    from vitprof.report.document import dicts_from_results

    return dicts_from_results([samples.ok()])[0]


def test_a_row_without_samples_has_none(address: str) -> None:
    with open_store(address) as store:
        store.add(
            new_run("latency"), [_row(), _row()], samples=[None, document_from_samples(_raw(3), samples.PROTOCOL)]
        )
        [late, early] = store.rows(is_all=True)
        assert store.samples_of(early.id) is None and store.samples_of(late.id) and store.samples_of(999) is None


def test_fields_of_later_versions_are_passed_over() -> None:
    document = document_from_samples(_raw(2), samples.PROTOCOL)
    document["sets"][0]["ready"]["mood"] = "good"
    document["sets"][0]["rounds"]["mood_ns"] = [1, 2]
    assert samples_from_document(document) == _raw(2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda one: one.pop("sets"),
        lambda one: one.update(stop_reason="bored"),
        lambda one: one["sets"][0]["rounds"].update(samples_ns=[1, 2]),
        lambda one: one["sets"][0]["rounds"].update(samples_ns=[["1"], [2]]),
        lambda one: one["sets"][0]["rounds"].update(index=[0, 1, 2]),
        lambda one: one["sets"][0].update(ready=3),
        lambda one: one["sets"][0]["ready"].update(calls_per_sample=0),
        lambda one: one["sets"][0]["ready"].update(calls_per_sample="1"),
        lambda one: one["sets"][0]["rounds"].update(reference_before_ns=[[1], [2]]),
        lambda one: one["sets"][0]["rounds"].update(sensors=[{}, 5]),
    ],
)
def test_damaged_samples_are_an_error_with_a_remedy(damage: Any) -> None:
    document = json.loads(json.dumps(document_from_samples(_raw(2), samples.PROTOCOL)))
    damage(document)
    with pytest.raises(VitprofError, match="raw samples") as caught:
        samples_from_document(document)
    assert "--no-samples" in caught.value.remedy
