"""How many processes the kernel has killed because memory ran out: what tells such a kill from anybody else's.

Its own file because a runner here and one behind SSH are judged by the same counters, read by Python and by a shell.
The counter of the process's own control group comes first: that of the whole system grows by others' kills too. A kill
by a service (systemd-oomd, Android's lmkd) is in neither, so it stays a kill whose reason is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_GROUPS = "sys/fs/cgroup"
# Version 2 has one tree, version 1 one for memory; inside a container the group's own path may not be seen.
_GROUP = re.compile(r"^\d+:(|(?:[^:]*,)?memory(?:,[^:]*)?):(.*)$", re.MULTILINE)
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)

# What a shell writes to standard error where the counter has grown over a program that was killed.
SIGN = "vitprof: killed for want of memory"
# Runs "$1" "$2" and ends with its status. Not `exec`: the shell tells of a signal by a status that reaches the host.
SCRIPT = f"""kills() {{
v2=$(sed -n 's/^0:://p' /proc/self/cgroup 2>/dev/null)
v1=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup 2>/dev/null)
grep -hs '^oom_kill ' "/{_GROUPS}$v2/memory.events" /{_GROUPS}/memory.events \
"/{_GROUPS}/memory$v1/memory.oom_control" /{_GROUPS}/memory/memory.oom_control /proc/vmstat | head -n 1
}}
before=$(kills); "$1" "$2"; status=$?
[ $status -eq 137 ] && [ "$before" != "$(kills)" ] && echo '{SIGN}' >&2
exit $status"""


def memory_kills(root: Path = Path("/")) -> int | None:
    """So many since the group or the system was started; None where nothing counts them. `root`: of the file system."""
    for path in _files(root):
        try:
            found = _COUNT.search(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found:
            return int(found[1])
    return None


def _files(root: Path) -> Iterator[Path]:
    groups = root / _GROUPS
    try:
        own = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        own = ""
    for controllers, path in _GROUP.findall(own):
        tree, name = (groups / "memory", "memory.oom_control") if controllers else (groups, "memory.events")
        yield tree / path.lstrip("/") / name
        yield tree / name
    yield root / "proc/vmstat"
