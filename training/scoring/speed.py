"""How long a checkpoint takes for a post."""

import copy
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from PIL import Image

from model import SMNER, Recognizer, SMNERProcessor
from model.device import device_name
from model.modeling.image_encoder import fold_for_inference

POSTS = 20  # that are measured alone
REPEATS = 3  # of which the fastest counts: what else the machine does only slows it down
BATCHES = 2
PHOTO_SIZE = (1200, 900)


class Speed(NamedTuple):
    """Milliseconds for a post alone, the median over a few; posts per second when many are given at once.

    On a CPU (``on_cpu``) it is the time that one core computes, which other work on the machine changes less; on other
    devices it is the time that passes. ``with_photo`` includes decoding a JPEG, and is None if the checkpoint has
    no image encoder.
    """

    device: str
    on_cpu: bool
    posts: int
    alone: float
    with_photo: float | None
    batch_size: int
    per_second: float


def as_served(network: SMNER, processor: SMNERProcessor) -> Recognizer:
    """A copy of a network in training, as :meth:`model.Recognizer.from_pretrained` would load it."""
    own = copy.deepcopy(network).cpu().eval()
    if own.image_encoder is not None:
        fold_for_inference(own.image_encoder, size=processor.image_settings.size)
    return Recognizer(own, processor)


def measure_speed(recognizer: Recognizer, texts: Sequence[str]) -> Speed | None:
    """Measure on some of ``texts``, evenly chosen; None without any."""
    if not texts:
        return None
    chosen = texts[:: -(-len(texts) // POSTS)]
    photo = _photo() if recognizer.model.image_encoder is not None else None
    recognizer.recognize(chosen[0], photo)  # what the first call prepares is not measured
    many = [chosen[i % len(chosen)] for i in range(BATCHES * recognizer.batch_size)]
    on_cpu = recognizer.device.type == "cpu"
    with _one_core(on_cpu) as clock:
        alone = [_seconds(clock, partial(recognizer.recognize, text)) for text in chosen]
        looked = chosen if photo is not None else ()
        seen = [_seconds(clock, partial(recognizer.recognize, text, photo)) for text in looked]
        together = _seconds(clock, partial(recognizer.recognize_batch, many))
    return Speed(
        device=device_name(recognizer.device),
        on_cpu=on_cpu,
        posts=len(chosen),
        alone=1000 * median(alone),
        with_photo=1000 * median(seen) if seen else None,
        batch_size=recognizer.batch_size,
        per_second=len(many) / together,
    )


@contextmanager
def _one_core(on_cpu: bool) -> Iterator[Callable[[], float]]:
    """Compute in one thread and read its time if ``on_cpu``; else read the clock on the wall."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if on_cpu else threads)
    try:
        yield time.process_time if on_cpu else time.perf_counter
    finally:
        torch.set_num_threads(threads)


def _seconds(clock: Callable[[], float], work: Callable[[], object]) -> float:
    """The shortest of a few runs; an answer is on the CPU, so a GPU has finished."""
    times = []
    for _ in range(REPEATS):
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)


def _photo() -> bytes:
    """A JPEG with as much detail as a photo's."""
    noise = Image.effect_noise((PHOTO_SIZE[0] // 8, PHOTO_SIZE[1] // 8), 80).resize(PHOTO_SIZE)
    buffer = io.BytesIO()
    noise.convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
