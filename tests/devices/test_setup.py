"""Which packages a device is given, and what a person is told to type; what is done there is in test_ssh."""

from __future__ import annotations

from importlib.metadata import version

from tests.devices.sshd import device
from vitprof.devices.setup import remedy, requirements_of


def test_a_processor_gets_its_runtimes_and_the_reference_s_in_the_versions_used_here() -> None:
    ort = f"onnxruntime=={version('onnxruntime')}"
    assert requirements_of(device(backends=("ort", "fake"))) == (ort,)
    assert requirements_of(device(backends=("openvino",))) == (
        ort,
        f"openvino=={version('openvino').partition('+')[0]}",
    )
    torch = requirements_of(device(backends=("torch", "compile")))
    assert torch[1].startswith("torch==") and "+" not in "".join(torch) and len(set(torch)) == 4


def test_a_gpu_gets_the_builds_for_it_and_no_reference() -> None:
    names = [one.partition("==")[0] for one in requirements_of(device(kind="gpu", backends=("ort", "trt")))]
    assert names == ["onnxruntime-gpu", "tensorrt", "cuda-python", "nvidia-ml-py"]


def test_the_profile_s_own_requirements_are_taken_as_they_are() -> None:
    own = ("onnxruntime==1.20.0", "numpy<2")
    assert requirements_of(device(requirements=own)) == own


def test_a_remedy_is_what_to_type_here_for_a_failure_there() -> None:
    missing, full = "backend 'ort' cannot be imported: No module", "no space is left on the device"
    assert remedy(device(python=None), missing) == "vitprof devices setup board"
    assert "requirements" in (remedy(device(python=None, requirements=("pip",)), missing) or "")
    assert remedy(device(python="/opt/python3"), missing) == "install it for /opt/python3 there"
    assert remedy(device(), full) == "free some there: vitprof devices clean board --all"
    assert remedy(device(), "ValueError: something else") is None
