"""The order of training: batches of similar length, posts with images together."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

_CHUNK = 50  # batches whose posts are sorted by length together


class GroupedSampler(Sampler[int]):
    """Draws a new order for each epoch; every ``batch_size`` consecutive indices make a batch.

    Posts with an image share batches: InfoNCE contrasts a post with the images of its batch, and if only one post in
    five has one there is next to nothing to contrast. Within each kind, posts of similar length go together to save
    padding.

    Distributed processes split each batch, so that together they see what a single process would. If the last batch of
    an epoch has fewer posts than there are processes, some posts are repeated, because no process may go without.

    Args:
        batch_size: posts in a batch over all processes; a multiple of their number.
        process, processes: this process's rank and the number of processes.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        has_image: Sequence[bool],
        *,
        batch_size: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self._lengths = lengths
        self._kinds = [
            torch.tensor([i for i, flag in enumerate(has_image) if flag == kind], dtype=torch.int64)
            for kind in (False, True)
        ]
        self._batch_size = batch_size
        self._seed = seed
        self._process = process
        self._processes = processes
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn next; the order depends only on seed and epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self._lengths), self._batch_size)
        return full * (self._batch_size // self._processes) + len(self._part(list(range(rest))))

    def __iter__(self) -> Iterator[int]:
        for batch in self._batches():
            yield from self._part(batch)

    def _part(self, batch: list[int]) -> list[int]:
        if 0 < len(batch) < self._processes:
            batch = (batch * self._processes)[: self._processes]
        first, last = (len(batch) * part // self._processes for part in (self._process, self._process + 1))
        return batch[first:last]

    def _batches(self) -> Iterator[list[int]]:
        random = torch.Generator().manual_seed(self._seed * 100_003 + self._epoch)
        batches: list[list[int]] = []
        rest: list[int] = []
        for kind in self._kinds:
            shuffled = kind[torch.randperm(len(kind), generator=random)].tolist()
            for first in range(0, len(shuffled), _CHUNK * self._batch_size):
                chunk = sorted(shuffled[first : first + _CHUNK * self._batch_size], key=self._lengths.__getitem__)
                for start in range(0, len(chunk), self._batch_size):
                    batch = chunk[start : start + self._batch_size]
                    if len(batch) == self._batch_size:
                        batches.append(batch)
                    else:
                        rest += batch
        for i in torch.randperm(len(batches), generator=random).tolist():
            yield batches[i]
        for start in range(0, len(rest), self._batch_size):  # last, so that full batches stay aligned
            yield rest[start : start + self._batch_size]
