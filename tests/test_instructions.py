"""What can be asked of `--metric instructions`, and what is said where it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitprof.calibration import calibrate
from vitprof.comparing import Choice, Sides, compare_measured
from vitprof.errors import UnreachableError, UsageError
from vitprof.instructions import count_instructions
from vitprof.layers import LayersRequest, profile_layers
from vitprof.measurements import Region
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.protocols import counting_protocol, protocol
from vitprof.records import ModelSpec, Source
from vitprof.report.progress import NoProgress
from vitprof.units import Amount

REQUEST = Request(("resnet18",), protocol(), ModelSpec("", Source.TIMM), device="emulated-a72")


@pytest.mark.parametrize(
    ("request_", "said", "remedy"),
    [
        (
            replace(REQUEST, device="local"),
            "nothing counts the instructions of device 'local'",
            "--device emulated-a72",
        ),
        (replace(REQUEST, threads=2), "on 2 threads no two counts agree", "leave out --threads"),
        (replace(REQUEST, protocol=protocol(region=Region.E2E)), "not of region e2e", "leave out --region"),
        (replace(REQUEST, protocol=protocol(measure=Amount(duration_ns=3))), "counts calls, no time", "--measure 15x"),
        (replace(REQUEST, backends=("torch",)), "has no backend 'torch'", "--backend ort"),
    ],
)
def test_what_cannot_be_counted_is_said_before_anything_is_done(
    request_: Request, said: str, remedy: str, here: Places
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        count_instructions(request_, here)
    assert remedy in caught.value.remedy


def test_a_board_that_is_not_set_up_says_what_to_type(here: Places) -> None:
    with pytest.raises(UnreachableError, match="not set up") as caught:
        count_instructions(REQUEST, here)
    assert caught.value.remedy == "vitprof devices setup emulated-a72"


def test_nothing_is_concluded_from_times_of_an_emulated_board(here: Places) -> None:
    """Refused before anything is exported or measured, on another device neither."""
    progress = NoProgress()
    compared = Sides(devices=("local", "emulated-a72"))
    for ask in (
        lambda: compare_measured(REQUEST, compared, Choice(), here, progress),
        lambda: profile_layers(LayersRequest("resnet18", REQUEST.like, device="emulated-a72"), here),
        lambda: calibrate("emulated-a72", (), here, progress, protocol=protocol()),
    ):
        with pytest.raises(UsageError, match="is emulated: its times are compared with none") as caught:
            ask()
        assert "--metric instructions" in caught.value.remedy


def test_counts_have_a_protocol_of_their_own_that_no_effort_changes() -> None:
    assert counting_protocol().hash == counting_protocol().hash != protocol().hash
    assert counting_protocol(15).hash != counting_protocol().hash
    assert (counting_protocol().region, counting_protocol().reference) == ("instructions", "")
