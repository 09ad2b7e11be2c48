"""LiteRT's benchmark_model: what it is started with, and what is read out of what it prints.

`PHONE` is what the program printed on an Android phone, as its user published it; the other texts are put together
from the lines of its source and of its documentation, since no phone is at hand.
"""

from __future__ import annotations

import dataclasses

import pytest

from vitprof.devices.native import benchmark_model as tool
from vitprof.runner.wire import Plan

INTERPRETER = frozenset(
    (
        "num_runs",
        "min_secs",
        "max_secs",
        "run_delay",
        "num_threads",
        "warmup_runs",
        "warmup_min_secs",
        "verbose",
        "graph",
        "input_layer",
        "input_layer_shape",
        "input_layer_value_range",
        "input_layer_value_files",
        "allow_fp16",
        "require_full_delegation",
        "report_peak_memory_footprint",
        "output_filepath",
        "use_xnnpack",
        "use_gpu",
        "gpu_precision_loss_allowed",
        "gpu_backend",
    )
)
COMPILED = frozenset(
    (
        "num_runs",
        "min_secs",
        "max_secs",
        "num_threads",
        "warmup_runs",
        "warmup_min_secs",
        "graph",
        "signature_to_run_for",
        "use_cpu",
        "use_gpu",
        "use_npu",
        "require_full_delegation",
        "gpu_backend",
        "allow_fp16",
        "result_file_path",
        "report_peak_memory_footprint",
    )
)
PLAN = Plan("litert", artifact="/data/a.tflite", input_shape=(1, 3, 224, 224), threads=4)
ON_GPU = dataclasses.replace(PLAN, backend="litert-gpu")
PHONE = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [5]
INFO: Min warmup runs: [50]
INFO: Graph: [./models/tiny_int4.tflite]
INFO: Signature to run: []
INFO: Loaded model ./models/tiny_int4.tflite
INFO: Initialized TensorFlow Lite runtime.
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 2136 out of 2168 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 65 partitions for subgraph 0.
INFO: The input model file size (MB): 8.45746
INFO: Initialized session in 143.669ms.
INFO: Running benchmark for at least 50 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.

INFO: count=50 first=72635 curr=42240 min=42134 max=72635 avg=43536.2 std=4813 p5=42168 median=42430 p95=49447

INFO: Running benchmark for at least 5 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=24 first=42142 curr=42232 min=42142 max=42763 avg=42435.4 std=147 p5=42232 median=42405 p95=42729

INFO: Inference timings in us: Init: 143669, First inference: 72635, Warmup (avg): 43536.2, Inference (avg): 42435.4
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=23.5625 overall=27.5859
"""  # noqa: E501
COUNT = "count=24 first=42142 curr=42232 min=42142 max=42763 avg=42435.4 std=147 p5=42232 median=42405 p95=42729"
REFUSED = """\
INFO: Created TensorFlow Lite delegate for GPU.
ERROR: Following operations are not supported by GPU delegate:
RESHAPE: OP is supported, but tensor type/shape isn't compatible: Tensor dimensions must be less than 5.
45 operations will run on the GPU, and the remaining 600 operations will run on the CPU.
ERROR: Disallowed CPU fallback detected.
ERROR: Benchmarking failed.
"""


def test_what_a_phone_printed_is_read_word_for_word() -> None:
    readings = tool.readings_from_output(PHONE)
    assert readings.load_ns == pytest.approx(143.669e6)
    assert (readings.warm_up.runs, readings.warm_up.first_ns) == (50, 72_635_000)
    counted = readings.counted
    assert (counted.runs, counted.first_ns, counted.last_ns) == (24, 42_142_000, 42_232_000)
    assert counted.mean_ns == pytest.approx(42_435_400)
    assert counted.others_ns["median"] == 42_405_000 and counted.others_ns["max"] == 42_763_000
    # XNNPACK is no GPU; and it was not asked for its memory.
    assert (readings.gpu_share, readings.peak_rss_bytes, readings.ignored) == (None, None, ())


def test_a_single_run_has_its_own_time_and_large_numbers_have_exponents() -> None:
    single = PHONE.replace(COUNT, "count=1 curr=1041765")
    assert tool.readings_from_output(single).counted == tool.Statistics(
        1, 1_041_765_000, 1_041_765_000, 1_041_765_000, {}
    )
    large = tool.readings_from_output(PHONE.replace("avg=42435.4", "avg=1.04176e+06")).counted
    assert large.mean_ns == pytest.approx(1.04176e9)
    alike = tool.readings_from_output(PHONE.replace(COUNT, "count=3 curr=500(all same)")).counted
    assert (alike.runs, alike.mean_ns) == (3, 500_000)


@pytest.mark.parametrize(
    ("before", "after", "quoted"),
    [
        (COUNT, "mean 42.4 ms over 24 runs", "'INFO: mean 42.4 ms over 24 runs'"),
        (COUNT, "count=0", "'INFO: count=0'"),
        ("avg=42435.4 ", "", "no mean in 'count=24"),
        ("Initialized session in 143.669ms.", "Session ready.", "overall=27.5859"),
        ("Running benchmark for at least 5 iterations", "Running 5 times", "1 instead of 2 lines"),
    ],
)
def test_a_line_that_is_not_as_documented_is_quoted_and_nothing_is_made_up(
    before: str, after: str, quoted: str
) -> None:
    text = PHONE.replace(before, after)
    assert text != PHONE
    with pytest.raises(tool.NotUnderstood) as error:
        tool.readings_from_output(text)
    assert quoted in str(error.value)


def test_the_interpreter_s_tool_is_told_threads_runs_and_the_image() -> None:
    asked = tool.Asked(40, warm_up_s=0.5, image="/data/i:0", outputs="/data/o", with_memory=True)
    assert tool.arguments(PLAN, INTERPRETER, asked) == (
        "--graph=/data/a.tflite",
        "--num_threads=4",
        "--num_runs=40",
        "--min_secs=0",
        "--max_secs=600",
        "--warmup_runs=1",
        "--warmup_min_secs=0.5",
        "--use_gpu=false",
        "--use_xnnpack=true",
        "--input_layer=image",
        "--input_layer_shape=1,3,224,224",
        # A colon stands between name and file: one of the file's own is doubled.
        "--input_layer_value_files=image:/data/i::0",
        "--output_filepath=/data/o",
        "--report_peak_memory_footprint=true",
    )


def test_a_gpu_runs_alone_and_in_the_precision_asked_for() -> None:
    asked = tool.Asked(1)
    of_interpreter = tool.arguments(ON_GPU, INTERPRETER, asked)
    assert {"--use_gpu=true", "--require_full_delegation=true", "--gpu_precision_loss_allowed=false"} <= set(
        of_interpreter
    )
    assert not any(word.startswith(("--allow_fp16", "--use_cpu", "--use_xnnpack")) for word in of_interpreter)
    compiled = tool.arguments(dataclasses.replace(ON_GPU, options={"gpu_backend": "webgpu"}), COMPILED, asked)
    assert {"--use_cpu=false", "--use_gpu=true", "--allow_fp16=false", "--gpu_backend=webgpu"} <= set(compiled)
    rounded = tool.arguments(dataclasses.replace(ON_GPU, precision="fp16"), COMPILED, asked)
    assert "--allow_fp16=true" in rounded


def test_only_flags_that_it_knows_are_passed_because_it_would_ignore_others() -> None:
    for plan in (PLAN, ON_GPU):
        for flags in (INTERPRETER, COMPILED):
            words = tool.arguments(plan, flags, tool.Asked(1, image="/data/i", outputs="/data/o", with_memory=True))
            assert {word[2:].partition("=")[0] for word in words} <= flags
    ignored = tool.readings_from_output("WARN: Unconsumed cmdline flags: --use_gpu=true --x=1\n" + PHONE).ignored
    assert ignored == ("--use_gpu=true", "--x=1")


def test_one_that_cannot_do_what_is_asked_is_refused_before_it_measures_something_else() -> None:
    assert tool.refusal(PLAN, INTERPRETER) is None and tool.refusal(ON_GPU, COMPILED) is None
    lacking = tool.refusal(
        ON_GPU, INTERPRETER - {"require_full_delegation", "gpu_precision_loss_allowed", "allow_fp16"}
    )
    assert lacking and "require_full_delegation, gpu_precision_loss_allowed" in lacking.error
    assert "LiteRT's documentation" in lacking.remedy
    old = tool.refusal(PLAN, INTERPRETER - {"min_secs"})
    assert old and "min_secs" in old.error
    for plan in (Plan("ort"), dataclasses.replace(PLAN, region="e2e"), dataclasses.replace(PLAN, profile_path="/p")):
        assert tool.refusal(plan, INTERPRETER) is not None


def test_flags_are_read_out_of_the_usage_text() -> None:
    text = "usage: ./benchmark_model <flags>\nFlags:\n\t--num_runs=50     \tint32\toptional\truns, see --min_secs\n"
    assert tool.flags_from_help(text + "\t--graph=\tstring\toptional\tgraph file name\n") == {"num_runs", "graph"}
    assert tool.takes_images(INTERPRETER) and tool.tells_outputs(INTERPRETER)
    assert not tool.takes_images(COMPILED) and not tool.tells_outputs(COMPILED)


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.", 1.0),
        ("45 operations will run on the GPU, and the remaining 600 operations will run on the CPU.", 45 / 645),
        ("First 0 operations will run on the GPU, and the remaining 81 on the CPU.", 0.0),
        ("Replacing 90 out of 100 node(s) with delegate (LITERT_CL) node, yielding 2 partitions", 0.9),
        ("Replacing 90 out of 100 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 partitions", None),
        ("Though GPU delegate is explicitly applied", None),
    ],
)
def test_the_gpu_s_share_is_what_the_delegate_says_of_it(line: str, share: float | None) -> None:
    assert tool.gpu_share(f"INFO: {line}\n") == share


def test_memory_is_read_where_it_was_asked_for() -> None:
    text = PHONE + "INFO: Overall peak memory footprint (MB) via periodic monitoring: 26.5\n"
    assert tool.readings_from_output(text).peak_rss_bytes == round(26.5 * 1024**2)


@pytest.mark.parametrize(
    ("text", "status", "stage", "error", "remedy"),
    [
        (REFUSED, 1, "load", "refuses 1 x RESHAPE", "--backend litert"),
        (
            "ERROR: Failed to load model /data/a.tflite\nERROR: Benchmarking failed.\n",
            1,
            "load",
            "Failed to load",
            "--debug",
        ),
        (PHONE.partition("INFO: Running")[0], 137, "run", "killed", "smaller model"),
        ("sh: ./benchmark_model: not executable: 64-bit ELF file\n", 126, "load", "does not run there", "processor"),
        ("ERROR: GPU acceleration is unsupported on this platform.\n", 1, "load", "unsupported", "--backend litert"),
        ("", 139, "load", "not a word (status 139)", "--debug"),
    ],
)
def test_a_run_that_fails_is_told_by_its_own_words(text: str, status: int, stage: str, error: str, remedy: str) -> None:
    failure = tool.failure_from_output(text, status)
    assert failure.stage == stage and error in failure.error and remedy in failure.remedy
