"""One training run in several processes, as torchrun starts them: their batches are parts of one.

Each process computes its share of a mean over the whole batch. DDP averages the gradients of the shares, which makes
them the gradient of that mean.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor

T = TypeVar("T")

# The others wait while the main process encodes images or evaluates, which can take longer than the usual half hour.
_COLLECTIVE_TIMEOUT = timedelta(days=1)


def join_processes() -> PartialState:
    """Meet the other processes of this run, if there are any, and take this one's device."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_COLLECTIVE_TIMEOUT)


def on_main_process(work: Callable[[], T]) -> T:
    """Do ``work`` in the main process alone, while the others wait for its result.

    Raises:
        ValueError: in the others, if the main process raised an error, which is what it raises itself.
    """
    if join_processes().num_processes == 1:
        return work()
    failure: Exception | None = None
    outcome: list[tuple[T | None, str | None]] = [(None, None)]
    if join_processes().is_main_process:
        try:
            outcome = [(work(), None)]
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must not wait for ever
            failure, outcome = error, [(None, str(error))]
    result, message = broadcast_object_list(outcome)[0]
    if failure is not None:
        raise failure
    if message is not None:
        raise ValueError(message)
    return result  # type: ignore[no-any-return]


def process_count() -> int:
    """How many processes train together; 1 outside torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(count: Tensor) -> Tensor:
    """Sum ``count`` over the processes, without a gradient."""
    if process_count() == 1:
        return count
    total = count.detach().clone()
    dist.all_reduce(total)
    return total


def share_of_mean(values: Tensor, count: Tensor) -> Tensor:
    """Compute the share of this process in a mean over all processes, a scalar; 0 if nothing counts in any of them.

    Args:
        values: float, any shape, 0 where a value does not count.
        count: int64 scalar, how many of them count.
    """
    return values.sum() * process_count() / sum_over_processes(count).clamp(min=1)


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows (b, d) of all processes, in their order: (B, d).

    Every process has to call it, with any number of rows. Gradients reach its own rows alone, multiplied by the number
    of processes. If all compute the same loss of all rows, the mean of their gradients is then that of the loss.
    """
    processes = process_count()
    if processes == 1:
        return rows
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(processes)]
    dist.all_gather(counts, own)
    sizes = [int(count) for count in counts]
    padded = F.pad(rows.detach(), (0, 0, 0, max(sizes) - len(rows)))  # collectives need equal shapes
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded.contiguous())
    parts = [part[:size] for part, size in zip(gathered, sizes, strict=True)]
    if rows.requires_grad:
        live = rows.clone()
        live.register_hook(lambda gradient: gradient * processes)  # type: ignore[no-untyped-call]
        parts[dist.get_rank()] = live
    return torch.cat(parts)
