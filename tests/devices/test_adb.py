"""An Android device behind a real adbd with Android's shell and commands: files, blocks, the lock, the screen, cuts.

The measuring program alone is none: `benchmark_model.sh` prints the lines of LiteRT's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices.android import SERIAL, Phone, running_phone
from tests.report.samples import artifact
from vitprof.cells import Cell
from vitprof.devices import adb_client, reach
from vitprof.devices.adb_client import Adb
from vitprof.devices.transports import Link, RunnerFailed
from vitprof.devices.transports.adb import TOOL_VARIABLE, AdbTransport
from vitprof.devices.transports.adb_files import AdbFiles, cleaned
from vitprof.errors import UnreachableError, VitprofError
from vitprof.group import Setting, Timeouts, measure_group
from vitprof.protocols import Effort, protocol, protocol_on
from vitprof.records import Device, ModelSpec, ParityVerdict, Source
from vitprof.reference import timed_as
from vitprof.report.progress import NoProgress
from vitprof.rows import parity_of
from vitprof.runner.hold import IN_USE_STAGE
from vitprof.runner.wire import (
    Block,
    BlockRequest,
    End,
    EndRequest,
    Facts,
    FactsRequest,
    Hold,
    Outputs,
    OutputsRequest,
    Plan,
    ProfileRequest,
    Ready,
)
from vitprof.store.journal import Journal

TOOL = Path(__file__).with_name("benchmark_model.sh")
# So long nothing that was cut may live on, on a busy machine.
_GONE_S = 30.0
NAMES = ("it's", 'a "b" $(touch hit)', "`touch hit`;touch hit", "two\nlines", "ends in space ")


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with running_phone(tmp_path_factory.mktemp("phone")) as one:
        yield one


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setenv(TOOL_VARIABLE, str(TOOL))
    return Device("phone", "mobile-gpu", "none", "adb", ("litert", "litert-gpu"))


@pytest.fixture
def transport(phone: Phone, device: Device) -> Iterator[AdbTransport]:
    says(phone, "")
    one = AdbTransport(device)
    yield one
    one.close()
    assert not running(phone, "benchmark_model") and not running(phone, "sleep 9")


def says(phone: Phone, text: str) -> None:
    """What the stand-in does from now on, as assignments of its shell."""
    (phone.root / "data/local/tmp/tool.says").write_text(text)


def running(phone: Phone, text: str) -> list[str]:
    """Processes there with `text` in their command line, once they had the time to notice that they were cut off."""
    end_s = time.monotonic() + _GONE_S
    while True:
        found = [line for line in phone.processes().splitlines() if text in line and "ps -A" not in line]
        if not found or time.monotonic() > end_s:
            return found
        time.sleep(0.05)


def plan(transport: AdbTransport, folder: Path, **fields: object) -> Plan:
    """A file that is no model, and two images of two values."""
    (folder / "net.tflite").write_bytes(b"not a model")
    (folder / "images.bin").write_bytes(struct.pack("<4f", 1.0, 2.0, 3.0, 4.0))
    known = {"backend": "litert", "input_shape": (1, 2), "input_count": 2, "block_ns": 1_000_000_000}
    return Plan(
        artifact=transport.place(str(folder / "net.tflite")),
        inputs=transport.place(str(folder / "images.bin")),
        expected_outputs=(("float32", (1, 2)),),
        **{**known, **fields},  # type: ignore[arg-type]
    )


def asked(link: Link, message: BlockRequest | OutputsRequest | EndRequest | ProfileRequest | FactsRequest) -> object:
    link.send(message)
    return link.receive(20)


def test_a_block_is_one_run_of_the_tool_and_its_sample_the_time_of_all_its_calls(
    transport: AdbTransport, phone: Phone, tmp_path: Path
) -> None:
    link = transport.start(plan(transport, tmp_path))
    ready = link.receive(20)
    assert isinstance(ready, Ready)
    # A second of calls of 5 ms.
    assert ready.calls_per_sample == 200
    assert (ready.load_ns, ready.first_call_ns, ready.clock_cost_ns) == (119_515_000, 5_000_000, None)
    assert ready.backend_version == f"benchmark_model {hashlib.sha256(TOOL.read_bytes()).hexdigest()[:12]}"
    assert ready.environment["samples"] == "means of 200 calls, as the tool tells them"
    assert ready.environment["images"] == "seeded" and ready.environment["cores"] >= 1
    says(phone, "mean_us=6000\n")
    block = asked(link, BlockRequest(7))
    assert isinstance(block, Block)
    assert (block.index, block.samples_ns, block.set_aside_ns) == (7, (200 * 6_000_000,), ())
    assert (block.sensors["tool_min_ns"], block.sensors["tool_max_ns"]) == (5_995_000, 6_010_000)
    end = asked(link, EndRequest())
    assert isinstance(end, End) and end.peak_rss_bytes == round(26.6797 * 1024**2)
    with pytest.raises(RunnerFailed, match="nothing that benchmark_model can be asked"):
        asked(link, ProfileRequest())


def test_calls_that_take_a_second_are_kept_one_by_one(transport: AdbTransport, phone: Phone, tmp_path: Path) -> None:
    says(phone, "mean_us=900000\n")
    link = transport.start(plan(transport, tmp_path))
    ready = link.receive(20)
    assert isinstance(ready, Ready)
    assert (ready.calls_per_sample, ready.environment["samples"]) == (1, "single calls")
    block = asked(link, BlockRequest(0))
    assert isinstance(block, Block) and block.samples_ns == (900_000_000,)


def test_outputs_are_those_for_each_image(transport: AdbTransport, tmp_path: Path) -> None:
    link = transport.start(plan(transport, tmp_path))
    link.receive(20)
    outputs = asked(link, OutputsRequest(transport.scratch("out", tmp_path)))
    assert isinstance(outputs, Outputs) and outputs.missing is None
    assert [(one.shape, one.offset) for one in outputs.tensors] == [((1, 2), 0), ((1, 2), 8)]
    # The stand-in gives back its image, and so does what it is compared with.
    fetched = transport.fetch(outputs.path, tmp_path)
    assert struct.unpack("<4f", fetched.read_bytes()) == (1.0, 2.0, 3.0, 4.0)
    made = artifact(ModelSpec("net", Source.TIMM), 1, 1)
    made = dataclasses.replace(
        made, folder=tmp_path, expected="expected.bin", expected_outputs=(("float32", (1, 2)),), input_count=2
    )
    (tmp_path / "expected.bin").write_bytes(struct.pack("<4f", 1.0, 2.0, 3.0, 4.0))
    assert parity_of(made, outputs, fetched).verdict is ParityVerdict.MATCH
    (tmp_path / "expected.bin").write_bytes(struct.pack("<4f", 3.0, 4.0, 1.0, 2.0))
    assert parity_of(made, outputs, fetched).verdict is ParityVerdict.BROKEN
    none = parity_of(made, Outputs("", (), "it writes none"), None)
    assert (none.verdict, none.reason) == (ParityVerdict.NOT_CHECKED, "it writes none")


def test_a_tool_that_gives_no_outputs_is_measured_and_says_so(
    transport: AdbTransport, phone: Phone, tmp_path: Path
) -> None:
    says(phone, "lacks='output_filepath input_layer_value_files'\n")
    link = transport.start(plan(transport, tmp_path))
    ready = link.receive(20)
    assert isinstance(ready, Ready) and ready.environment["images"] == "random numbers of the tool's own"
    outputs = asked(link, OutputsRequest(transport.scratch("out", tmp_path)))
    assert isinstance(outputs, Outputs) and outputs.missing and "neither takes an image" in outputs.missing


@pytest.mark.parametrize(
    ("said", "backend", "stage", "error"),
    [
        ("refuses='Tensor dimensions must be less than 5'", "litert-gpu", "load", "refuses 1 x RESHAPE"),
        ("garbled='all done in no time'", "litert", "run", "not as documented"),
        ("lacks=require_full_delegation", "litert-gpu", "load", "no flag require_full_delegation"),
        ("lacks=num_threads", "ort", "load", "no backend 'ort'"),
    ],
)
def test_what_goes_wrong_on_the_device_is_a_failure_in_its_words(
    transport: AdbTransport, phone: Phone, tmp_path: Path, said: str, backend: str, stage: str, error: str
) -> None:
    says(phone, f"{said}\n")
    with pytest.raises(RunnerFailed) as failed:
        transport.start(plan(transport, tmp_path, backend=backend)).receive(20)
    assert failed.value.failure.stage == stage and error in failed.value.failure.error


def test_a_tool_for_another_processor_is_named_as_that(
    transport: AdbTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "benchmark_model"
    # The beginning of a program for a processor that does not exist.
    foreign.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 0xFFFF, 1) + bytes(40))
    monkeypatch.setenv(TOOL_VARIABLE, str(foreign))
    with pytest.raises(RunnerFailed) as failed:
        transport.start(plan(transport, tmp_path))
    assert (
        "does not run there" in failed.value.failure.error and "LiteRT's documentation" in failed.value.failure.remedy
    )


def test_the_tool_runs_on_the_cores_that_the_profile_names(
    transport: AdbTransport, device: Device, tmp_path: Path
) -> None:
    with contextlib.closing(AdbTransport(dataclasses.replace(device, cores="0"))) as pinned:
        options = reach.options_of(dataclasses.replace(device, cores="0"), "litert")
        ready = pinned.start(plan(pinned, tmp_path, options=options)).receive(20)
    assert isinstance(ready, Ready) and ready.environment["pinned_to_cores"] == "mask 1"


def test_an_option_that_no_phone_has_is_refused(transport: AdbTransport, tmp_path: Path) -> None:
    with pytest.raises(RunnerFailed, match="no option cuda_graph; it has: benchmark_model, gpu_backend"):
        transport.start(plan(transport, tmp_path, options={"cuda_graph": True}))


def test_a_group_is_measured_in_turns_of_whole_runs(
    transport: AdbTransport, device: Device, phone: Phone, tmp_path: Path
) -> None:
    rules = protocol_on(device, protocol(Effort.QUICK))
    assert (rules.reference, rules.sets, rules.block_ns, rules.rewarm_ns) == ("", 1, 1_000_000_000, 500_000_000)
    assert (rules.warm_up_floor_ns, rules.warm_up_cap_ns) == (2_000_000_000, 20_000_000_000)
    one = timed_as(plan(transport, tmp_path), rules, 600.0)
    journal = Journal(tmp_path)
    setting = Setting(transport, rules, journal, NoProgress(), timeouts=Timeouts(20, 20))
    cells = [Cell("a", one, transport.scratch("a", tmp_path)), Cell("b", one)]
    group = measure_group(cells, None, setting)
    journal.close()
    for cell in group.cells:
        assert cell.samples.failure is None
        [only] = cell.samples.sets
        assert len(only.rounds) >= rules.min_rounds_per_set and only.end
        assert {round_.block.samples_ns for round_ in only.rounds} == {(1_000_000_000,)}
    assert group.cells[0].outputs and group.cells[1].outputs is None


def test_names_reach_the_device_s_shell_as_they_are(phone: Phone, transport: AdbTransport, tmp_path: Path) -> None:
    adb = Adb(SERIAL)
    done = adb.shell('for one in "$@"; do printf "<%s>" "$one"; done', *NAMES)
    assert done.stdout == "".join(f"<{name}>" for name in NAMES)
    for name in NAMES:
        local = tmp_path / name
        local.write_text(name)
        placed = transport.place(str(local))
        assert adb.shell('cat "$1"', placed).stdout == name
    hold = transport.start(Hold(NAMES[1]))
    hold.receive(20)
    hold.close()
    assert phone.shell("find", "/", "-xdev", "-name", "hit") == ""
    assert not list(tmp_path.glob("hit")) and not Path("hit").exists()


def test_a_file_is_sent_once_and_a_torn_one_again(phone: Phone, tmp_path: Path) -> None:
    local = tmp_path / "net.tflite"
    local.write_bytes(os.urandom(100_000))
    placed = AdbFiles(Adb(SERIAL)).place(local, is_program=False)
    there = phone.root / placed[1:]
    assert there.name == hashlib.sha256(local.read_bytes()).hexdigest()
    sent = there.stat().st_ino
    AdbFiles(Adb(SERIAL)).place(local, is_program=False)
    assert there.stat().st_ino == sent
    there.write_bytes(b"torn")
    AdbFiles(Adb(SERIAL)).place(local, is_program=False)
    assert there.read_bytes() == local.read_bytes()
    assert cleaned(Adb(SERIAL), everything=False) == ((), 0)
    assert cleaned(Adb(SERIAL), everything=True)[1] >= 100_000 and not there.exists()


@pytest.mark.slow
def test_what_a_phone_keeps_is_shown_and_removed(transport: AdbTransport, phone: Phone, tmp_path: Path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text('transport = "adb"\nkind = "mobile-gpu"\nchip = "none"\nbackends = ["litert"]\n')
    plan(transport, tmp_path)
    words = [sys.executable, "-m", "vitprof", "devices", "clean", "mine", "--device-file", str(profile), "--all"]
    hold = transport.start(Hold("me@laptop"))
    hold.receive(20)
    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert refused.returncode == 4 and "in use by me@laptop" in refused.stderr
    hold.close()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "mine keeps" in done.stdout and "freed" in done.stdout
    assert not (phone.folder / "cache").exists()


@pytest.mark.slow
def test_an_upload_that_is_cut_leaves_nothing_under_the_file_s_name(phone: Phone, tmp_path: Path) -> None:
    local = tmp_path / "large.tflite"
    with local.open("wb") as file:
        file.truncate(200_000_000)
    files = AdbFiles(Adb(SERIAL))

    def cut() -> None:
        for _ in range(2_000):
            if list((phone.folder / "cache").glob("arriving-*")):
                return phone.cut()
            time.sleep(0.002)

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(VitprofError) as error:
        files.place(local, is_program=False)
    thread.join()
    assert error.value.remedy
    phone.wait()
    digest = hashlib.sha256(local.read_bytes()).hexdigest()
    assert not (phone.folder / "cache" / digest).exists()
    local.write_bytes(b"small now")
    placed = AdbFiles(Adb(SERIAL)).place(local, is_program=False)
    assert (phone.root / placed[1:]).read_bytes() == b"small now"
    cleaned(Adb(SERIAL), everything=True)


@pytest.mark.parametrize(
    "how",
    ["adbd", "tool", pytest.param("client", marks=pytest.mark.slow), pytest.param("time", marks=pytest.mark.slow)],
)
def test_a_run_that_is_cut_is_a_failure_leaves_nothing_there_and_the_next_one_succeeds(
    transport: AdbTransport, phone: Phone, tmp_path: Path, how: str
) -> None:
    link = transport.start(plan(transport, tmp_path))
    link.receive(20)
    says(phone, "hangs=91\n")

    def cut() -> None:
        while not [line for line in phone.processes().splitlines() if line.split()[1:] == ["sleep", "91"]]:
            time.sleep(0.02)
        if how == "client":
            mine = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            for pid in mine:
                with contextlib.suppress(OSError):
                    if b"num_runs" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(int(pid), signal.SIGKILL)
        elif how == "adbd":
            phone.cut()
        elif how == "tool":
            phone.shell("pkill", "-9", "-x", "sleep")

    thread = threading.Thread(target=cut, daemon=True)
    if how != "time":
        thread.start()
    link.send(BlockRequest(0))
    with pytest.raises(RunnerFailed) as failed:
        link.receive(1 if how == "time" else 30)
    expected = {"client": "link was cut", "adbd": "link was cut", "tool": "killed", "time": "no answer within 1 s"}
    assert expected[how] in failed.value.failure.error and failed.value.failure.remedy
    phone.wait()
    says(phone, "")
    assert not running(phone, "sleep 91") and not running(phone, "num_runs")
    again = transport.start(plan(transport, tmp_path))
    assert isinstance(again.receive(20), Ready)


def test_one_at_a_time_holds_the_device(transport: AdbTransport, phone: Phone) -> None:
    first = transport.start(Hold("me@laptop, pid 1"))
    assert isinstance(first.receive(20), Facts)
    with pytest.raises(RunnerFailed, match="in use by me@laptop, pid 1") as failed:
        transport.start(Hold("you")).receive(20)
    assert failed.value.failure.stage == IN_USE_STAGE
    seen = transport.start(Hold("you", only_look=True)).receive(20)
    assert isinstance(seen, Facts) and seen.environment["held_by"] == "by me@laptop, pid 1"
    told = asked(first, FactsRequest(with_runtimes=True))
    assert isinstance(told, Facts) and told.environment["runtimes"]["litert"].startswith("benchmark_model ")
    first.close()
    second = transport.start(Hold("you"))
    second.receive(20)
    second.close()
    assert not running(phone, "stay_on")


@pytest.mark.slow
def test_a_lock_ends_with_its_time_with_its_holder_and_with_the_link(transport: AdbTransport, phone: Phone) -> None:
    late = transport.start(Hold("late", deadline_s=3.0))
    late.receive(20)
    assert not running(phone, "stay_on")
    with pytest.raises(RunnerFailed, match="given back"):
        asked(late, FactsRequest())
    cut_off = transport.start(Hold("cut off"))
    cut_off.receive(20)
    phone.cut()
    phone.wait()
    assert not running(phone, "stay_on")
    next_one = transport.start(Hold("next"))
    next_one.receive(20)
    next_one.close()


@pytest.mark.slow
def test_the_same_on_an_emulated_processor_of_a_phone(
    tmp_path_factory: pytest.TempPathFactory, device: Device, tmp_path: Path
) -> None:
    """Everything there is emulated, adbd and shell too."""
    with running_phone(tmp_path_factory.mktemp("arm64"), "arm64") as phone:
        says(phone, "")
        one = AdbTransport(device)
        hold = one.start(Hold("me"))
        facts = hold.receive(60)
        assert isinstance(facts, Facts) and facts.environment["machine"] == "aarch64"
        link = one.start(plan(one, tmp_path))
        ready = link.receive(60)
        assert isinstance(ready, Ready) and ready.environment["machine"] == "aarch64"
        link.send(OutputsRequest(one.scratch("out", tmp_path)))
        outputs = link.receive(60)
        assert isinstance(outputs, Outputs)
        assert struct.unpack("<4f", one.fetch(outputs.path, tmp_path).read_bytes()) == (1.0, 2.0, 3.0, 4.0)
        says(phone, "hangs=93\n")
        link.send(BlockRequest(0))
        with pytest.raises(RunnerFailed, match="no answer within 3 s"):
            link.receive(3)
        assert not running(phone, "sleep 93")
        hold.close()
        one.close()


@pytest.fixture
def screen(phone: Phone) -> Iterator[Path]:
    """Android's programs for the screen, as far as the script needs them; what they did is in the file given."""
    log = phone.root / "data/local/tmp/screen.log"
    folder = phone.root / "usr/bin"
    programs = {
        "settings": 'echo "settings $*" >>{log}; [ "$1" = get ] && echo "${{STAY:-0}}"; exit 0',
        "svc": 'echo "svc $*" >>{log}',
        "input": 'echo "input $*" >>{log}',
        "dumpsys": '[ "$1" = power ] && echo "  mWakefulness=Dozing"; exit 0',
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text.format(log='/data/local/tmp/screen.log')}\n")
        (folder / name).chmod(0o755)
    yield log
    for name in programs:
        (folder / name).unlink()
    log.unlink(missing_ok=True)


CHANGED = ["settings get global stay_on_while_plugged_in", "svc power stayon true", "input keyevent KEYCODE_WAKEUP"]
RESTORED = ["settings put global stay_on_while_plugged_in 0", "input keyevent KEYCODE_SLEEP"]


@pytest.mark.parametrize("how", ["close", "adbd"])
def test_the_screen_is_as_it_was_after_a_measurement_and_after_a_cut(
    transport: AdbTransport, phone: Phone, screen: Path, how: str
) -> None:
    hold = transport.start(Hold("me"))
    hold.receive(20)
    assert screen.read_text().splitlines() == CHANGED
    hold.close() if how == "close" else phone.cut()
    phone.wait()
    assert not running(phone, "stay_on")
    assert screen.read_text().splitlines() == [*CHANGED, *RESTORED]
    hold.close()


@pytest.mark.slow
def test_ctrl_c_ends_what_runs_there_and_gives_the_screen_back(
    transport: AdbTransport, phone: Phone, screen: Path, tmp_path: Path
) -> None:
    script = tmp_path / "measure.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from vitprof.devices import reach\n"
        "from vitprof.records import Device\n"
        "from vitprof.runner.wire import Hold, Plan\n"
        "device = Device('phone', 'mobile-gpu', 'none', 'adb', ('litert',))\n"
        "with reach.connected(device, Path('unused')) as transport:\n"
        "    hold = transport.start(Hold('me'))\n"
        "    try:\n"
        "        hold.receive(20)\n"
        "        transport.start(Plan('litert', artifact=transport.place(sys.argv[1]))).receive(90)\n"
        "    finally:\n"
        "        hold.close()\n"
    )
    (tmp_path / "net.tflite").write_text("not a model")
    says(phone, "hangs=92\n")
    process = subprocess.Popen([sys.executable, script, tmp_path / "net.tflite"], stderr=subprocess.PIPE, text=True)
    while not [line for line in phone.processes().splitlines() if line.split()[1:] == ["sleep", "92"]]:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]
    assert not running(phone, "sleep 92") and not running(phone, "stay_on")
    assert screen.read_text().splitlines() == [*CHANGED, *RESTORED]


def test_a_named_device_that_is_not_there_is_told_from_one_that_is(phone: Phone) -> None:
    profile = Path("phone.toml")
    assert adb_client.connected_serial(None, "phone", profile) == SERIAL
    assert adb_client.connected_serial(SERIAL, "phone", profile) == SERIAL
    with pytest.raises(
        UnreachableError, match=r"no Android device '127\.0\.0\.1:9' is attached; attached: 127\.0\.0\.1:15555"
    ):
        adb_client.connected_serial("127.0.0.1:9", "phone", profile)


def test_what_is_missing_here_is_known_before_anything_is_sent(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device("phone", "mobile-gpu", "none", "adb", ("litert",))
    monkeypatch.delenv(TOOL_VARIABLE, raising=False)
    with pytest.raises(UnreachableError, match="benchmark_model, which measures on Android, is not given") as error:
        reach.check_reachable(device)
    assert TOOL_VARIABLE in error.value.remedy
    monkeypatch.setenv(TOOL_VARIABLE, str(TOOL))
    assert reach.is_reachable(device) is None
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnreachableError, match="adb is not installed"):
        reach.check_reachable(device)
