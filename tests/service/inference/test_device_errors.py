import pytest
import torch

from service.inference.device_errors import is_device_error, is_lost, is_out_of_memory, summary

ADVICE = "\nCUDA kernel errors might be asynchronously reported at some other API call"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        torch.AcceleratorError(f"CUDA error: out of memory{ADVICE}"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("FIND was unable to find an engine to execute this computation after trying 4 plans."),
    ],
)
def test_lack_of_memory_is_told_by_its_words(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert is_device_error(error)
    assert not is_lost(error)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (torch.AcceleratorError(f"CUDA error: an illegal memory access was encountered{ADVICE}"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, …)`"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False),
        (RuntimeError("Found no NVIDIA driver on your system."), False),
    ],
)
def test_other_failures_are_the_devices_too(error: Exception, lost: bool) -> None:
    assert is_device_error(error)
    assert is_lost(error) == lost
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("CUDA error: out of memory"), None])
def test_defects_are_no_failure_of_the_device(error: Exception | None) -> None:
    assert not is_out_of_memory(error)
    assert error is None or not is_device_error(error)


def test_summary_is_one_line() -> None:
    assert summary(RuntimeError(f"CUDA error: unknown error{ADVICE}")) == "CUDA error: unknown error"
    assert summary(torch.OutOfMemoryError()) == "OutOfMemoryError"
