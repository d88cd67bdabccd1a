"""Batches to run before the first real one, so that nobody's post pays for lazy initialisation."""

from collections.abc import Iterator

from PIL import Image

from model import Post, Recognizer
from service.batching import Budget

_USUAL_WORDS = 24  # of a tweet


def warm_up_batches(recognizer: Recognizer, budget: Budget) -> Iterator[list[Post]]:
    """Short, usual and long posts alone, and full batches of usual ones, each with and without a photo.

    And as many photos as the image encoder gets at once on CUDA, see :meth:`model.Recognizer.photo_batch`.
    """
    side = recognizer.processor.photos.size
    longest = recognizer.processor.max_tokens // 2  # a one-letter word takes one sub-token, two at the very worst
    for image in (None, Image.new("RGB", (side, side))):
        for words in {1, min(_USUAL_WORDS, longest), longest}:
            yield [recognizer.prepare("a " * words, image)]
        usual = recognizer.prepare("a " * min(_USUAL_WORDS, longest), image)
        full = min(budget.images, max(1, budget.tokens // len(usual.text.input_ids)))
        yield [usual] * full
    yield from ([usual] * 2**power for power in range(1, (full - 1).bit_length()))
