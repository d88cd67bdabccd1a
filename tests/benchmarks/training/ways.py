"""The two ways to train the paper's network: this package's and the authors'.

The authors pad every post to 128 sub-tokens and 506 spans (up to four of 128 words), and encode each image again in
each epoch. Their way runs through the same network and trainer here, so that only padding and images differ. In its
favor, no gradient is computed through the ResNet.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from model.preprocessing.processor import Batch
from model.preprocessing.words import split_words
from tests.benchmarks.serving.posts import load_posts
from training.data.dataset import Collator, Example, PostDataset
from training.data.posts import LabeledPost
from training.data.sources import DataSource

AUTHORS_LENGTH = 128  # sub-tokens and words alike

_MADE_UP = 400


class PaddedCollator(Collator):
    """Pads every post to 128 sub-tokens and 128 words, so 128 + 127 + 126 + 125 = 506 spans."""

    def inputs(self, examples: Sequence[Example]) -> Batch:
        """The batch without labels."""
        batch = super().inputs(examples)
        padding = {"input_ids": self._processor.tokenizer.pad_token_id}
        for key in ("input_ids", "attention_mask", "word_starts", "word_ends", "morphs", "segments"):
            missing = AUTHORS_LENGTH - batch[key].shape[1]
            assert missing >= 0, f"a post has {batch[key].shape[1]} {key}"
            batch[key] = F.pad(batch[key], (0, missing), value=padding.get(key, 0))
        return batch


class Way(NamedTuple):
    """Posts with the source of their images, and their padding."""

    dataset: PostDataset
    collator: Collator

    def batch(self, indices: Sequence[int]) -> Batch:
        """Read and pad posts, with labels."""
        return self.collator([self.dataset[index] for index in indices])


def training_posts(data: Path, folder: Path) -> tuple[str, list[LabeledPost]]:
    """Twitter-2017's texts with the images of other real posts, or made-up posts; and which of the two.

    Args:
        data: folder of the data sets.
        folder: where made-up images are written.
    """
    if (data / "twitter2017").is_dir() and (data / "posts" / "images").is_dir():
        images = cycle(sorted((data / "posts" / "images").iterdir()))
        texts = DataSource(data / "twitter2017").read("train")
        return "Twitter-2017 texts, images of data/posts", [
            replace(post, image=image) for post, image in zip(texts, images, strict=False)
        ]
    posts = []
    for number, made_up in enumerate(load_posts(_MADE_UP, data).posts):
        image = folder / f"{number}.jpg"
        image.write_bytes(made_up.image)
        posts.append(LabeledPost(image.stem, tuple(word.text for word in split_words(made_up.text)), (), image))
    return "made-up posts", posts


def quantiles(batches: Sequence[Sequence[int]], lengths: Sequence[int], count: int) -> list[Sequence[int]]:
    """``count`` representative batches: the middles of as many equal parts, by length."""
    ordered = sorted(batches, key=lambda batch: max(lengths[index] for index in batch))
    return [ordered[int((part + 0.5) * len(ordered) / count)] for part in range(count)]


def padded_length(batches: Sequence[Sequence[int]], lengths: Sequence[int]) -> float:
    """Sub-tokens per post with padding, as a mean over the batches."""
    return float(torch.tensor([max(lengths[index] for index in batch) for batch in batches]).float().mean())
