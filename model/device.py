"""Where the network runs and in which arithmetic."""

import platform
import warnings
from typing import Literal, NamedTuple

import torch

Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]


class Arithmetic(NamedTuple):
    """The types that the encoders' weights have, and whether CUDA may round the factors of float32 products to TF32."""

    text: torch.dtype = torch.float32
    images: torch.dtype = torch.float32
    tf32: bool = False


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or another of torch's names into a device.

    ``auto`` prefers CUDA; if there is a GPU that torch cannot use, it warns and takes the CPU.

    Raises:
        ValueError: there is no such device, or torch cannot compute on it here.
    """
    if name == "auto":
        return torch.device("cuda" if _cuda_works() else "cpu")
    device = _parse(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name}: torch sees {torch.cuda.device_count()} CUDA devices{_advice()}")
    if device.type == "meta":
        raise ValueError("device meta: its tensors have shapes but no values, so nothing can be computed on it")
    _try(device)
    return device


def choose_arithmetic(precision: Precision, device: torch.device) -> Arithmetic:
    """What a precision means on a device.

    ``auto`` changes no entity of 500 posts with photos, and no score by more than 0.01 (docs/lab/serving.md): TF32 on
    CUDA, and on a CPU that has bfloat16 images in it. ``bfloat16`` and ``float16`` are for both encoders; all that
    follows them is computed in float32.

    Raises:
        ValueError: the device can only emulate the precision, slower than float32.
    """
    native = {"float32": True, "tf32": has_tf32(device), "bfloat16": has_bfloat16(device), "float16": _is_gpu(device)}
    if precision == "auto":
        on_cpu = device.type == "cpu" and native["bfloat16"]
        return Arithmetic(images=torch.bfloat16 if on_cpu else torch.float32, tf32=native["tf32"])
    if not native[precision]:
        usable = ", ".join(name for name, has in native.items() if has)
        raise ValueError(f"device {device} has no {precision}; it has {usable}")
    encoders = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)
    return Arithmetic(text=encoders, images=encoders, tf32=precision != "float32" and native["tf32"])


def allow_tf32(*, allowed: bool) -> None:
    """Let this process's float32 products and convolutions on CUDA round their factors to TF32, or not.

    PyTorch's default is neither: convolutions do, products do not.
    """
    precision = "tf32" if allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]  # torch adds it later


def has_tf32(device: torch.device) -> bool:
    """Whether it is a CUDA device of compute capability 8.0 (Ampere) or newer."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 natively, not by emulation; False where torch cannot tell."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "xpu":
        return bool(torch.xpu.is_bf16_supported(including_emulation=False))
    # avx512_bf16 and amx_bf16 on x86, bf16 and sve_bf16 on ARM
    return device.type == "cpu" and any(
        present is True for name, present in torch.cpu.get_capabilities().items() if name.endswith("bf16")
    )


def _is_gpu(device: torch.device) -> bool:
    return device.type in ("cuda", "mps", "xpu")


def _cuda_works() -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        works = torch.cuda.is_available()
    if not works and torch.cuda.device_count() > 0:  # it asks the driver, not CUDA
        reason = str(caught[-1].message).strip().split("\n")[0] if caught else "CUDA is not available"
        # of this line, so that it is said once, whoever calls
        warnings.warn(f"torch cannot use the GPU, so the model runs on the CPU: {reason}", stacklevel=1)
    return works


def _advice() -> str:
    """What to do if there is no GPU at all."""
    if torch.cuda.device_count() > 0:
        return ""
    if torch.version.cuda is None:
        return "; this torch was built without CUDA"
    return "; it needs NVIDIA's driver and, in a container, the NVIDIA Container Toolkit"


def device_name(device: torch.device) -> str:
    """What computes: the GPU's name, or the processor's with its instructions, which differ under the same name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = torch.cpu.get_capabilities().get("cpu_name", platform.machine())
    return f"{processor} with {torch.backends.cpu.get_cpu_capability()}"


def _parse(name: str) -> torch.device:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that torch is about to forget
            return torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device {name!r} is none of auto, cpu, cuda and cuda:N") from error


def _try(device: torch.device) -> None:
    """Compute something, because torch knows the names of devices that it was not built for."""
    try:
        (torch.ones(1, device=device) + 1).item()
    except (NotImplementedError, AssertionError, ImportError) as error:
        raise ValueError(f"device {device}: torch {torch.__version__} was built without it") from error
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"device {device}: torch cannot compute on it here: {reason}") from error
