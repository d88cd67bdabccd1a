"""The process itself: memory that glibc keeps, objects that the garbage collector skips, threads of torch."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# of mallopt(3); the numbers are part of glibc's binary interface
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_BLOCK = 2**30  # larger than any activation
_PAD = 2**28


def keep_freed_memory() -> bool:
    """Let the process keep the memory of a batch for the next one; to be called before torch is imported.

    By default glibc maps every large block anew and unmaps it when it is freed, so the kernel has to hand out zeroed
    pages for each layer of each batch: the larger the batch, the slower its posts. With one arena for all threads the
    freed blocks of one are there for the others, so the process grows to the size of its largest batch and stays there.

    Returns:
        Whether it was done; other C libraries have no such settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_ARENA_MAX: 1, _MMAP_THRESHOLD: _BLOCK, _TRIM_THRESHOLD: _BLOCK, _TOP_PAD: _PAD}
    taken = [mallopt(option, value) for option, value in settings.items()]  # every one, whatever the others say
    return all(taken)


@contextmanager
def frozen_objects() -> Iterator[None]:
    """What is made within stays as long as the process: the collector looks at none of it, neither now nor later.

    torch and transformers make half a million objects, and a pass over them holds up every thread for some 300 ms.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def use_torch_threads(count: int) -> None:
    """Let torch's operations in the calling thread use ``count`` threads.

    OpenMP keeps the number per thread, but torch also keeps a process-wide default, which a thread adopts when it first
    asks for its number. Asking first and setting afterwards makes the thread's own number stick.
    """
    import torch  # not at the top: keep_freed_memory has to run before torch is imported

    torch.get_num_threads()
    torch.set_num_threads(count)
