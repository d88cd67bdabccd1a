"""A program: ``smner-serve`` with a model that fails when a post asks for it."""

import sys
import time
from collections.abc import Sequence
from unittest.mock import patch

import torch
from torch import Tensor

from model import Entity, Post, Recognizer
from service.serve import main


class FaultyRecognizer(Recognizer):
    """The first word of a post decides what happens to its batch; a white image only fits into memory alone."""

    def run(self, posts: Sequence[Post], *, explain: bool = False) -> list[list[Entity]]:
        for post in posts:
            match post.source.split():
                case ["CRASH", *_]:
                    raise RuntimeError(f"a defect in the model, seen with {post.source!r}")
                case ["HUGE", *_] if len(posts) > 1:
                    raise torch.OutOfMemoryError("the batch does not fit")
                case ["TITANIC", *_]:
                    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
                case ["CLOCK", seconds, *_]:
                    Clock.ahead = float(seconds)
        return super().run(posts, explain=explain)

    def encode_images(self, images: Sequence[Tensor]) -> list[Tensor]:
        if len(images) > 1 and any(bool((image == 255).all()) for image in images):
            raise torch.OutOfMemoryError("the images do not fit")
        return super().encode_images(images)


class Clock:
    """The time of day, which an administrator or a time server may change."""

    ahead = 0.0
    _true = time.time_ns

    @classmethod
    def time(cls) -> float:
        return cls._true() / 1e9 + cls.ahead

    @classmethod
    def time_ns(cls) -> int:
        return cls._true() + int(cls.ahead * 1e9)


if __name__ == "__main__":
    with (
        patch("model.Recognizer", FaultyRecognizer),
        patch("time.time", Clock.time),
        patch("time.time_ns", Clock.time_ns),
    ):
        sys.exit(main())
