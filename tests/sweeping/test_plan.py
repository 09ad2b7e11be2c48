"""PLAN.toml: what it may say, and every fault with its line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from vitprof.devices.profiles import reference_model
from vitprof.errors import UsageError
from vitprof.models.catalogue import Catalogue
from vitprof.protocols import Effort, protocol
from vitprof.records import Metric, ModelSpec, Precision, Source
from vitprof.sweeping.cells import Planned, groups_in, planned_cells
from vitprof.sweeping.plan import Plan, read_plan

_SIZE = (3, 224, 224)
_KNOWN = Catalogue(
    timm=dict.fromkeys(("vit_tiny_patch16_224", "lowformer_b0", "lowformer_b1", "lowformer_b15", "resnet50"), _SIZE),
    torchvision={"resnet50": (3, 176, 176)},
)
_LIKE = ModelSpec("", Source.TIMM)
_ONE = 'models = ["lowformer_b1"]\n'
_WHOLE = """models = ["lowformer_*", "vit_tiny_patch16_224"]   # names and globs
backends = ["ort", "openvino"]
devices = ["local"]            # default
batches = [1, 8]               # default [1]
sizes = [224, "256x192"]       # default: each model's own
precisions = ["fp32", "fp16"]
threads = [1]                  # default: the device's
effort = "quick"
metrics = ["latency"]
[[exclude]]                    # cells that match all given keys are left out
backends = ["openvino"]
precisions = ["fp16"]
"""


def _plan(text: str, tmp_path: Path) -> Plan:
    (tmp_path / "plan.toml").write_text(text)
    return read_plan(tmp_path / "plan.toml", lambda: _KNOWN)


def _planned(text: str, tmp_path: Path, like: ModelSpec = _LIKE) -> Planned:
    plan = _plan(text, tmp_path)
    return planned_cells(plan, like, protocol(plan.effort))


def _fault(text: str, tmp_path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        _planned(text, tmp_path)
    assert caught.value.remedy
    return caught.value.message.removeprefix(f"{tmp_path / 'plan.toml'}").lstrip(", ")


def test_a_plan_means_its_product_without_what_is_excluded(tmp_path: Path) -> None:
    planned = _planned(_WHOLE, tmp_path)
    # 4 models x 2 backends x 2 batches x 2 sizes x 2 precisions, without openvino in fp16.
    assert len(planned.cells) == 4 * 2 * 2 * 2 * 2 - 4 * 2 * 2
    assert [cell.number for cell in planned.cells] == list(range(48))
    assert len({cell.ask for cell in planned.cells}) == 48
    excluded = [cell for cell in planned.cells if cell.backend == "openvino" and cell.spec.precision is Precision.FP16]
    assert not excluded and not planned.warnings
    assert {cell.spec.size for cell in planned.cells} == {(224, 224), (256, 192)}
    assert planned.protocol == protocol(Effort.QUICK)


def test_the_plan_of_the_page_can_be_measured(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "interface.md").read_text()
    [text] = re.findall(r"## PLAN.toml\n```toml\n(.*?)```", page, re.DOTALL)
    assert [cell.ask for cell in _planned(text, tmp_path).cells] == [
        cell.ask for cell in _planned(_WHOLE, tmp_path).cells
    ]


def test_what_a_plan_does_not_say_has_its_default(tmp_path: Path) -> None:
    [cell] = _planned('models = ["torchvision:resnet50"]', tmp_path).cells
    assert (cell.backend, cell.device, cell.threads, cell.metric) == ("ort", "local", None, Metric.LATENCY)
    assert (cell.spec.batch, cell.spec.size, cell.spec.precision) == (1, (176, 176), Precision.FP32)
    assert _plan('models = ["torchvision:resnet50"]', tmp_path).effort is Effort.STANDARD


def test_a_mark_of_an_editor_at_the_beginning_is_no_fault(tmp_path: Path) -> None:
    assert len(_planned("\ufeff" + _ONE, tmp_path).cells) == 1


def test_two_globs_that_name_one_model_measure_it_once(tmp_path: Path) -> None:
    planned = _planned('models = ["lowformer_b1*", "lowformer_b*"]', tmp_path)
    assert [cell.spec.name for cell in planned.cells] == ["lowformer_b1", "lowformer_b15", "lowformer_b0"]


def test_a_file_is_looked_for_beside_the_plan_and_keeps_its_name(tmp_path: Path) -> None:
    shutil.copy(reference_model("cpu-ref-1"), tmp_path / "tiny.onnx")
    [cell] = _planned('models = ["tiny.onnx"]', tmp_path).cells
    assert cell.spec.name == "tiny.onnx" and cell.spec.path == str(tmp_path / "tiny.onnx") and cell.spec.size is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'models = ["vit_tiny_patch16_224",\n "lowfromer_b1"]',
            "line 2: key 'models': there is no model 'lowfromer_b1'",
        ),
        ('models = ["nope_*"]', "line 1: key 'models': no model matches 'nope_*'"),
        ('models = ["x.onnx"]', "there is no such file"),
        (
            'models = "lowformer_b1"',
            "line 1: key 'models' must be a list, not 'lowformer_b1': models = ['lowformer_b1']",
        ),
        ("models = []", "line 1: key 'models' is an empty list"),
        ("models = [7]", "line 1: key 'models': 7 is no name"),
        ("batches = [1]", "line 1: key 'models' is missing"),
        (
            _ONE + 'backends = ["ort", "opnvino"]',
            "line 2: key 'backends': unknown backend 'opnvino'; did you mean 'openvino'?",
        ),
        (_ONE + 'backends = ["ort", "ort"]', "line 2: key 'backends': 'ort' stands there twice"),
        (_ONE + '\ndevices = ["a1000"]', "line 3: key 'devices': unknown device 'a1000'; known: a100"),
        (_ONE + "batches = [1, 0]", "line 2: key 'batches': 0 is no whole number of 1 or more"),
        (_ONE + "batches = [1, 3000000000]", "line 2: key 'batches': 3000000000 is above 2147483647"),
        (_ONE + "sizes = [224,\n3000000000]", "line 3: key 'sizes': 3000000000 is no input size"),
        (_ONE + "batches = [true]", "line 2: key 'batches': true is no whole number"),
        (_ONE + 'threads = ["1"]', "line 2: key 'threads': '1' is no whole number"),
        (_ONE + 'sizes = [\n224,\n"224x224"]', "line 4: key 'sizes': '224x224' stands there twice"),
        (_ONE + 'sizes = ["0x3"]', "line 2: key 'sizes': '0x3' is no input size; allowed: 224, or"),
        (_ONE + 'precisions = ["fp64"]', "did you mean 'fp16'? allowed: fp32, fp16, bf16, int8"),
        (_ONE + 'metrics = ["speed"]', "unknown metric 'speed'; allowed: latency, throughput, memory"),
        (_ONE + 'effort = ["quick"]', "line 2: key 'effort': unknown effort ['quick']; did you mean 'quick'? allowed"),
        (_ONE + "\nplan.batches = [1]", "line 3: unknown key 'plan'"),
        (_ONE + "batch = [1]", "line 2: unknown key 'batch'; did you mean 'batches'? allowed: models"),
        (_ONE + '[[exclude]]\nmodel = ["x"]', "line 3: unknown key 'model'; did you mean 'models'?"),
        (_ONE + "\n[[excludes]]\nbatches = [1]", "line 3: unknown key 'excludes'; did you mean 'exclude'?"),
        (_ONE + "\n[[exclude]]", "line 3: [[exclude]] without a key would leave out everything"),
        (_ONE + '[exclude]\nmodels = ["x"]', "line 2: key 'exclude' must be tables"),
        (_ONE + "[[exclude]]\nbatches = [0]", "line 3: key 'batches': 0 is no"),
        (_ONE + 'metrics = ["instructions"]', "line 2: key 'metrics': nothing counts the instructions of local"),
        # A home that nobody has, and no word of instructions where no device is left to count them on.
        ('models = ["~nobody-of-that-name/x.onnx"]', "~nobody-of-that-name/x.onnx: there is no such home"),
        (_ONE + 'devices = []\nmetrics = ["instructions"]', "line 2: key 'devices' is an empty list"),
        # What Python refuses to read, or reads and refuses to print.
        (
            _ONE + f"batches = [1,\n{'1' * 5000}]",
            "line 3: a number of 5000 characters; the largest that may be meant is",
        ),
        *(
            (_ONE + f"# '\n{key}0x{'f' * 5000}{end}", "line 3: a number of 5002 characters")
            for key, end in (("batches = [", "]"), ("sizes = [", "]"), ("effort = ", ""), ("models2 = [{a = ", "}]"))
        ),
        (_ONE + f'devices = ["{"a" * 5000}"]', "line 2: key 'devices': unknown device 'aaa"),
        (_ONE + f"batches = {'[' * 5000}{']' * 5000}", "is not TOML: maximum recursion depth exceeded"),
    ],
)
def test_a_fault_is_told_with_its_line_and_what_is_allowed(text: str, told: str, tmp_path: Path) -> None:
    assert told in _fault(text, tmp_path)


def test_all_faults_are_told_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    told = _fault('models = ["nope"]\nbatches = [0]\nfoo = 1\nsizes = []', tmp_path).splitlines()
    assert told[0] == "has 4 faults:"
    assert [line.split(":")[0].strip() for line in told[1:]] == ["line 1", "line 2", "line 3", "line 4"]


def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    assert "at line 2" in _fault('models = ["a"]\nbatches = [1', tmp_path) or "end of document" in _fault(
        "a = [", tmp_path
    )


def test_a_plan_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_plan(tmp_path / "none.toml", lambda: _KNOWN)


def test_a_backend_that_a_device_has_not_must_be_excluded_there(tmp_path: Path) -> None:
    text = 'models = ["lowformer_b1"]\nbackends = [\n"ort", "trt"]\ndevices = ["local", "a100"]\n'
    told = _fault(text, tmp_path)
    assert "line 3: key 'backends': device 'local' has no 'trt' here; it has ort, torch" in told
    assert '[[exclude]] with devices = ["local"] and backends = ["trt"]' in told
    planned = _planned(text + '[[exclude]]\ndevices = ["local"]\nbackends = ["trt"]', tmp_path)
    assert [(cell.backend, cell.device) for cell in planned.cells] == [
        ("ort", "local"),
        ("ort", "a100"),
        ("trt", "a100"),
    ]


def test_an_exclusion_takes_cells_that_match_all_of_its_keys(tmp_path: Path) -> None:
    text = (
        'models = ["lowformer_*"]\nbatches = [1, 8]\n[[exclude]]\nmodels = ["*_b1*"]\nbatches = [8]\n'
        "[[exclude]]\nbatches = [16]\n"
    )
    planned = _planned(text, tmp_path)
    left = [(cell.spec.name, cell.spec.batch) for cell in planned.cells]
    assert left == [("lowformer_b0", 1), ("lowformer_b0", 8), ("lowformer_b1", 1), ("lowformer_b15", 1)]
    [warning] = planned.warnings
    assert "line 6: this [[exclude]] matches no cell" in warning


@pytest.mark.parametrize(
    ("glob", "left"),
    [
        ("timm:resnet50", ["torchvision:resnet50", "net[1].onnx"]),
        ("torchvision:*", ["resnet50", "net[1].onnx"]),
        ("timm:*", ["torchvision:resnet50", "net[1].onnx"]),
        ("resnet*", ["net[1].onnx"]),
        ("net[1].onnx", ["resnet50", "torchvision:resnet50"]),
    ],
)
def test_an_exclusion_of_one_source_leaves_the_other(glob: str, left: list[str], tmp_path: Path) -> None:
    shutil.copy(reference_model("cpu-ref-1"), tmp_path / "net[1].onnx")
    text = f'models = ["resnet50", "torchvision:resnet50", "net[1].onnx"]\n[[exclude]]\nmodels = ["{glob}"]'
    assert [cell.spec.typed_name for cell in _planned(text, tmp_path).cells] == left


def test_a_plan_that_excludes_everything_is_refused(tmp_path: Path) -> None:
    assert "every cell is excluded" in _fault('models = ["lowformer_b1"]\n[[exclude]]\nbatches = [1]', tmp_path)


def test_instructions_are_counted_on_emulated_devices_beside_the_times_of_all(tmp_path: Path) -> None:
    text = 'models = ["lowformer_b1"]\ndevices = ["local", "emulated-a72"]\nmetrics = ["latency", "instructions"]\n'
    told = [(cell.device, cell.metric.value) for cell in _planned(text, tmp_path).cells]
    assert told == [("local", "latency"), ("emulated-a72", "latency"), ("emulated-a72", "instructions")]
    assert "line 4: key 'threads': 2 with metric 'instructions'" in _fault(text + "threads = [2]", tmp_path)


def test_groups_have_up_to_eight_cells_of_one_device_in_an_order_of_the_seed(tmp_path: Path) -> None:
    text = 'models = ["lowformer_*"]\nbackends = ["ort", "torch"]\nbatches = [1, 2, 4]\ndevices = ["local", "a100"]\n'
    planned = _planned(text, tmp_path)
    groups = groups_in(planned.cells)
    # 18 cells of each device: 6, 6 and 6 rather than 8, 8 and 2.
    assert [len(cells) for cells in groups.values()] == [6] * 6
    assert all(len({cell.device for cell in cells}) == 1 for cells in groups.values())
    assert sorted(cell.number for cells in groups.values() for cell in cells) == list(range(36))
    again, other = _planned(text, tmp_path), _planned(text, tmp_path, ModelSpec("", Source.TIMM, seed=1))
    assert again.cells == planned.cells
    assert [cell.group for cell in other.cells] != [cell.group for cell in planned.cells]
    # No factor goes with the order: no group has one backend or one batch only.
    assert all(len({cell.backend for cell in cells}) == 2 for cells in groups.values())
    assert all(len({cell.spec.batch for cell in cells}) > 1 for cells in groups.values())


def test_the_hash_is_of_what_a_plan_means_and_not_of_its_text(tmp_path: Path) -> None:
    plain = 'models = ["lowformer_b0", "lowformer_b1"]\nbatches = [1, 2]\n'
    hashes = [
        _planned(text, tmp_path).plan_hash
        for text in (
            plain,
            '# other words\nbatches = [2, 1]\nmodels = ["lowformer_b1", "lowformer_b0"]\nmetrics = ["memory"]',
            'models = ["lowformer_*"]\nbatches = [1, 2]\n[[exclude]]\nmodels = ["*15"]',
            plain + "threads = [1]",
            plain + 'effort = "quick"',
            plain.replace("2]", "4]"),
        )
    ]
    assert hashes[0] == hashes[1] == hashes[2]
    assert len(set(hashes)) == 4


def test_what_is_measured_here_is_another_plan_on_another_processor(tmp_path: Path) -> None:
    for device, hashes in (("local", 2), ("a100", 1)):
        plan = _plan(_ONE + f'devices = ["{device}"]\n', tmp_path)
        rules = protocol(plan.effort)
        assert len({planned_cells(plan, _LIKE, rules, one).plan_hash for one in (None, "another")}) == hashes


def test_a_file_that_changes_makes_another_plan(tmp_path: Path) -> None:
    shutil.copy(reference_model("cpu-ref-1"), tmp_path / "tiny.onnx")
    before = _planned('models = ["tiny.onnx"]', tmp_path).plan_hash
    assert _planned('models = ["tiny.onnx"]', tmp_path).plan_hash == before
    with (tmp_path / "tiny.onnx").open("ab") as file:
        file.write(b"\0")
    assert _planned('models = ["tiny.onnx"]', tmp_path).plan_hash != before


def test_weights_beside_a_file_are_of_its_plan_and_none_that_lack_are_told_in_its_rows(tmp_path: Path) -> None:
    model = onnx.load(reference_model("cpu-ref-1"))
    convert_model_to_external_data(model, location="weights.bin", size_threshold=1024)
    onnx.save(model, str(tmp_path / "tiny.onnx"))
    before = _planned('models = ["tiny.onnx"]', tmp_path).plan_hash
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert _planned('models = ["tiny.onnx"]', tmp_path).plan_hash != before
    (tmp_path / "weights.bin").unlink()
    assert len(_planned('models = ["tiny.onnx"]', tmp_path).cells) == 1
