import re
import warnings

import pytest
import torch

from model import Recognizer
from model.device import Arithmetic, Precision, allow_tf32, choose_arithmetic, choose_device, has_bfloat16


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


TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040)."


def raise_(error: Exception) -> None:
    raise error


@pytest.fixture
def gpu_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver shows a GPU to whoever asks it, as NVML does."""
    monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: True)
    monkeypatch.setattr(torch.cuda, "_cached_device_count", None)
    monkeypatch.setattr(torch.cuda, "_device_count_nvml", lambda: 1)


@pytest.mark.usefixtures("gpu_seen")
def test_driver_too_old_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch sees the GPU, and the first call of CUDA fails."""
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: raise_(RuntimeError(f"{TOO_OLD}\nPlease update it.")))
    with pytest.raises(ValueError, match="device cuda: torch cannot compute on it here: The NVIDIA driver") as refused:
        choose_device("cuda")
    assert str(refused.value).endswith("(found version 12040).")


@pytest.mark.usefixtures("gpu_seen")
def test_auto_warns_of_a_useless_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> int:
        warnings.warn(f"CUDA initialization: {TOO_OLD}", stacklevel=1)
        return 0

    monkeypatch.setattr(torch._C, "_cuda_getDeviceCount", count, raising=False)
    with pytest.warns(
        UserWarning, match="cannot use the GPU, so the model runs on the CPU: CUDA init.* too old"
    ) as said:
        assert choose_device("auto") == torch.device("cpu")
    assert len(said) == 1


def test_missing_gpu_names_driver_and_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is in a container that was started without the NVIDIA Container Toolkit."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(
        ValueError, match="torch sees 0 CUDA devices; it needs NVIDIA's driver and, in a container, the"
    ):
        choose_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ValueError, match="torch sees 0 CUDA devices; this torch was built without CUDA"):
        choose_device("cuda")


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


CPU, CUDA = torch.device("cpu"), torch.device("cuda")
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize(
    ("precision", "on_cuda", "on_cpu"),
    [
        ("auto", Arithmetic(tf32=True), Arithmetic(images=BF16)),
        ("float32", Arithmetic(), Arithmetic()),
        ("tf32", Arithmetic(tf32=True), None),
        ("bfloat16", Arithmetic(BF16, BF16, tf32=True), Arithmetic(BF16, BF16)),
        ("float16", Arithmetic(F16, F16, tf32=True), None),
    ],
)
def test_a_precision_means_what_it_says(
    precision: Precision, on_cuda: Arithmetic, on_cpu: Arithmetic | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.device.has_bfloat16", lambda _: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert choose_arithmetic(precision, CUDA) == on_cuda
    if on_cpu is None:
        with pytest.raises(ValueError, match=f"device cpu has no {precision}; it has float32, bfloat16"):
            choose_arithmetic(precision, CPU)
    else:
        assert choose_arithmetic(precision, CPU) == on_cpu


def test_old_devices_compute_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.device.has_bfloat16", lambda _: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert choose_arithmetic("auto", CUDA) == choose_arithmetic("auto", CPU) == Arithmetic()
    assert choose_arithmetic("float16", CUDA) == Arithmetic(F16, F16)


def test_float32_on_cuda_is_not_rounded() -> None:
    """PyTorch's default rounds the factors of convolutions to TF32, but not those of products."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]  # torch adds it later
    before = [backend.fp32_precision for backend in backends]
    try:
        for allowed, name in ((True, "tf32"), (False, "ieee")):
            allow_tf32(allowed=allowed)
            assert [backend.fp32_precision for backend in backends] == [name] * 2
    finally:
        for backend, name in zip(backends, before, strict=True):
            backend.fp32_precision = name


def test_bfloat16_is_refused_where_it_is_emulated(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    with pytest.raises(ValueError, match="device cpu has no bfloat16; it has float32"):
        Recognizer(recognizer.model, recognizer.processor, device="cpu", precision="bfloat16")
