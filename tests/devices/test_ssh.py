"""A real sshd on this machine: running there, shipping there, and every way in which the link is cut."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.devices.sshd import Sshd, device, running
from tests.processes import command_of, runs, started_by, wait_for
from vitprof.devices import setup
from vitprof.devices.shipping import Parcels
from vitprof.devices.site import connected
from vitprof.devices.transports import RunnerFailed
from vitprof.devices.transports.local import LocalLink
from vitprof.devices.transports.ssh import SshTransport
from vitprof.errors import UnreachableError, UsageError, VitprofError
from vitprof.places import Places, places
from vitprof.runner.wire import Block, BlockRequest, Outputs, OutputsRequest, Plan, Ready

_WAIT_S = 60
_MB = 1_000_000
# What a session was asked to run, where another command is forced on it.
_ASKED = 'eval "$SSH_ORIGINAL_COMMAND"'


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running(tmp_path_factory.mktemp("sshd") / "a $(id) b") as server:
        yield server


@pytest.fixture
def transport(board: Sshd, here: Places) -> Iterator[SshTransport]:
    opened = SshTransport(device(), here.cache_root)
    yield opened
    opened.close()
    assert board.is_quiet(), board.processes()


@pytest.fixture(scope="module")
def open_transport(board: Sshd, folders: None) -> Iterator[SshTransport]:
    """For tests that cut nothing."""
    with contextlib.closing(SshTransport(device(), places().cache_root)) as opened:
        yield opened


@contextlib.contextmanager
def _reading(file: Path, text: str) -> Iterator[None]:
    """`file` with another content meanwhile: ssh and sshd read theirs anew for every connection."""
    before = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


def _forced(board: Sshd, command: str) -> contextlib.AbstractContextManager[None]:
    """Every session runs `command`, which is given the asked one in SSH_ORIGINAL_COMMAND."""
    key = board.folder / "user_key.pub"
    escaped = command.replace('"', '\\"')
    return _reading(key, f'command="{escaped}" {key.read_text()}')


def _started(transport: SshTransport, **options: object) -> LocalLink:
    link = transport.start(Plan(backend="fake", options={"call_ns": 1_000_000, **options}, deadline_s=60))  # type: ignore[dict-item]
    assert isinstance(link.receive(_WAIT_S), Ready)
    return link


def _measures(link: LocalLink, index: int = 0) -> bool:
    link.send(BlockRequest(index))
    block = link.receive(_WAIT_S)
    return isinstance(block, Block) and block.index == index


def test_a_runner_measures_there_and_its_outputs_come_back(
    open_transport: SshTransport, board: Sshd, tmp_path: Path
) -> None:
    link = _started(open_transport)
    assert _measures(link, 3)
    path = open_transport.scratch("outputs-0 $(id)", tmp_path)
    link.send(OutputsRequest(path))
    outputs = link.receive(_WAIT_S)
    assert isinstance(outputs, Outputs)
    fetched = open_transport.fetch(outputs.path, tmp_path)
    assert fetched.parent == tmp_path and fetched.stat().st_size == 8
    assert Path(path).is_relative_to(board.cache)
    # Removed there once it is sent, which this side may see before.
    end_s = time.monotonic() + _WAIT_S
    while Path(path).exists():
        assert time.monotonic() < end_s
        time.sleep(0.01)
    link.close()


def test_only_what_a_runner_was_told_to_write_is_fetched(open_transport: SshTransport, tmp_path: Path) -> None:
    open_transport.scratch("outputs", tmp_path)
    for path in ("/etc/passwd", f"{open_transport.scratch('profile', tmp_path)}/../../../in-use"):
        with pytest.raises(VitprofError, match="no file that the runner was asked for"):
            open_transport.fetch(path, tmp_path)


@pytest.mark.parametrize("name", ["plain.onnx", "a b'\"$(touch gone)`id`;\n.onnx", "-rf", "model.on nx", "ü.tflite"])
def test_a_file_lies_there_under_its_hash_whatever_it_is_called(
    open_transport: SshTransport, board: Sshd, tmp_path: Path, name: str
) -> None:
    content = os.urandom(3 * _MB) + name.encode()
    (tmp_path / name).write_bytes(content)
    placed = Path(open_transport.place(str(tmp_path / name)))
    assert placed.read_bytes() == content
    assert placed.parent == board.files and placed.stem == hashlib.sha256(content).hexdigest()
    assert placed.suffix in ("", ".onnx", ".tflite")


def test_what_is_there_is_not_sent_again_and_what_is_torn_is(
    open_transport: SshTransport, tmp_path: Path, here: Places
) -> None:
    (tmp_path / "model.onnx").write_bytes(os.urandom(_MB))
    placed = Path(open_transport.place(str(tmp_path / "model.onnx")))
    inode = placed.stat().st_ino
    assert open_transport.place(str(tmp_path / "model.onnx")) == str(placed)
    with contextlib.closing(SshTransport(device(), here.cache_root)) as other:
        assert other.place(str(tmp_path / "model.onnx")) == str(placed) and placed.stat().st_ino == inode
    # As a crash of the device leaves it: the right name, bytes that are missing.
    os.truncate(placed, 100)
    with contextlib.closing(SshTransport(device(), here.cache_root)) as other:
        other.place(str(tmp_path / "model.onnx"))
    assert placed.read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_a_file_that_changed_is_another_file(open_transport: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"one")
    first = open_transport.place(str(tmp_path / "model.onnx"))
    (tmp_path / "model.onnx").write_bytes(b"two!")
    second = open_transport.place(str(tmp_path / "model.onnx"))
    assert (Path(first).read_bytes(), Path(second).read_bytes()) == (b"one", b"two!")


def test_a_folder_keeps_its_files_and_is_the_same_parcel_wherever_it_lies(
    open_transport: SshTransport, board: Sshd, tmp_path: Path
) -> None:
    for name in ("a.mlpackage", "b.mlpackage"):
        (tmp_path / name / "Data" / "empty").mkdir(parents=True)
        (tmp_path / name / "Data" / "weights $(id).bin").write_bytes(b"w" * 1000)
        (tmp_path / name / "Manifest.json").write_text("{}")
    os.utime(tmp_path / "b.mlpackage" / "Manifest.json", (1, 1))
    placed = Path(open_transport.place(str(tmp_path / "a.mlpackage")))
    assert str(placed) == open_transport.place(str(tmp_path / "b.mlpackage"))
    assert placed.parent == board.files and placed.suffix == ".mlpackage"
    assert sorted(one.relative_to(placed).as_posix() for one in placed.rglob("*") if one.is_file()) == [
        "Data/weights $(id).bin",
        "Manifest.json",
    ]


# What is cut.


def _cut_while_sending(board: Sshd, part: Path, at_bytes: int, cut: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        end_s = time.monotonic() + _WAIT_S
        while time.monotonic() < end_s:
            if part.exists() and part.stat().st_size > at_bytes:
                cut()
                return

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "what", ["sshd", pytest.param("ssh", marks=pytest.mark.slow), pytest.param("keeper", marks=pytest.mark.slow)]
)
def test_an_upload_that_was_cut_goes_on_from_there(
    transport: SshTransport, board: Sshd, tmp_path: Path, what: str
) -> None:
    content = os.urandom(48 * _MB)
    (tmp_path / "model.onnx").write_bytes(content)
    part = board.files / f"{hashlib.sha256(content).hexdigest()}.onnx.part"
    inodes = []

    def cut() -> None:
        inodes.append(part.stat().st_ino)
        if what == "sshd":
            board.cut()
        for one in _clients(os.getpid()) if what == "ssh" else board.processes() if what == "keeper" else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()

    thread = _cut_while_sending(board, part, 8 * _MB, cut)
    placed = Path(transport.place(str(tmp_path / "model.onnx")))
    thread.join()
    assert placed.read_bytes() == content
    # It is the very file that was begun.
    assert inodes == [placed.stat().st_ino]


def test_a_beginning_that_is_not_this_file_s_is_sent_anew(
    open_transport: SshTransport, board: Sshd, tmp_path: Path
) -> None:
    content = os.urandom(_MB)
    (tmp_path / "model.onnx").write_bytes(content)
    part = board.files / f"{hashlib.sha256(content).hexdigest()}.onnx.part"
    part.write_bytes(b"something else" * 100_000)
    assert Path(open_transport.place(str(tmp_path / "model.onnx"))).read_bytes() == content


def test_two_who_send_the_same_file_do_not_mix(board: Sshd, tmp_path: Path, here: Places) -> None:
    content = os.urandom(12 * _MB)
    (tmp_path / "model.onnx").write_bytes(content)
    paths: list[str] = []

    def send() -> None:
        with contextlib.closing(SshTransport(device(), here.cache_root)) as one:
            paths.append(one.place(str(tmp_path / "model.onnx")))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 2 and len(set(paths)) == 1
    assert Path(paths[0]).read_bytes() == content and not list(board.files.glob("*.part"))


def _clients(pid: int) -> list[psutil.Process]:
    """The ssh clients that a process has started."""
    return [one for one in started_by(pid) if Path((command_of(one) or [""])[0]).name == "ssh"]


def _runners(board: Sshd) -> list[psutil.Process]:
    is_runner = re.compile("runner|[.]zip").search
    return [one for one in board.processes() if any(map(is_runner, command_of(one)[1:2]))]


@pytest.mark.parametrize(
    ("what", "error"),
    [("sshd", "connection to device 'board' was lost"), ("ssh", "lost|signal 9"), ("runner", "SIGKILL")],
)
def test_whatever_is_killed_while_it_measures_the_next_one_measures(
    transport: SshTransport, board: Sshd, what: str, error: str
) -> None:
    link, other = _started(transport), _started(transport)
    assert _measures(link)
    victims = {"sshd": board.sessions, "ssh": lambda: _clients(os.getpid()), "runner": lambda: _runners(board)}[what]()
    assert victims
    for one in victims:
        # Another may have ended with the one before it.
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    for broken in (link, other):
        with pytest.raises(RunnerFailed, match=error) as caught:
            broken.send(BlockRequest(1))
            broken.receive(_WAIT_S)
        assert caught.value.failure.remedy and caught.value.failure.stage == "run"
    again = _started(transport)
    assert _measures(again)
    # Of those that were cut none is left beside it.
    end_s = time.monotonic() + _WAIT_S
    while len(_runners(board)) > 1 and time.monotonic() < end_s:
        time.sleep(0.05)
    assert len(_runners(board)) == 1
    again.close()


def test_a_host_that_is_killed_leaves_nothing_running_there(board: Sshd, here: Places) -> None:
    text = (
        "import sys, time\nfrom pathlib import Path\nfrom tests.devices.sshd import device\n"
        "from vitprof.devices.transports.ssh import SshTransport\nfrom vitprof.runner.wire import BlockRequest, Plan\n"
        "transport = SshTransport(device(), Path(sys.argv[1]))\n"
        "link = transport.start(Plan('fake', {'call_ns': 1_000_000, 'fault': 'hang', 'fault_at': '12'}))\n"
        "link.receive(60)\nlink.send(BlockRequest(0))\nprint('up', flush=True)\ntime.sleep(60)\n"
    )
    host = subprocess.Popen(
        [sys.executable, "-c", text, str(here.cache_root)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert host.stdout and host.stdout.readline() == b"up\n"
    assert _runners(board)
    clients = _clients(host.pid)
    host.send_signal(signal.SIGKILL)
    host.wait()
    assert board.is_quiet()
    assert clients
    # A client ends after what it has started there.
    wait_for(lambda: not any(map(runs, clients)))


def test_a_runner_ends_at_its_deadline_there(transport: SshTransport) -> None:
    link = transport.start(Plan("fake", {"call_ns": 1000}, deadline_s=0.3))
    with pytest.raises(RunnerFailed, match="deadline"):
        # It runs from the plan on: on a busy machine the runner may not be ready before.
        link.receive(_WAIT_S)
        link.receive(_WAIT_S)


@pytest.mark.slow
def test_a_runner_that_hangs_is_ended_by_the_host_s_time_out(transport: SshTransport, board: Sshd) -> None:
    link = _started(transport, fault="hang", fault_at="12")
    link.send(BlockRequest(0))
    with pytest.raises(RunnerFailed, match="no answer within 1 s"):
        link.receive(1)
    end_s = time.monotonic() + _WAIT_S
    while _runners(board) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert not _runners(board)


@pytest.mark.slow
def test_more_processes_than_a_connection_may_carry_get_connections_of_their_own(tmp_path: Path, here: Places) -> None:
    with running(tmp_path / "sshd", settings=["MaxSessions 2"]) as server:
        with contextlib.closing(SshTransport(device(), here.cache_root)) as transport:
            links = [_started(transport) for _ in range(3)]
            assert all(_measures(link, index) for index, link in enumerate(links))
            for link in links:
                link.close()
        assert server.is_quiet()


# Who is let in.


def test_an_unknown_host_key_is_refused_and_not_learned(board: Sshd, here: Places) -> None:
    config = board.folder / "config"
    # Whatever the user's own settings say.
    trusting = config.read_text() + "  StrictHostKeyChecking accept-new\n"
    with _reading(board.known_hosts, ""), _reading(config, trusting):
        with pytest.raises(UnreachableError, match="host key is not known") as caught:
            SshTransport(device(), here.cache_root)
        assert "ssh board" in caught.value.remedy and "fingerprint" in caught.value.remedy
        assert board.known_hosts.read_text() == "" and not board.processes()


def test_a_changed_host_key_is_refused(board: Sshd, here: Places) -> None:
    other = (board.folder / "user_key.pub").read_text().split()[:2]
    with _reading(board.known_hosts, f"[127.0.0.1]:{board.port} {' '.join(other)}\n"):
        with pytest.raises(UnreachableError, match=r"host key has changed.*known_hosts:1") as caught:
            SshTransport(device(), here.cache_root)
        assert "ssh-keygen -R" in caught.value.remedy and not board.processes()


def test_a_key_that_is_not_let_in_says_what_to_do(board: Sshd, here: Places) -> None:
    with _reading(board.folder / "user_key.pub", ""):
        with pytest.raises(UnreachableError, match=r"does not let us in: .*Permission denied") as caught:
            SshTransport(device(), here.cache_root)
        assert "ssh-copy-id" in caught.value.remedy


def test_a_server_that_is_not_there_says_so(board: Sshd, here: Places) -> None:
    config = board.folder / "config"
    with (
        _reading(config, config.read_text().replace(f"Port {board.port}", "Port 1")),
        pytest.raises(UnreachableError, match="Connection refused"),
    ):
        SshTransport(device(), here.cache_root)


@pytest.mark.parametrize(
    "host",
    [
        "-oProxyCommand=touch gone",
        "a b",
        "me@$(id)",
        "me@`id`",
        "me@host\nProxyCommand id",
        "me@-host",
        "a'b",
        "",
        "a;b",
    ],
)
def test_a_host_that_is_none_never_reaches_ssh(here: Places, host: str) -> None:
    with pytest.raises(UsageError, match="key 'host'"):
        SshTransport(device(host=host), here.cache_root)


def test_a_device_s_name_is_text(board: Sshd, here: Places) -> None:
    odd = device(name="a'b\"$(touch gone)\n; touch gone", python=None, requirements=("$(touch gone)", "'; touch gone"))
    with pytest.raises(UnreachableError, match="has no environment") as caught:
        SshTransport(odd, here.cache_root)
    assert shlex.split(caught.value.remedy) == ["vitprof", "devices", "setup", odd.name]
    assert not list(Path.home().glob("gone*"))


@pytest.mark.parametrize("python", ["/no/such/python", "~/$(touch gone); 'touch gone'", "-c"])
def test_an_interpreter_that_is_none_is_named(board: Sshd, here: Places, python: str) -> None:
    with pytest.raises(UnreachableError, match="there is no program"):
        SshTransport(device(python=python), here.cache_root)
    assert board.is_quiet()


# Environments and the cache.


def test_without_an_environment_it_is_said_how_to_make_one(board: Sshd, here: Places) -> None:
    with pytest.raises(UnreachableError, match="no environment with onnxruntime==") as caught:
        SshTransport(device(python=None), here.cache_root)
    assert caught.value.remedy == "vitprof devices setup board"


@pytest.mark.slow
def test_an_environment_is_made_once_whole_and_found(board: Sshd, here: Places) -> None:
    # pip's own wheel-less package: nothing is fetched.
    bare = device(python=None, requirements=("pip",))
    with connected(bare) as site:
        one = setup.wanted(site)
        assert one.python is None
        python = setup.made(site, one, None)
        assert setup.wanted(site).python == python
    with contextlib.closing(SshTransport(bare, here.cache_root)) as transport:
        assert _measures(_started(transport))
        assert Path(python).is_relative_to(board.cache)
    with connected(bare) as site:
        removed, freed = setup.cleaned(site, everything=True)
        assert freed > _MB and any(name.startswith("environments/") for name in removed)
        assert setup.kept(site) == ()


@pytest.mark.slow
def test_what_cannot_be_installed_leaves_nothing_and_says_what_pip_said(board: Sshd) -> None:
    said: list[str] = []
    wrong = device(python=None, requirements=("./no such package",))
    with connected(wrong, said.append) as site:
        with pytest.raises(VitprofError, match=r"pip install.*status 1") as caught:
            setup.made(site, setup.wanted(site), None)
        assert "requirements" in caught.value.remedy and "no such package" in "".join(said)
        assert not [one for one in setup.kept(site) if one.name.startswith("environments/")]


def test_a_full_disk_there_is_an_error_with_the_way_out(
    board: Sshd, disk: Callable[[str], Path], tmp_path: Path, here: Places
) -> None:
    forced = f"export XDG_CACHE_HOME='{disk('4m')}'; {_ASKED}"
    (tmp_path / "model.onnx").write_bytes(os.urandom(8 * _MB))
    with _forced(board, forced), contextlib.closing(SshTransport(device(), here.cache_root)) as transport:
        with pytest.raises(VitprofError, match=r"its disk is full: .* are free") as caught:
            transport.place(str(tmp_path / "model.onnx"))
        assert caught.value.remedy == "free some space there: vitprof devices clean board --all"
        link = _started(transport)
        assert _measures(link)
        link.close()


def test_what_was_used_longest_ago_goes_first_and_nothing_goes_while_it_is_used(
    board: Sshd, tmp_path: Path, here: Places
) -> None:
    with connected(device()) as site:
        setup.cleaned(site, everything=True)
    with contextlib.closing(SshTransport(device(), here.cache_root)) as transport:
        paths = []
        for index in range(3):
            (tmp_path / f"{index}.bin").write_bytes(os.urandom(_MB))
            paths.append(Path(transport.place(str(tmp_path / f"{index}.bin"))))
            os.utime(paths[-1], (index + 1, index + 1))
        with connected(device()) as site, pytest.raises(VitprofError, match="another vitprof is using it"):
            setup.cleaned(site, everything=True)
    with connected(device()) as site:
        os.utime(paths[0])
        removed, freed = setup.cleaned(site, everything=False, cap_bytes=2 * _MB)
        assert (removed, freed) == ((f"files/{paths[1].name}",), _MB)
        assert setup.cleaned(site, everything=False) == ((), 0)
    assert [path.exists() for path in paths] == [True, False, True]


def test_what_a_killed_run_left_goes_with_the_next_one(board: Sshd, here: Places) -> None:
    left = board.files.parent / "runs" / "left-behind"
    left.mkdir(parents=True, exist_ok=True)
    (left / "outputs").write_bytes(b"x")
    SshTransport(device(), here.cache_root).close()
    assert board.is_quiet() and not left.exists()


def test_a_login_shell_that_speaks_is_named(board: Sshd, here: Places) -> None:
    with (
        _forced(board, f"echo Welcome to the board; {_ASKED}"),
        pytest.raises(UnreachableError, match="login shell prints 'Welcome to the board'"),
    ):
        SshTransport(device(), here.cache_root)


@pytest.mark.parametrize("shell", ["yes", "cat /dev/zero"])
def test_a_login_shell_that_does_not_end_to_speak_is_not_waited_for(board: Sshd, here: Places, shell: str) -> None:
    with (
        _forced(board, shell),
        pytest.raises(UnreachableError, match="sends what is no answer") as caught,
    ):
        SshTransport(device(), here.cache_root)
    assert "ssh board" in caught.value.remedy and board.is_quiet()


def test_a_python_that_is_too_old_is_named(board: Sshd, tmp_path: Path, here: Places) -> None:
    # As old Pythons answer; the path leads to no other one.
    (tmp_path / "python3").write_text('#!/bin/sh\nprintf "vitprof-python 3.6.9\\n" >&2\nexit 97\n')
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "sh").symlink_to("/bin/sh")
    with (
        _forced(board, f"PATH='{tmp_path}'; {_ASKED}"),
        pytest.raises(UnreachableError, match=r"only Python 3.6.9, and 3.9 or newer is needed") as caught,
    ):
        SshTransport(device(python=None), here.cache_root)
    assert "python = " in caught.value.remedy


def test_parcels_are_hashed_once(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    parcels = Parcels()
    first = parcels.parcel(str(tmp_path / "a.bin"))
    assert parcels.parcel(str(tmp_path / "a.bin")) is first
    assert first.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" and first.bytes == 3
    with pytest.raises(VitprofError, match="cannot read"):
        parcels.parcel(str(tmp_path / "gone"))
    parcels.close()
