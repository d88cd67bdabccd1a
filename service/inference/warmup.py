"""Runs every kind of batch once, so that no client's post pays for lazy initialization."""

from collections.abc import Callable, Iterator

import structlog
import torch
from PIL import Image

from model import Post, Recognizer
from service.inference.batching import Budget
from service.inference.device_errors import is_out_of_memory

log = structlog.get_logger()

_TYPICAL_WORDS = 24  # of a tweet


def warm_up(
    recognizer: Recognizer,
    budget: Budget,
    *,
    stopped: Callable[[], bool],
    on_device_error: Callable[[Exception], None],
) -> Budget:
    """Run every kind of batch, with half the budget each time the device runs out of memory, until ``stopped``.

    Returns:
        The budget that fits.

    Raises:
        RuntimeError: not even one post fits, or the device fails.
    """
    while True:
        try:
            for posts in warm_up_batches(recognizer, budget):
                if stopped():
                    break
                recognizer.run(posts)
                recognizer.run(posts[:1], explain=True)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            on_device_error(error)
            smaller = budget.halved(min_tokens=recognizer.processor.max_tokens)
            if smaller == budget:
                log.critical(
                    "the device does not have enough memory for a single post: free some, or choose another with "
                    "--device (SMNER_DEVICE)",
                    device=str(recognizer.device),
                )
                raise
        else:
            return budget
        log.warning(
            "the device does not have enough memory for a full batch, so batches are smaller until the next start: "
            "lower --max-batch-images (SMNER_MAX_BATCH_IMAGES) and --max-batch-tokens (SMNER_MAX_BATCH_TOKENS), "
            "or free some memory",
            batch_images=smaller.images,
            batch_tokens=smaller.tokens,
        )
        budget = smaller
        torch.cuda.empty_cache()


def warm_up_batches(recognizer: Recognizer, budget: Budget) -> Iterator[list[Post]]:
    """Short, typical and long posts alone and a full batch of typical ones, each with and without an image.

    Where the image encoder only ever runs a few batch sizes (:meth:`model.Recognizer.image_batch_size`), each of them.
    """
    side = recognizer.processor.image_settings.size
    longest = recognizer.processor.max_tokens // 2  # a one-letter word is one sub-token, two at the very most
    typical = min(_TYPICAL_WORDS, longest)
    image = Image.new("RGB", (side, side))
    for own_image in (None, image):
        for words in {1, typical, longest}:
            yield [recognizer.prepare("a " * words, own_image)]
        post = recognizer.prepare("a " * typical, own_image)
        yield [post] * min(budget.images, max(1, budget.tokens // post.tokens))
    sizes = {recognizer.image_batch_size(images) for images in range(1, budget.images + 1)}
    if sizes != set(range(1, budget.images + 1)):
        short = recognizer.prepare("a", image)
        yield from ([short] * min(images, budget.images) for images in sorted(sizes))
