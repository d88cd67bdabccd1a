import re

import pytest
import torch

from model import Recognizer
from model.device import choose_device, has_bfloat16


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("toaster", "device 'toaster' is none of auto, cpu"),
        ("", "device '' is none of auto, cpu"),
        ("cuda:99", "device cuda:99: torch sees [0-9]+ CUDA"),
        ("meta", "device meta: its tensors have shapes but no values"),
        ("vulkan", "device vulkan: torch .* was built without it"),
        ("hpu", "device hpu: torch .* was built without it"),
        ("opengl", "device opengl: torch cannot compute on it here: "),
    ],
)
def test_an_unknown_device_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_device(name)


@pytest.mark.parametrize("name", ["mps", "xpu", "mtia", "xla", "ipu", "mkldnn", "privateuseone"])
def test_a_device_works_or_is_refused(name: str) -> None:
    """What torch raises for a device that it was not built for were nearly as many classes."""
    try:
        answer = str(choose_device(name))
    except ValueError as error:
        answer = str(error)
    assert re.fullmatch(rf"{name}|device {name}: torch (cannot compute on it here: )?.+", answer)


def test_a_recognizer_refuses_devices_alike(recognizer: Recognizer) -> None:
    with pytest.raises(ValueError, match="device meta: its tensors have shapes"):
        Recognizer(recognizer.model, recognizer.processor, device="meta")


def test_the_cpu_is_chosen() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")


def test_other_devices_have_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the CPU can do says nothing of them."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert has_bfloat16(torch.device("cpu"))
    assert not has_bfloat16(torch.device("mps"))


def test_bfloat16_is_refused_where_it_is_emulated(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    with pytest.raises(ValueError, match="device cpu has no bfloat16"):
        Recognizer(recognizer.model, recognizer.processor, device="cpu", precision="bfloat16")
