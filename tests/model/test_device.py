import pytest
import torch

from model import Recognizer
from model.device import choose_device


@pytest.mark.parametrize(
    ("name", "message"),
    [("toaster", "device 'toaster' is none of auto, cpu"), ("cuda:99", "device cuda:99: torch sees [0-9]+ CUDA")],
)
def test_an_unknown_device_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_device(name)


def test_bfloat16_is_refused_where_it_is_emulated(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    with pytest.raises(ValueError, match="device cpu has no bfloat16"):
        Recognizer(recognizer.model, recognizer.processor, device="cpu", precision="bfloat16")
