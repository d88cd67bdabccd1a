"""Batches to run before the first real one, so that nobody's post pays for lazy initialisation."""

from collections.abc import Iterator

from PIL import Image

from model import Post, Recognizer
from service.batching import Budget

_USUAL_WORDS = 24  # of a tweet


def warm_up_batches(recognizer: Recognizer, budget: Budget) -> Iterator[list[Post]]:
    """Short, usual and long posts alone, and a full batch of usual ones, each with and without a photo.

    Where the image encoder gets photos in a few numbers only (:meth:`model.Recognizer.photo_batch`), in each of these.
    """
    side = recognizer.processor.photos.size
    longest = recognizer.processor.max_tokens // 2  # a one-letter word takes one sub-token, two at the very worst
    for image in (None, Image.new("RGB", (side, side))):
        for words in {1, min(_USUAL_WORDS, longest), longest}:
            yield [recognizer.prepare("a " * words, image)]
        usual = recognizer.prepare("a " * min(_USUAL_WORDS, longest), image)
        full = min(budget.images, max(1, budget.tokens // len(usual.text.input_ids)))
        yield [usual] * full
    given = {recognizer.photo_batch(photos) for photos in range(1, budget.images + 1)}
    if given != set(range(1, budget.images + 1)):
        short = recognizer.prepare("a", Image.new("RGB", (side, side)))
        yield from ([short] * min(photos, budget.images) for photos in sorted(given))
