"""Core ML's compute plan: on which unit it means to run each operator, and which share of the work it takes it for.

Its own file because a plan is no measurement: Core ML tells neither where an operator has run nor how long it took.
Placement is its own word for what it prefers; a time of an operator is an estimated share of the measured whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from vitprof.runner.profiles import middle_half, profiled_runs
from vitprof.runner.wire import Profile, ProfiledOp, ProfileRequest

CPU, GPU, ANE = "cpu", "gpu", "ane"
# Apple's three classes of compute devices, as coremltools names them.
_UNITS = {"MLCPUComputeDevice": CPU, "MLGPUComputeDevice": GPU, "MLNeuralEngineComputeDevice": ANE}
# What an option asks for: an operator elsewhere is misplaced. `all` leaves Core ML the choice of the accelerator.
_ASKED = {"all": (ANE, GPU), "cpu": (CPU,), "cpu+gpu": (GPU,), "cpu+ane": (ANE,)}
COMPUTE_UNITS = tuple(_ASKED)


@dataclass(frozen=True)
class PlannedOp:
    """One operator of the program. `name`: of its first output, which a saved program keeps."""

    name: str
    op: str
    # None where the plan does not say it, as for an operator that was folded into another.
    unit: Optional[str]
    cost_share: Optional[float]


def planned_ops(plan: Any) -> Tuple[PlannedOp, ...]:
    """The operators of an `MLComputePlan`'s main function in order, those inside of branches and loops too.

    Constants are left out: the plan has neither a unit nor a cost for them.
    """
    program = plan.model_structure.program
    if program is None or "main" not in program.functions:
        return ()
    return tuple(_planned(plan, program.functions["main"].block.operations))


def _planned(plan: Any, operations: Iterable[Any]) -> List[PlannedOp]:
    found: List[PlannedOp] = []
    for operation in operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
        if usage is not None or cost is not None:
            unit = None if usage is None else unit_of(usage.preferred_compute_device)
            # `ios17.conv`: the version of its definition, then its name.
            op = str(operation.operator_name).rpartition(".")[2]
            name = str(operation.outputs[0].name) if operation.outputs else op
            found.append(PlannedOp(name, op, unit, None if cost is None else float(cost.weight)))
        for block in operation.blocks:
            found += _planned(plan, block.operations)
    return found


def unit_of(device: Any) -> str:
    """`cpu`, `gpu` or `ane`; of a device that came later its class."""
    kind = type(device).__name__
    return _UNITS.get(kind, kind)


def misplaced(ops: Sequence[PlannedOp], compute_units: str) -> Tuple[str, ...]:
    """Names of the operators that Core ML means to run elsewhere than where `compute_units` asks for."""
    return tuple(op.name for op in ops if op.unit is not None and op.unit not in _ASKED[compute_units])


def placement_ops_share(ops: Sequence[PlannedOp], compute_units: str) -> Optional[float]:
    """Of the operators whose unit is known, 0-1; None where none is."""
    known = sum(op.unit is not None for op in ops)
    return 1 - len(misplaced(ops, compute_units)) / known if known else None


def placement_facts(ops: Sequence[PlannedOp]) -> Dict[str, Any]:
    """For the record: operators by unit, and the share of the estimated work that each unit has."""
    counts: Dict[str, int] = {}
    costs: Dict[str, float] = {}
    for op in ops:
        if op.unit is not None:
            counts[op.unit] = counts.get(op.unit, 0) + 1
            costs[op.unit] = costs.get(op.unit, 0.0) + (op.cost_share or 0.0)
    has_costs = any(op.cost_share is not None for op in ops)
    return {"placed_ops": counts, "estimated_cost_shares": costs if has_costs else None} if counts else {}


def estimated_profile(
    ops: Sequence[PlannedOp], call: Callable[[], None], request: ProfileRequest, clock: Callable[[], int]
) -> Profile:
    """The measured time of whole calls, shared among the operators as Core ML estimates: marked as an estimate."""
    runs_ns = profiled_runs(call, request, clock)
    kept = middle_half(runs_ns)
    total_ns = sum(runs_ns[index] for index in kept) / len(kept)
    estimated = tuple(
        ProfiledOp(op.name, op.op, total_ns * (op.cost_share or 0.0), members=(op.name,), placed=op.unit) for op in ops
    )
    return Profile(estimated, total_ns, len(kept), is_estimate=True)
