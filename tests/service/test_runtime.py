import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service.runtime import frozen_objects

_PROGRAM = """
import resource, sys, threading
from service.runtime import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
import torch

def work():
    torch.set_num_threads(1)
    for _ in range(10):
        torch.ones(2**24)  # 64 MiB; the first ones find their places
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def page_faults(mode: str) -> int:
    """Of filling 64 MiB ten times over in a thread, which are 16384 pages each time."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_the_memory_of_one_batch_is_there_for_the_next() -> None:
    assert page_faults("kept") < page_faults("default") / 4


@pytest.fixture
def collector() -> Iterator[None]:
    """Python's, as it was before."""
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_the_collector_has_nothing_to_do_with_what_is_frozen_objects() -> None:
    with frozen_objects():
        assert not gc.isenabled()
        staying = [[] for _ in range(100_000)]  # type: ignore[var-annotated]
    assert gc.isenabled()
    assert len(gc.get_objects()) < len(staying) / 10


@pytest.mark.usefixtures("collector")
def test_the_collector_works_again_when_nothing_could_be_made() -> None:
    with pytest.raises(OSError, match="no such checkpoint"), frozen_objects():
        raise OSError("no such checkpoint")
    assert gc.isenabled()
