from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitprof.runner.wire import (
    Block,
    BlockRequest,
    End,
    EndRequest,
    Facts,
    FactsRequest,
    Failure,
    Hold,
    Outputs,
    OutputsRequest,
    Plan,
    Profile,
    ProfiledOp,
    ProfileRequest,
    Ready,
    Tensor,
    WireError,
    line_from_message,
    message_from_line,
)

_whole = st.integers(min_value=0, max_value=2**62)
_messages = st.one_of(
    st.builds(
        Plan,
        backend=st.text(),
        options=st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none())),
        artifact=st.text(),
        input_shape=st.tuples(_whole, _whole),
        threads=_whole,
    ),
    st.builds(BlockRequest, index=_whole),
    st.builds(OutputsRequest, path=st.text()),
    st.just(EndRequest()),
    st.builds(Hold, who=st.text(), deadline_s=_whole.map(float), only_look=st.booleans()),
    st.builds(FactsRequest, with_runtimes=st.booleans()),
    st.builds(Facts, environment=st.dictionaries(st.text(), st.none() | _whole | st.text())),
    st.builds(ProfileRequest, runs=_whole, longest_ns=_whole),
    st.builds(
        Profile,
        ops=st.lists(
            st.builds(
                ProfiledOp,
                name=st.text(),
                op=st.text(),
                ns=_whole.map(float),
                module=st.none() | st.text(),
                members=st.lists(st.text()).map(tuple),
                feeds=st.lists(st.text()).map(tuple),
            )
        ).map(tuple),
        total_ns=_whole.map(float),
        runs=_whole,
        graph=st.none() | st.text(),
    ),
    st.builds(
        Block,
        index=_whole,
        start_ns=_whole,
        set_aside_ns=st.lists(_whole).map(tuple),
        samples_ns=st.lists(_whole).map(tuple),
        queue_delay_ns=st.none() | _whole,
        sensors=st.dictionaries(st.text(), _whole),
        device_ns=st.none() | st.lists(_whole).map(tuple),
    ),
    st.builds(
        Outputs,
        path=st.text(),
        tensors=st.lists(st.builds(Tensor, st.text(), st.text(), st.lists(_whole).map(tuple), _whole)).map(tuple),
    ),
    st.builds(
        End,
        peak_rss_bytes=st.none() | _whole,
        peak_device_bytes=st.none() | _whole,
        energy_source=st.none() | st.text(),
    ),
    st.builds(
        Failure, stage=st.text(), error=st.text(), remedy=st.text(), detail=st.text(), kind=st.none() | st.text()
    ),
)


@given(_messages)
def test_every_message_survives_the_wire(message: Plan | Block | Outputs | Failure) -> None:
    line = line_from_message(message)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert message_from_line(line) == message


def test_ready_survives_the_wire() -> None:
    ready = Ready(1, None, 2, "host", 3, 4, 5, 6, "1.0", 0.5, {"cpu": "x"})
    assert message_from_line(line_from_message(ready)) == ready


@pytest.mark.parametrize(
    "line", [b"", b"hello", b"{}", b"[1]", b"null", b'{"type": "plan"}', b'{"type": "nope"}', b"\xff"]
)
def test_text_that_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(WireError, match="not a message"):
        message_from_line(line)


def test_the_failure_and_the_end_of_an_older_runner_are_read() -> None:
    line = b'{"type": "failure", "stage": "run", "error": "out of memory", "remedy": "less", "detail": ""}\n'
    # What it does not say is not guessed from its words.
    assert message_from_line(line) == Failure("run", "out of memory", "less")
    ended = message_from_line(b'{"type": "ended", "peak_rss_bytes": 7, "environment": {}, "call_energy_j": 0.5}\n')
    assert ended == End(7, call_energy_j=0.5)


def test_a_field_of_a_newer_version_is_ignored() -> None:
    line = json.dumps({"type": "block", "index": 3, "new": 1}).encode()
    assert message_from_line(line) == BlockRequest(3)
