"""A batch that is spread over several processes counts as one.

Each process works out its share of a mean over the whole batch. The mean of the shares, which is what DDP and FSDP
make of the gradients, is the mean over the batch.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def process_count() -> int:
    """How many processes train together; 1 where none were started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(count: Tensor) -> Tensor:
    """The sum of every process's ``count``; nothing flows back through it."""
    if process_count() == 1:
        return count
    total = count.detach().clone()
    dist.all_reduce(total)
    return total


def share_of_mean(values: Tensor, count: Tensor) -> Tensor:
    """The share of this process in the mean over all processes, a scalar; 0 where nothing counts anywhere.

    Args:
        values: float, any shape; those that do not count are 0.
        count: int64 scalar, how many of them count.
    """
    return values.sum() * process_count() / sum_over_processes(count).clamp(min=1)


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes in their order, (N, d), and where this process's (b, d) begin; gradients flow back.

    Every process has to call it, with as many rows as it likes, and to go backward through what it returns.
    """
    if process_count() == 1:
        return rows, 0
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(process_count())]
    dist.all_gather(counts, own)
    sizes = [int(count) for count in counts]
    return _GatheredRows.apply(rows, sizes), sum(sizes[: dist.get_rank()])


class _GatheredRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        first = sum(sizes[: dist.get_rank()])
        ctx.own = slice(first, first + len(rows))
        padded = F.pad(rows, (0, 0, 0, max(sizes) - len(rows)))  # collectives want equal shapes
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded.contiguous())
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)  # every process's loss hangs on every row
        return total[ctx.own], None
