"""What resizing photos by torch saves, and what it changes.

    python -m tests.benchmarks.serving.image_scaling --posts DATA/posts/posts.jsonl [--posts DATA/pairs/pairs.jsonl]

Decodes each photo and resizes it by torch and, as before, by Pillow, in turn on one core, and compares the entities
of the posts. Prints milliseconds a photo and their ratio.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from PIL import Image
from torch import Tensor

from model import Entity, Recognizer
from model.preprocessing import image_scaling

_POSTS = 500  # of each file


def _by_pillow(image: Image.Image, width: int, height: int) -> Tensor:
    """As before: one more copy, then Pillow's resize."""
    copied = image_scaling._reduced(image, 1, 1)
    return image_scaling._pixels(copied.resize((width, height), Image.Resampling.BILINEAR))


@contextmanager
def resized(*, by_pillow: bool) -> Iterator[None]:
    """Within it, photos are resized by one of the two."""
    chosen = _by_pillow if by_pillow else image_scaling.interpolate
    with mock.patch.object(image_scaling, "interpolate", chosen):
        yield


def posts(path: Path) -> Iterator[tuple[str, bytes]]:
    """Texts and photos."""
    for line in path.read_text("utf-8").splitlines()[:_POSTS]:
        record = json.loads(line)
        yield record.get("text") or " ".join(record["tokens"]), (path.parent / record["image"]).read_bytes()


def read(recognizer: Recognizer, text: str, image: bytes) -> tuple[float, list[Entity]]:
    """Milliseconds for the photo, and the entities."""
    started = time.thread_time()
    recognizer.processor.decode_image(image)
    milliseconds = 1000 * (time.thread_time() - started)
    return milliseconds, recognizer.recognize(text, image)


def main() -> None:
    """Print the times and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=Path, action="append", required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recognizer = Recognizer.from_pretrained(device="cpu")
    for path in options.posts:
        took, changed, entities, largest, count = [0.0, 0.0], 0, 0, 0.0, 0
        for text, image in posts(path):
            answers = []
            for number in (0, 1):
                with resized(by_pillow=number == 0):
                    milliseconds, found = read(recognizer, text, image)
                took[number] += milliseconds
                answers.append(found)
            places = [[(e.start, e.end, e.entity_group) for e in own] for own in answers]
            count, entities, changed = count + 1, entities + len(answers[0]), changed + (places[0] != places[1])
            if places[0] == places[1]:
                largest = max([largest, *(abs(a.score - b.score) for a, b in zip(*answers, strict=True))])
        print(
            f"{path.name}: decoded in {took[0] / count:.2f} ms by Pillow, in {took[1] / count:.2f} ms by torch, "
            f"{took[1] / took[0]:.2f} of the time; of {count} posts with {entities} entities {changed} changed, "
            f"scores by at most {largest:.4f}"
        )


if __name__ == "__main__":
    main()
