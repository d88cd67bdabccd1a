import gc
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service.runtime import gc_frozen, raise_file_limit

_PROGRAM = """
import resource, sys, threading
from service.runtime import tune_malloc
if sys.argv[1] == "tuned":
    assert tune_malloc()
import torch

def work():
    torch.set_num_threads(1)
    for _ in range(10):
        torch.ones(2**24)  # 64 MiB each; the first ones settle the heap
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def page_faults(mode: str) -> int:
    """Page faults while a thread fills 64 MiB, which are 16384 pages, ten times."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_tuned_malloc_reuses_memory() -> None:
    assert page_faults("tuned") < page_faults("default") / 4


@pytest.fixture
def collector() -> Iterator[None]:
    """Restores Python's garbage collector."""
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_collector_ignores_frozen_objects() -> None:
    with gc_frozen():
        assert not gc.isenabled()
        staying = [[] for _ in range(100_000)]  # type: ignore[var-annotated]
    assert gc.isenabled()
    assert len(gc.get_objects()) < len(staying) / 10


@pytest.mark.usefixtures("collector")
def test_collector_is_enabled_after_a_failure() -> None:
    with pytest.raises(OSError, match="no such checkpoint"), gc_frozen():
        raise OSError("no such checkpoint")
    assert gc.isenabled()


def test_file_limit_is_raised_to_what_is_allowed() -> None:
    """At 1,024 a service with as many clients could not even answer its probes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        assert raise_file_limit() > 512
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 512
        assert raise_file_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("error", [ValueError("current limit exceeds maximum limit"), PermissionError()])
def test_file_limit_that_cannot_be_raised_stays(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_file_limit() == 256
