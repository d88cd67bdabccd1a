"""What makes tiny training runs cheap."""

import gc

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def cheap_steps() -> None:
    """Use one thread, and keep Trainer from collecting the garbage of everything imported before each run.

    On networks this small several threads cost more than they save, and so do their sums: shared out differently, they
    differ in their last bits.
    """
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
