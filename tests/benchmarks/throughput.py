"""Throughput curves of some models as a report with pictures, and how well a curve of known shape is measured.

    python -m tests.benchmarks.throughput FOLDER [MODEL…]

Writes FOLDER/throughput.md, throughput.svg and throughput_sizes.svg. The known curve is that of the fake backend, whose
call takes 4 ms and 0.5 ms an image: 1,000 ÷ (4 ÷ batch + 0.5) images a second. That call waits by the clock, whatever
the machine does meanwhile, so its ratios mean something on a quiet machine only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.curves import MS, write_device, write_model

MODELS = ("lowformer_b1", "mobilenetv3_small_100", "vit_tiny_patch16_224")
_CALL_MS, _IMAGE_MS = 4.0, 0.5
_SIZES = "192,224,288"


def main(folder: Path, models: tuple[str, ...]) -> None:
    parts = ["# Throughput\n", _known_curve()]
    parts += [_shown(folder, "throughput.svg", *models), _shown(folder, "throughput_sizes.svg", *models, *_sizes())]
    (folder / "throughput.md").write_text("\n".join(parts), encoding="utf-8")


def _sizes() -> tuple[str, ...]:
    return ("--size", _SIZES, "--batch", "1,8")


def _known_curve() -> str:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        options = {"call_ns": round(_CALL_MS * MS), "image_ns": round(_IMAGE_MS * MS)}
        device = write_device(scratch / "known.toml", **options)
        words = (write_model(scratch / "net.onnx"), "--size", "32", "--device-file", device, "--threads", "1")
        curve = json.loads(_output(*words, "--json", "-"))["curves"][0]
    lines = ["## A curve of known shape\n", "| batch | images/s | known | off by |", "| --: | --: | --: | --: |"]
    for point in curve["points"]:
        known = 1000 / (_CALL_MS / point["batch"] + _IMAGE_MS)
        found = point["images_per_s"]
        lines.append(f"| {point['batch']} | {found:,.1f} | {known:,.1f} | {100 * (found / known - 1):+.1f}% |")
    ends = f"Best batch {curve['best_batch']}, knee {curve['knee_batch']}, stopped by {curve['stopped_by']}."
    return "\n".join([*lines, "", ends, ""])


def _shown(folder: Path, picture: str, *words: str) -> str:
    """The markdown of one command with its picture."""
    text = _output(*words, "--plot", folder / picture, "--md", "-")
    return f"`vitprof throughput {' '.join(words)}`\n\n{text}\n![{picture}]({picture})\n"


def _output(*words: str | Path) -> str:
    command = [sys.executable, "-m", "vitprof", "throughput", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(f"{__doc__}")
    main(Path(sys.argv[1]), tuple(sys.argv[2:]) or MODELS)
