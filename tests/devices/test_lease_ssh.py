"""A device behind a real sshd is held, asked, lost and held again."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.devices.sshd import Sshd, device, running
from vitprof import pipeline
from vitprof.devices import lease, profiles
from vitprof.devices.check import check
from vitprof.devices.transports.ssh import SshTransport
from vitprof.errors import ExitCode, UnreachableError
from vitprof.group import MAX_CELLS
from vitprof.pipeline import Request
from vitprof.places import Places
from vitprof.protocols import Effort, protocol
from vitprof.records import Device, ModelSpec, Readiness, Source
from vitprof.report.progress import NoProgress
from vitprof.runner import hold
from vitprof.runner.sensors import cores
from vitprof.units import amount_from_text


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def transport(board: Sshd, here: Places) -> Iterator[SshTransport]:
    with contextlib.closing(SshTransport(device(), here.cache_root)) as opened:
        yield opened
    assert board.is_quiet(), board.processes()


def _impatient() -> Device:
    return device(ready=Readiness(wait_s=0))


def test_who_holds_a_device_is_told_to_others_and_it_is_free_again(transport: SshTransport) -> None:
    with lease.held(device(), transport, print):
        with pytest.raises(UnreachableError, match=r"device 'board': in use by .*, pid \d+, since") as caught:
            lease.Lease(_impatient(), transport, print).take()
        assert caught.value.remedy
        assert str(lease.look(device(), transport)["held_by"]).startswith("by ")
        # It is the device that is held, not the machine from which it is.
        assert hold.holder() is None
    assert "held_by" not in lease.look(device(), transport)


def test_a_link_that_is_cut_is_made_and_held_again(transport: SshTransport, board: Sshd) -> None:
    said: list[str] = []
    with lease.held(device(), transport, said.append) as held:
        board.cut()
        assert held.wait_until_ready() == ()
        assert str(lease.look(device(), transport)["held_by"]).startswith("by ")


def test_a_device_elsewhere_is_asked_for_its_cores(transport: SshTransport) -> None:
    assert lease.threads_of(device(), transport) == cores()


def test_a_device_behind_ssh_is_checked(board: Sshd, here: Places) -> None:
    checked = check(device(kind="arm-cpu"), here.cache_root)
    assert checked.facts["cores"] == cores() and checked.runtimes["ort"] and checked.is_ready
    # It says of itself what it is, whatever its profile says.
    assert "another processor" in {one.code for one in checked.doubts} or checked.facts["machine"] == "aarch64"


def _request(tmp_path: Path, *models: Path) -> Request:
    one = device()
    profile = tmp_path / "board.toml"
    profile.write_text(
        f'transport = "ssh"\nkind = "x86-cpu"\nchip = "x"\nbackends = ["ort"]\n'
        f'host = "{one.host}"\npython = "{one.python}"\n[ready]\nwait_s = 0\n'
    )
    return Request(
        models=tuple(str(model) for model in models),
        protocol=protocol(Effort.QUICK, measure=amount_from_text("10x")),
        like=ModelSpec("", Source.TIMM),
        device_file=profile,
    )


def test_a_run_over_ssh_holds_the_device_and_takes_its_threads(board: Sshd, here: Places, tmp_path: Path) -> None:
    run = pipeline.measure(_request(tmp_path, profiles.reference_model("cpu-ref-1")), here)
    assert run.exit_codes <= {ExitCode.OK} and run.results[0].failure is None
    assert run.results[0].threads == cores() and board.is_quiet()


class _Cutting(NoProgress):
    """Takes the server away as soon as something has been measured."""

    def __init__(self, server: Sshd) -> None:
        self._server = server

    def live(self, values: Mapping[str, tuple[float, float | None, float | None]]) -> None:
        # Nobody may come back between the two.
        self._server.process.send_signal(signal.SIGSTOP)
        self._server.cut()
        self._server.process.kill()


@pytest.mark.slow
def test_a_device_that_is_gone_for_good_fails_every_row_and_keeps_what_it_gave(here: Places, tmp_path: Path) -> None:
    models = [tmp_path / f"model-{number}.onnx" for number in range(MAX_CELLS + 1)]
    for model in models:
        shutil.copy(profiles.reference_model("cpu-ref-1"), model)
    with running(tmp_path / "sshd") as server:
        run = pipeline.measure(_request(tmp_path, *models), here, _Cutting(server))
        assert server.is_quiet()
    failures = [row.failure for row in run.results]
    assert len(failures) == MAX_CELLS + 1 and all(one and one.remedy for one in failures)
    # The last one is of the second group, for which nobody was there to hold.
    assert failures[-1] and failures[-1].stage == "device"
    assert run.exit_codes == {ExitCode.FAILED, ExitCode.UNREACHABLE}
    assert any(row.samples and row.samples.sets for row in run.results)
