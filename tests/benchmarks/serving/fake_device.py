"""A program: ``smner-serve`` with a device that takes a given time for each post, and no processor.

Posts go the service's real way: HTTP, limits, decoding, tokenization, queue, batches, JSON. What is missing is the work
that the interpreter has with a real device, starting kernels and reading entities out of logits.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor

from model import SMNER, Entity, Post, Recognizer, SMNERConfig, SMNERProcessor
from model.checkpoint import checkpoint_folder
from model.entities import Answer
from service.serve import main

_ENTITIES = 2  # in each post, if it is long enough


class FakeDeviceRecognizer(Recognizer):
    """Has the processor of a checkpoint; its answers are the first words of each post."""

    seconds_per_post = 0.0002

    def __init__(self, model: SMNER, processor: SMNERProcessor) -> None:
        self.model = model
        self.processor = processor
        self.device = torch.device("meta")  # no CPU, so the service runs one batch at a time, as on a GPU
        self.name, self.revision = "fake device", "none"

    @classmethod
    def from_pretrained(cls, folder: str | Path | None = None, **_: Any) -> Self:
        """Load the processor; the network has no weights."""
        path = checkpoint_folder(folder)
        with torch.device("meta"):
            model = SMNER(SMNERConfig.from_pretrained(path))
        return cls(model, SMNERProcessor.from_pretrained(path))

    def encode_images(self, images: Sequence[Tensor]) -> list[Tensor]:
        return [torch.zeros(1, 1)] * len(images)

    def run(self, posts: Sequence[Post], *, explain: bool = False) -> list[list[Entity]]:  # noqa: ARG002 the signature
        time.sleep(len(posts) * self.seconds_per_post)  # other threads run meanwhile, as while a GPU is busy
        return [Answer(post.source, self._first_words(post)) for post in posts]

    def _first_words(self, post: Post) -> list[Entity]:
        entities, end = [], 0
        for word in post.source.split()[:_ENTITIES]:
            start = post.source.index(word, end)
            end = start + len(word)
            entities.append(Entity(self.model.config.entity_types[0], word, start, end, 0.9))
        return entities


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--milliseconds", type=float, default=0.2, help="for each post (%(default)s)")
    options, arguments = parser.parse_known_args()
    FakeDeviceRecognizer.seconds_per_post = options.milliseconds / 1000
    with patch("model.Recognizer", FakeDeviceRecognizer):
        sys.exit(main(arguments))
