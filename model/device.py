"""Where the network runs and in which precision."""

import warnings
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or another of torch's names into a device; ``auto`` prefers CUDA.

    Raises:
        ValueError: there is no such device, or torch cannot compute on it here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = _parse(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name}: torch sees {torch.cuda.device_count()} CUDA devices")
    if device.type == "meta":
        raise ValueError("device meta: its tensors have shapes but no values, so nothing can be computed on it")
    _try(device)
    return device


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that the device can only emulate, slower than float32.

    Raises:
        ValueError: the device has no bfloat16.
    """
    if precision == "bfloat16" and not has_bfloat16(device):
        raise ValueError(f"device {device} has no bfloat16; use float32")


def images_in_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether the image encoder runs in bfloat16: with ``auto`` on CPUs that have it, which saves most of its time.

    On 500 posts with photos it changed no entity, and no score by more than 0.008 (docs/lab/serving.md).
    """
    return precision == "bfloat16" or (precision == "auto" and device.type == "cpu" and has_bfloat16(device))


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
