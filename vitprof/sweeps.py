"""A sweep as values: its cells, each with the group that it is measured in.

Its own file beneath store and report, both of which hold and show cells of sweeps, and do not know how these are made.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from vitprof.records import Exporter, Metric, ModelSpec, Precision, Source


@dataclass(frozen=True)
class SweepCell:
    """One cell of a plan. `number`: its place in the plan; `group`: what it is measured together with."""

    number: int
    group: int
    spec: ModelSpec
    backend: str
    device: str
    # None: the device's.
    threads: int | None = None
    metric: Metric = Metric.LATENCY

    @property
    def ask(self) -> str:
        """What is to be measured, as JSON; equal for two cells that are the same."""
        told = {
            "spec": dataclasses.asdict(self.spec),
            **{"backend": self.backend, "device": self.device, "threads": self.threads, "metric": self.metric},
        }
        return json.dumps(told, sort_keys=True)


def cell_from_ask(number: int, group: int, ask: str) -> SweepCell:
    """The cell whose `ask` that is; `ValueError`, `KeyError` or `TypeError` for anything else."""
    told = json.loads(ask)
    spec = dict(told["spec"])
    size = spec["size"]
    spec |= {
        "source": Source(spec["source"]),
        "size": (int(size[0]), int(size[1])) if size else None,
        "precision": Precision(spec["precision"]),
        "exporter": Exporter(spec["exporter"]) if spec["exporter"] else None,
        "compute_capabilities": tuple(spec["compute_capabilities"]),
    }
    return SweepCell(
        number, group, ModelSpec(**spec), told["backend"], told["device"], told["threads"], Metric(told["metric"])
    )
