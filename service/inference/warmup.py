"""Batches to run before the first real one, so that nobody's post pays for lazy initialisation."""

from collections.abc import Iterator

from PIL import Image

from model import Post, Recognizer
from service.inference.batching import Budget

_USUAL_WORDS = 24  # of a tweet


def warm_up_batches(recognizer: Recognizer, budget: Budget) -> Iterator[list[Post]]:
    """Short, usual and long posts alone, and a full batch of usual ones, each with and without a photo.

    Where the image encoder only ever runs a few batch sizes (:meth:`model.Recognizer.image_batch_size`), each of them.
    """
    side = recognizer.processor.image_settings.size
    longest = recognizer.processor.max_tokens // 2  # a one-letter word takes one sub-token, two at the very worst
    for image in (None, Image.new("RGB", (side, side))):
        for words in {1, min(_USUAL_WORDS, longest), longest}:
            yield [recognizer.prepare("a " * words, image)]
        usual = recognizer.prepare("a " * min(_USUAL_WORDS, longest), image)
        full = min(budget.images, max(1, budget.tokens // len(usual.text.input_ids)))
        yield [usual] * full
    given = {recognizer.image_batch_size(images) for images in range(1, budget.images + 1)}
    if given != set(range(1, budget.images + 1)):
        short = recognizer.prepare("a", Image.new("RGB", (side, side)))
        yield from ([short] * min(images, budget.images) for images in sorted(given))
