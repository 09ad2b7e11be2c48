"""torch's profile: the operators that each module calls, with all that happens inside them.

Modules are ranges of the profiler, opened and closed by hooks; an operator belongs to the innermost range around it.
Read from the raw events: building torch's own tree of them takes seconds for a few dozen runs. On a GPU an operator's
time is that of the kernels that it and whatever it calls have launched: its own is that of launching them.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from vitprof.runner.profiles import WARM_UP_CALLS, middle_half, profiled_runs
from vitprof.runner.wire import Profile, ProfiledOp, ProfileRequest

_RUN = "vitprof run"
_MODULE = "vitprof module:"
# (name, start, end) in nanoseconds.
Event = Tuple[str, int, int]


def profile(
    forward: Callable[[Any], Any],
    image: Any,
    request: ProfileRequest,
    clock: Callable[[], int],
    wait: Optional[Callable[[], None]] = None,
) -> Profile:
    """The profile of `forward(image)` in inference mode; `wait` is there for a GPU, and waits until it is done."""
    import torch

    named = _named(forward)

    def call() -> None:
        with torch.inference_mode(), torch.profiler.record_function(_RUN):
            named(image)
            if wait:
                wait()

    used = {"use_device": "cuda", "use_kineto": True} if wait else {}
    with torch.autograd.profiler.profile(**used) as profiler, _ranges(forward):
        runs_ns = profiled_runs(call, request, clock)
    kept = middle_half(runs_ns)
    raw = profiler.kineto_results.events()
    runs = runs_from_events([event for event, _ in _events(raw)])[WARM_UP_CALLS:]
    return Profile(
        ops=ops_from_runs([runs[index] for index in kept], _kernel_ns(raw) if wait else None),
        total_ns=sum(runs_ns[index] for index in kept) / len(kept),
        runs=len(kept),
    )


def runs_from_events(events: Sequence[Event]) -> List[List[Event]]:
    """The events inside each run, in the order of their start, an outer one before the inner ones."""
    runs: List[List[Event]] = []
    end = 0
    for event in sorted(events, key=lambda one: (one[1], -one[2])):
        if event[0] == _RUN:
            runs.append([])
            end = event[2]
        elif runs and event[1] < end:
            runs[-1].append(event)
    return runs


def ops_from_runs(
    runs: Sequence[Sequence[Event]], work_ns: Optional[Mapping[Event, int]] = None
) -> Tuple[ProfiledOp, ...]:
    """One for each outermost operator of each module; its members are the operators that it calls, longest first.

    `work_ns`: the time of each event where that is not its own length.
    """
    sums: Dict[Tuple[str, str], int] = {}
    calls: Dict[Tuple[str, str], int] = {}
    inner: Dict[Tuple[str, str], Dict[str, int]] = {}
    for run in runs:
        module = [""]
        ends: List[Tuple[int, bool]] = []
        operator: Optional[Tuple[Tuple[str, str], int]] = None
        for event in run:
            name, start, end = event
            event_ns = end - start if work_ns is None else work_ns.get(event, 0)
            while ends and ends[-1][0] <= start:
                module.pop() if ends.pop()[1] else None
            if operator and operator[1] <= start:
                operator = None
            if name.startswith(_MODULE):
                module.append(name[len(_MODULE) :])
                ends.append((end, True))
            elif "::" not in name:
                continue
            elif operator is None:
                key = (module[-1], name)
                operator = (key, end)
                sums[key] = sums.get(key, 0) + event_ns
                calls[key] = calls.get(key, 0) + 1
            else:
                members = inner.setdefault(operator[0], {})
                members[name] = members.get(name, 0) + event_ns
    return tuple(
        ProfiledOp(
            name=f"{key[0]}.{_bare(key[1])}".lstrip("."),
            op=_bare(key[1]),
            ns=total / len(runs),
            calls=calls[key] // len(runs),
            module=key[0],
            members=tuple(map(_bare, sorted(inner.get(key, {}), key=lambda name: -inner[key][name]))),
        )
        for key, total in sums.items()
    )


def _bare(name: str) -> str:
    return name[len("aten::") :] if name.startswith("aten::") else name


def inclusive_ns(own_ns: Sequence[Tuple[Event, int]]) -> Dict[Event, int]:
    """By event: its own time and that of all events inside it."""
    total: Dict[Event, int] = {}
    around: List[Event] = []
    for event, ns in sorted(own_ns, key=lambda one: (one[0][1], -one[0][2])):
        while around and around[-1][2] <= event[1]:
            around.pop()
        around.append(event)
        for outer in set(around):
            total[outer] = total.get(outer, 0) + ns
    return total


def _events(raw: Sequence[Any]) -> List[Tuple[Event, int]]:
    """With their numbers, of the thread that makes the calls: an operator's helpers on others are in its time already.

    A GPU has events of the same names.
    """
    from torch.autograd import DeviceType

    own = [event for event in raw if event.device_type() == DeviceType.CPU]
    thread = next(event.start_thread_id() for event in own if event.name() == _RUN)
    return [
        ((event.name(), event.start_ns(), event.start_ns() + event.duration_ns()), event.correlation_id())
        for event in own
        if event.start_thread_id() == thread
    ]


def _kernel_ns(raw: Sequence[Any]) -> Dict[Event, int]:
    """By event of the processor: how long the kernels ran that were launched inside it.

    A kernel's linked number is that of the operator that launched it, as in torch's own profiler.
    """
    from torch.autograd import DeviceType

    launched: Dict[int, int] = {}
    for event in raw:
        # A range of ours on the GPU is as long as all that is in it.
        is_work = event.device_type() == DeviceType.CUDA and not event.is_user_annotation()
        if is_work and event.linked_correlation_id() > 0:
            number = event.linked_correlation_id()
            launched[number] = launched.get(number, 0) + event.duration_ns()
    operators = [(event, number) for event, number in _events(raw) if "::" in event[0]]
    return inclusive_ns([(event, launched.get(number, 0)) for event, number in operators])


def _named(forward: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`forward`, or for a program of torch.export one that runs it node by node, each in the range of its module."""
    import torch

    nodes = forward.graph.nodes if isinstance(forward, torch.fx.GraphModule) else ()
    if not any(node.meta.get("nn_module_stack") for node in nodes):
        return forward

    class Named(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: Any) -> Any:
            stack = node.meta.get("nn_module_stack") or {}
            path = [path for path, _ in stack.values()][-1] if stack else ""
            # `L['self'].stem.conv`, or the path alone.
            path = path[len("L['self']") :] if path.startswith("L['self']") else path
            with torch.profiler.record_function(_MODULE + path.lstrip(".")):
                return super().run_node(node)

    run: Callable[[Any], Any] = Named(forward).run
    return run


@contextlib.contextmanager
def _ranges(forward: Callable[[Any], Any]) -> Iterator[None]:
    """A range around every module's forward, named by its path: of several, the one below the module that calls it."""
    import torch
    from torch.nn.modules import module as hooks

    if not isinstance(forward, torch.nn.Module):
        yield
        return
    paths: Dict[int, List[str]] = {}
    for path, part in forward.named_modules(remove_duplicate=False):
        paths.setdefault(id(part), []).append(path)
    stack: List[Tuple[str, Any]] = []

    def enter(module: Any, _: Any) -> None:
        caller = stack[-1][0] if stack else ""
        known = paths.get(id(module), [caller])
        path = next((one for one in known if one.startswith(f"{caller}." if caller else "")), known[0])
        stack.append((path, torch.profiler.record_function(_MODULE + path)))
        stack[-1][1].__enter__()

    def leave(module: Any, _: Any, __: Any) -> None:
        stack.pop()[1].__exit__(None, None, None)

    entering = hooks.register_module_forward_pre_hook(enter)
    leaving = hooks.register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        entering.remove()
        leaving.remove()
