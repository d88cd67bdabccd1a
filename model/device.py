"""Where the network runs and in which precision."""

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device; ``auto`` prefers CUDA.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is none of auto, cpu, cuda and cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name}: torch sees {torch.cuda.device_count()} CUDA devices")
    return device


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that the device can only emulate, slower than float32.

    Raises:
        ValueError: the device has no bfloat16.
    """
    if precision == "bfloat16" and not has_bfloat16(device):
        raise ValueError(f"device {device} has no bfloat16; use float32")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 natively, not by emulation."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # avx512_bf16 and amx_bf16 on x86, bf16 and sve_bf16 on ARM
    return any(present is True for name, present in torch.cpu.get_capabilities().items() if name.endswith("bf16"))
