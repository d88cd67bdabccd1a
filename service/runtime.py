"""Tuning of the process: glibc's allocator, the garbage collector, torch's threads and open files."""

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# of mallopt(3); the numbers are part of glibc's binary interface
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_BLOCK_BYTES = 2**30  # larger than any activation
_PAD_BYTES = 2**28
_MOST_FILES = 2**16


def tune_malloc() -> bool:
    """Make glibc reuse freed memory instead of returning it to the kernel; call before torch is imported.

    By default glibc maps and unmaps every large block, so the kernel zeroes fresh pages for each layer of each batch,
    and posts in large batches are slow. With a single arena, blocks that one thread frees can be reused by any other,
    so the process grows to the size of its largest batch and stays there.

    Returns:
        Whether all settings were accepted; other C libraries do not have them.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_ARENA_MAX: 1, _MMAP_THRESHOLD: _BLOCK_BYTES, _TRIM_THRESHOLD: _BLOCK_BYTES, _TOP_PAD: _PAD_BYTES}
    accepted = [mallopt(option, value) for option, value in settings.items()]  # all of them, even if one is rejected
    return all(accepted)


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Exempt the objects made in this block from garbage collection for the life of the process.

    torch and transformers make half a million objects; scanning them would stop every thread for about 300 ms.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def raise_file_limit() -> int:
    """Let the process open as many files as the system allows, and return that number.

    The usual soft limit of 1,024 is below the connections of a busy service, whose probes would then be reset, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # macOS has another, lower limit, and a sandbox may forbid it
        return soft
    return wanted


def set_torch_threads(count: int) -> None:
    """Set the number of threads that torch uses for operations called from this thread.

    OpenMP keeps the number per thread, but torch also has a process-wide default, which a thread adopts when it first
    asks for its number. Asking before setting keeps the default from overwriting the thread's own number.
    """
    import torch  # not at the top: tune_malloc has to run before torch is imported

    torch.get_num_threads()
    torch.set_num_threads(count)
