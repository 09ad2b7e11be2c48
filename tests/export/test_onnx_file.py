from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from vitprof.errors import ExitCode, UsageError, VitprofError  # noqa: E402
from vitprof.export.onnx_file import external_files, read_onnx  # noqa: E402


def conv_model(dims: list[Any], dtype: int = TensorProto.FLOAT, more_inputs: tuple[str, ...] = ()) -> Any:
    """A 1x1 convolution from 3 to 4 channels with its weight listed among the inputs, as old exporters do."""
    values = np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1).astype(helper.tensor_dtype_to_np_dtype(dtype))
    weight = numpy_helper.from_array(values, "weight")
    inputs = [helper.make_tensor_value_info(name, dtype, dims) for name in ("pixels", *more_inputs)]
    inputs.append(helper.make_tensor_value_info("weight", dtype, [4, 3, 1, 1]))
    output = helper.make_tensor_value_info("out", dtype, None)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["pixels", "weight"], ["out"])], "g", inputs, [output], initializer=[weight]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="test")


def saved(tmp_path: Path, model: Any) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_static_file_says_everything_of_itself(tmp_path: Path) -> None:
    facts = read_onnx(saved(tmp_path, conv_model([2, 3, 32, 24])), batch=2, size=None)
    assert (facts.input_name, facts.input_shape, facts.input_dtype) == ("pixels", (2, 3, 32, 24), "float32")
    assert (facts.opset, facts.producer) == (17, "test")


def test_free_dimensions_are_filled_from_what_is_asked(tmp_path: Path) -> None:
    path = saved(tmp_path, conv_model(["n", 3, "h", "w"]))
    assert read_onnx(path, batch=5, size=(64, 48)).input_shape == (5, 3, 64, 48)


def test_a_free_size_that_nobody_gave_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_onnx(saved(tmp_path, conv_model(["n", 3, "h", "w"])), batch=1, size=None)
    assert caught.value.remedy == "--size 224"


def test_a_batch_that_contradicts_the_file_names_both(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batches of 2, not of 8") as caught:
        read_onnx(saved(tmp_path, conv_model([2, 3, 32, 32])), batch=8, size=None)
    assert caught.value.remedy == "--batch 2"


def test_a_size_that_contradicts_the_file_names_both(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the size 32x24, not 64x64") as caught:
        read_onnx(saved(tmp_path, conv_model([1, 3, 32, 24])), batch=1, size=(64, 64))
    assert caught.value.remedy == "--size 32x24"


def test_half_precision_files_are_taken_as_they_are(tmp_path: Path) -> None:
    facts = read_onnx(saved(tmp_path, conv_model([1, 3, 8, 8], TensorProto.FLOAT16)), batch=1, size=None)
    assert facts.input_dtype == "float16"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (conv_model([1, 3, 8, 8], more_inputs=("mask",)), r"2 inputs \(pixels, mask\)"),
        (conv_model([1, 3, 8]), "takes 3 dimensions at its input 'pixels'"),
        (conv_model([1, 3, 8, 8], TensorProto.DOUBLE), "takes DOUBLE values"),
    ],
)
def test_a_file_that_takes_no_single_image_says_what_it_takes(tmp_path: Path, model: Any, said: str) -> None:
    with pytest.raises(VitprofError, match=said) as caught:
        read_onnx(saved(tmp_path, model), batch=1, size=None)
    assert "(N, C, H, W)" in caught.value.remedy


@pytest.mark.parametrize("keep", [0, 1, 20, 0.5, -1])
def test_a_cut_off_file_is_refused_wherever_it_is_cut(tmp_path: Path, keep: float) -> None:
    path = saved(tmp_path, conv_model([1, 3, 8, 8]))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if keep == 0.5 else int(keep)])
    with pytest.raises(VitprofError) as caught:
        read_onnx(path, batch=1, size=None)
    assert str(path) in caught.value.message
    assert (caught.value.stage, caught.value.exit_code) == ("model", ExitCode.FAILED)


def test_text_is_no_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(VitprofError, match="cannot be read"):
        read_onnx(path, batch=1, size=None)


def with_external(tmp_path: Path, location: str) -> Path:
    model = conv_model([1, 3, 8, 8])
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(bytes(48))
    (tmp_path / "outside.bin").write_bytes(bytes(48))
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    return saved(folder, model)


def test_a_file_with_its_weights_inside_has_no_external_files(tmp_path: Path) -> None:
    assert external_files(saved(tmp_path, conv_model([1, 3, 8, 8]))) == ()


def test_weights_in_a_file_beside_it_are_found(tmp_path: Path) -> None:
    path = with_external(tmp_path, "weights.bin")
    assert external_files(path) == ("weights.bin",)
    assert read_onnx(path, batch=1, size=None).input_shape == (1, 3, 8, 8)


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/passwd", "link.bin", "sub/../../outside.bin"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(VitprofError, match="outside its own folder") as caught:
        external_files(with_external(tmp_path, location))
    assert location in caught.value.message
    assert "beside it" in caught.value.remedy


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(VitprofError, match=r"'absent\.bin', which is not there"):
        external_files(with_external(tmp_path, "absent.bin"))
