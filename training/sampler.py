"""The order of training: batches of similar length, and photos together."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

_CHUNK = 50  # batches that are sorted by length together


class GroupedSampler(Sampler[int]):
    """A fresh order each epoch whose consecutive ``batch_size`` indices make a batch.

    Posts with a photo share batches: InfoNCE contrasts a post with the photos of its batch, and a batch in which one
    post in five has a photo has next to nothing to contrast. Within each kind, posts of similar length go together, so
    little is padded.
    """

    def __init__(self, lengths: Sequence[int], has_image: Sequence[bool], *, batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._kinds = [
            torch.tensor([i for i, flag in enumerate(has_image) if flag == kind], dtype=torch.int64)
            for kind in (False, True)
        ]
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; the order depends on seed and epoch alone."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
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
            yield from batches[i]
        yield from rest  # incomplete batches last, so that the complete ones stay aligned
