"""The kernel's count of those that it killed for memory: as files have it, and in a group that is really too small."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitprof.devices.memory_kills import SCRIPT, SIGN, memory_kills
from vitprof.devices.transports.local import _DeathHere
from vitprof.runner.wire import OUT_OF_MEMORY

_LIMIT_BYTES = 100_000_000
_HOG = "print('begun', flush=True); held = b'x' * 1_000_000_000; print('ended')"


def _written(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_own_group_counts_before_the_whole_system(tmp_path: Path) -> None:
    _written(tmp_path, "proc/vmstat", "nr_free_pages 7\noom_kill 40\n")
    assert memory_kills(tmp_path) == 40
    _written(tmp_path, "proc/self/cgroup", "0::/user.slice/mine\n")
    events = "low 0\nhigh 0\nmax 9\noom 8\noom_kill 3\noom_group_kill 1\n"
    _written(tmp_path, "sys/fs/cgroup/user.slice/mine/memory.events", events)
    assert memory_kills(tmp_path) == 3


def test_a_group_of_version_1_and_one_whose_path_is_not_seen_count_too(tmp_path: Path) -> None:
    _written(tmp_path, "proc/self/cgroup", "5:cpu,memory:/a/b\n4:memory:/docker/f00\n0::/\n")
    # Inside the container its own group is what is mounted there.
    _written(tmp_path, "sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 6\n")
    assert memory_kills(tmp_path) == 6
    _written(tmp_path, "sys/fs/cgroup/memory/docker/f00/memory.oom_control", "oom_kill_disable 0\noom_kill 2\n")
    _written(tmp_path, "sys/fs/cgroup/memory/a/b/memory.oom_control", "oom_kill 5\n")
    assert memory_kills(tmp_path) == 5


def test_where_nothing_counts_it_is_unknown(tmp_path: Path) -> None:
    assert memory_kills(tmp_path) is None
    _written(tmp_path, "proc/vmstat", "nr_free_pages 7\n")
    assert memory_kills(tmp_path) is None


def _shell(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", SCRIPT, "vitprof", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("code", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_a_shell_passes_the_status_on_and_says_nothing_of_other_deaths(tmp_path: Path, code: str, status: int) -> None:
    (tmp_path / "program").write_text(code)
    done = _shell("sh", str(tmp_path / "program"))
    assert done.returncode == status and SIGN not in done.stderr


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group that may hold 100 MB, to whose list a process adds itself."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / f"vitprof-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if not (group / limit).exists():
            # A folder of version 1's own, where nothing is counted and any file may be written.
            group.rmdir()
            continue
        try:
            (group / limit).write_text(str(_LIMIT_BYTES))
            # Or it would be swapped out instead.
            swap = group / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")
        except OSError:
            group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no control group can be made here: that takes root and a hierarchy for memory")


def test_a_process_that_its_group_is_too_small_for_ran_out_of_memory(small_group: Path, tmp_path: Path) -> None:
    """Beside it one that somebody kills: the kernel does not count that."""
    (tmp_path / "hog.py").write_text(_HOG)
    code = (
        "import os, subprocess, sys\n"
        f"open({str(small_group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "from vitprof.devices.transports.local import _DeathHere\n"
        "for words in ([sys.executable, '-c', 'import os; os.kill(os.getpid(), 9)'], [sys.executable, sys.argv[1]]):\n"
        "    death = _DeathHere()\n"
        "    print(death(subprocess.run(words).returncode, '').kind)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "hog.py")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:3] == ["None", "begun", OUT_OF_MEMORY]


def test_a_shell_on_the_other_side_says_it_too(small_group: Path, tmp_path: Path) -> None:
    (tmp_path / "hog.py").write_text(_HOG)
    enter = f'echo $$ >{small_group}/cgroup.procs; exec sh -c "$@"'
    words = ["sh", "-c", enter, "sh", SCRIPT, "vitprof", sys.executable, str(tmp_path / "hog.py")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGKILL and SIGN in done.stderr


def test_a_counter_that_did_not_grow_is_no_evidence() -> None:
    assert _DeathHere()(-signal.SIGKILL, "").kind is None
