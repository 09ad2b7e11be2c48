"""One small model of every timm architecture family: the names that the family survey is made of.

    vitprof export --survey $(python -m tests.benchmarks.families) --to onnx --md reports/families.md

A family is a module of timm.models; of its models the one with the fewest parameters, counted on the meta device.
"""

from __future__ import annotations

import torch

from vitprof.runner.torchvision_compat import import_timm


def main() -> None:
    timm = import_timm()
    for family in timm.list_modules():
        sizes = {
            name: parameters for name in timm.list_models(module=family) if (parameters := _parameters(timm, name))
        }
        if sizes:
            print(min(sizes, key=lambda name: sizes[name]))


def _parameters(timm: object, name: str) -> int | None:
    try:
        with torch.device("meta"):
            module = timm.create_model(name)  # type: ignore[attr-defined]
    except Exception:  # Some builders read values of tensors: such a model is passed over, not its family.
        return None
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    main()
