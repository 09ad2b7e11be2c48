"""OpenVINO's profile: the performance counts of a request, and the graph as the plugin changed it.

OpenVINO keeps one running mean for each node, over all calls since loading, in whole microseconds. The time of a
stretch of calls is therefore the difference of two readings; which calls of it were disturbed cannot be seen.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Set, Tuple

from vitprof.runner.profiles import WARM_UP_CALLS, profiled_runs
from vitprof.runner.wire import Profile, ProfiledOp, ProfileRequest

CONFIG = {"PERF_COUNT": True}


def profile(
    request: Any, call: Callable[[], None], calls: int, wanted: ProfileRequest, clock: Callable[[], int]
) -> Profile:
    """The profile of an infer request that was compiled with `CONFIG` and has made `calls` calls."""
    readings: List[Tuple[int, List[Any]]] = []
    done = calls

    def counted() -> None:
        nonlocal done
        call()
        done += 1
        if done == calls + WARM_UP_CALLS:
            readings.append((done, list(request.profiling_info)))

    runs_ns = profiled_runs(counted, wanted, clock)
    readings.append((done, list(request.profiling_info)))
    [(before, first), (after, last)] = readings
    means_before = {info.node_name: _ns(info) for info in first}
    ran = [info for info in last if "NOT_RUN" not in str(info.status)]
    graph = _graph(request.get_compiled_model(), {str(info.node_name) for info in ran})
    ops = []
    for info in ran:
        name = str(info.node_name)
        stretch_ns = _ns(info) * after - means_before.get(name, 0.0) * before
        members, feeds = graph.get(name, ((), ()))
        ops.append(
            ProfiledOp(name, str(info.node_type), max(0.0, stretch_ns / (after - before)), 1, None, members, feeds)
        )
    return Profile(tuple(ops), total_ns=sum(runs_ns) / len(runs_ns), runs=len(runs_ns))


def _ns(info: Any) -> float:
    return float(info.real_time.total_seconds() * 1e9)


def _graph(compiled: Any, ran: "Set[str]") -> "Dict[str, Tuple[Tuple[str, ...], Tuple[str, ...]]]":
    """By node: the layers of the file that it was made of, and the nodes of `ran` that read its output."""
    found = {}
    for node in compiled.get_runtime_model().get_ops():
        facts = node.get_rt_info()
        names = str(facts["originalLayersNames"].value) if "originalLayersNames" in facts else ""
        found[str(node.get_friendly_name())] = (tuple(name for name in names.split(",") if name), _readers(node, ran))
    return found


def _readers(node: Any, ran: "Set[str]") -> "Tuple[str, ...]":
    """Past the nodes that do nothing: a reshape in place is not run."""
    found: Dict[str, None] = {}
    waiting = [node]
    while waiting:
        for output in waiting.pop().outputs():
            for one in output.get_target_inputs():
                name = str(one.get_node().get_friendly_name())
                if name in ran:
                    found[name] = None
                else:
                    waiting.append(one.get_node())
    return tuple(found)
