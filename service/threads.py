"""How many threads torch uses, said for one thread at a time."""

import torch


def use_torch_threads(count: int) -> None:
    """Let torch's operations in the calling thread use ``count`` threads.

    OpenMP keeps the number per thread, but torch also keeps a last one for all, which a thread takes on when it first
    asks. Asking before saying makes the thread's own number stay.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)
