"""Does the runner time what the runtime costs? Against a bare loop over an IO-bound session, written here.

    python -m tests.benchmarks.truth [ROUNDS]

Blocks of the two alternate, in shuffled order, over five pairs of fresh processes (two processes of one program
differ by a per cent or so). The median of the ratios has to lie within 1.00 ± 0.02.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys

import numpy as np

from tests.benchmarks.artifacts import prepared
from vitprof.devices.transports.local import LocalTransport
from vitprof.places import places
from vitprof.records import Artifact
from vitprof.runner.wire import Block, BlockRequest, Plan

_MODELS = ("mobilenetv3_small_100", "vit_tiny_patch16_224")
_PAIRS = 5
_BLOCK_S = 0.05
_BARE = """
import sys, time, numpy, onnxruntime
path, inputs, block_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
image = numpy.fromfile(inputs, "float32", 3 * 224 * 224).reshape(1, 3, 224, 224)
binding = session.io_binding()
binding.bind_ortvalue_input("image", onnxruntime.OrtValue.ortvalue_from_numpy(image))
for output in session.get_outputs():
    binding.bind_output(output.name)
for _ in range(10):
    session.run_with_iobinding(binding)
for line in sys.stdin:
    session.run_with_iobinding(binding)
    calls, begin = 0, time.perf_counter()
    while calls < 3 or time.perf_counter() - begin < block_s:
        session.run_with_iobinding(binding)
        calls += 1
    print((time.perf_counter() - begin) / calls, flush=True)
"""


def ratios(artifact: Artifact, rounds: int) -> list[float]:
    """vitprof's block mean ÷ the bare loop's, round by round, over `_PAIRS` pairs of processes."""
    found: list[float] = []
    for number in range(_PAIRS):
        files = (str(artifact.path), str(artifact.folder / artifact.inputs))
        command = [sys.executable, "-c", _BARE, *files, str(_BLOCK_S)]
        bare = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        plan = Plan(
            "ort",
            artifact=files[0],
            inputs=files[1],
            input_name=artifact.input_name,
            input_shape=artifact.input_shape,
            input_count=artifact.input_count,
        )
        link = LocalTransport(places().cache_root).start(plan)
        repeats = link.receive(60).calls_per_sample  # type: ignore[union-attr]

        def ours(index: int) -> float:
            link.send(BlockRequest(index))  # noqa: B023 - called in this turn of the loop only
            block = link.receive(60)  # noqa: B023
            assert isinstance(block, Block)
            return statistics.fmean(block.samples_ns) / repeats / 1e9  # noqa: B023

        def theirs(_: int) -> float:
            assert bare.stdin and bare.stdout  # noqa: B023
            bare.stdin.write("go\n")  # noqa: B023
            bare.stdin.flush()  # noqa: B023
            return float(bare.stdout.readline())  # noqa: B023

        shuffled = random.Random(number)
        for index in range(-3, rounds // _PAIRS):
            first, second = shuffled.sample([ours, theirs], 2)
            times = {first: first(index), second: second(index)}
            if index >= 0:
                found.append(times[ours] / times[theirs])
        link.close()
        bare.kill()
        bare.wait()
    return found


def main(rounds: int) -> None:
    for name in _MODELS:
        found = np.array(ratios(prepared(name), rounds))
        drawn = np.random.default_rng(0).choice(found, (2000, found.size))
        low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
        print(f"{name}: {found.size} rounds, vitprof ÷ bare loop {np.median(found):.4f} [{low:.4f}, {high:.4f}]")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
