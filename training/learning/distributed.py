"""One training run in several processes started by torchrun; their batches form one.

Each process computes its share of a mean over the whole batch. DDP averages the gradients of the shares, which gives
the gradient of that mean.
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

# The others wait while the main process encodes images or evaluates, which may outlast the default half hour.
_COLLECTIVE_TIMEOUT = timedelta(days=1)


def join_processes() -> PartialState:
    """Join the other processes of this run, if any, and take this one's device."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_COLLECTIVE_TIMEOUT)


def on_main_process(work: Callable[[], T]) -> T:
    """Run ``work`` in the main process only, while the others wait for its result.

    Raises:
        ValueError: in the others, if ``work`` failed; the main process raises the error itself.
    """
    if join_processes().num_processes == 1:
        return work()
    failure: Exception | None = None
    outcome: list[tuple[T | None, str | None]] = [(None, None)]
    if join_processes().is_main_process:
        try:
            outcome = [(work(), None)]
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must not wait forever
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
    """Compute this process's share of a mean over all processes, a scalar; 0 if nothing counts in any of them.

    Args:
        values: float, any shape, 0 where a value does not count.
        count: int64 scalar, how many of them count.
    """
    return values.sum() * process_count() / sum_over_processes(count).clamp(min=1)


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows (b, d) of all processes in rank order: (B, d).

    Every process must call it, with any number of rows. Gradients reach only its own rows, multiplied by the number of
    processes. If all compute the same loss of all rows, the mean of their gradients is that of the loss.
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
