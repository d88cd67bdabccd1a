"""Tells failures of the device from defects and from posts that the model cannot run.

torch has classes for some of them only: cuBLAS, cuDNN and the driver report the others as plain RuntimeErrors.
"""

import re

import torch

# What cuBLAS and cuDNN say when they cannot allocate their workspace, and what torch says when no algorithm of cuDNN
# could. "Not initialized" is a handle for which there was no memory.
_OUT_OF_MEMORY = re.compile(
    r"CU(BLAS|DNN)_STATUS_(ALLOC_FAILED|NOT_INITIALIZED|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)"
    r"|CUDA error: out of memory"
    r"|unable to find an engine to execute this computation|Unable to find a valid cuDNN algorithm"
)
_OF_DEVICE = re.compile("CUDA error|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|NVIDIA driver")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether the device lacked memory, so that less work at once may succeed."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def is_lost(error: BaseException) -> bool:
    """Whether the device runs nothing more in this process."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def is_device_error(error: BaseException) -> bool:
    """Whether the device failed, or a library that runs on it."""
    if isinstance(error, torch.AcceleratorError) or is_out_of_memory(error):
        return True
    return isinstance(error, RuntimeError) and _OF_DEVICE.search(str(error)) is not None


def summary(error: BaseException) -> str:
    """The first line of the message; torch adds advice about debugging to it."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
