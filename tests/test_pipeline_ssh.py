"""The whole way on a device behind a real sshd: the same rows as here, and nothing lost or doubled when it is cut."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from tests.devices.sshd import HOST, Sshd, running
from vitprof import pipeline
from vitprof.devices.profiles import reference_model
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.protocols import Effort, protocol
from vitprof.records import ModelSpec, ParityVerdict, Result, Source
from vitprof.report.progress import NoProgress, Progress
from vitprof.store.results import open_store
from vitprof.units import Amount

LIKE = ModelSpec("", Source.TIMM)
TINY = str(reference_model("cpu-ref-1"))


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Sshd]:
    with running(tmp_path / "sshd") as server:
        (tmp_path / "board.toml").write_text(
            f'kind = "x86-cpu"\nchip = "x"\ntransport = "ssh"\nhost = "{HOST}"\npython = "{sys.executable}"\n'
            'backends = ["ort"]\n[ready]\nwait_s = 20\n'
        )
        yield server


def _measured(
    model: str, here: Places, tmp_path: Path, like: ModelSpec = LIKE, calls: int = 30, progress: Progress | None = None
) -> Result:
    quick = protocol(Effort.QUICK, measure=Amount(calls=calls))
    request = Request((model,), quick, like, device_file=tmp_path / "board.toml", threads=1)
    [row] = pipeline.measure(request, Places(here.cache_root, tmp_path / "data"), progress).results
    return row


def _stored(here: Places, tmp_path: Path) -> list[str]:
    with open_store(Places(here.cache_root, tmp_path / "data").store) as store:
        return [str(row.document["outcome"]) for row in store.rows(is_all=True)]


class _Cutting(NoProgress):
    """Cuts every connection after some rounds."""

    def __init__(self, board: Sshd) -> None:
        self._board = board
        self._rounds = 0

    def live(self, values: Mapping[str, tuple[float, float | None, float | None]]) -> None:
        self._rounds += 1
        if self._rounds == 4:
            self._board.cut()


@pytest.mark.slow
def test_a_link_that_is_cut_while_it_measures_loses_and_doubles_nothing(
    board: Sshd, here: Places, tmp_path: Path
) -> None:
    assert _measured(TINY, here, tmp_path).failure is None
    row = _measured(TINY, here, tmp_path, calls=1_000_000, progress=_Cutting(board))
    assert row.failure and "connection to device 'board' was lost" in row.failure.error
    # What was measured before is in the row and in the journal, each round once.
    assert row.samples and row.samples.sets
    kept = [round_.block.index for one in row.samples.sets for round_ in one.rounds]
    assert len(kept) == 4 and len(set(kept)) == len(kept)
    assert _measured(TINY, here, tmp_path).failure is None
    assert sorted(_stored(here, tmp_path)) == ["failed", "ok", "ok"]
    assert board.is_quiet()


@pytest.mark.slow
def test_a_timm_model_measured_there_matches(board: Sshd, here: Places, tmp_path: Path) -> None:
    row = _measured("mobilenetv3_small_050", here, tmp_path, dataclasses.replace(LIKE, size=(96, 96)))
    assert row.failure is None and row.device == "board"
    assert row.parity and row.parity.verdict is ParityVerdict.MATCH and row.parity.where == "device"


@pytest.mark.slow
def test_weights_beside_a_model_go_with_it(board: Sshd, here: Places, tmp_path: Path) -> None:
    model = onnx.load(TINY)
    convert_model_to_external_data(model, location="weights.bin", size_threshold=1024)
    onnx.save(model, str(tmp_path / "a $(id) model.onnx"))
    row = _measured(str(tmp_path / "a $(id) model.onnx"), here, tmp_path)
    assert row.failure is None and row.summary and board.is_quiet()
