"""What bfloat16 in the image encoder saves on a CPU, and what it changes.

    python -m tests.benchmarks.serving.image_precision --posts DATA/posts/posts.jsonl

Encodes the photos of 500 posts in batches of 8, on one core, in float32 and in bfloat16 in turn, and compares the
entities. Prints milliseconds of processor time a photo and their ratio.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from model import Entity, Post, Recognizer
from model.device import Precision, has_bfloat16

_POSTS = 500
_BATCH = 8


def read(recognizer: Recognizer, path: Path) -> list[Post]:
    """The first posts with a photo."""
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()[:_POSTS]]
    texts = [record.get("text") or " ".join(record["tokens"]) for record in records]
    return [
        recognizer.prepare(text, path.parent / record["image"]) for text, record in zip(texts, records, strict=True)
    ]


def encode(recognizer: Recognizer, posts: Sequence[Post]) -> tuple[float, list[list[Entity]]]:
    """Seconds of processor time for the photos alone, and the entities of the posts."""
    pixels = [post.pixels for post in posts if post.pixels is not None]
    started = time.process_time()
    features = recognizer.encode_images(pixels)
    seconds = time.process_time() - started
    return seconds, recognizer.run(
        [replace(post, image_features=own) for post, own in zip(posts, features, strict=True)]
    )


def main() -> None:
    """Print both times and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not has_bfloat16(torch.device("cpu")):
        parser.exit(message="this processor has no bfloat16\n")
    precisions: tuple[Precision, ...] = ("float32", "auto")
    exact, fast = (Recognizer.from_pretrained(device="cpu", precision=precision) for precision in precisions)
    posts = read(exact, options.posts)
    seconds, changed, entities, largest = [0.0, 0.0], 0, 0, 0.0
    for recognizer in (exact, fast):
        encode(recognizer, posts[:_BATCH])  # the first batch of a size plans
    for first in range(0, len(posts) - _BATCH + 1, _BATCH):
        batch = posts[first : first + _BATCH]
        answers = []
        for number, recognizer in enumerate((exact, fast)):
            took, found = encode(recognizer, batch)
            seconds[number] += took
            answers.append(found)
        for ours, theirs in zip(*answers, strict=True):
            places = [[(e.start, e.end, e.entity_group) for e in own] for own in (ours, theirs)]
            entities += len(ours)
            changed += places[0] != places[1]
            if places[0] == places[1]:
                differences = (abs(a.score - b.score) for a, b in zip(ours, theirs, strict=True))
                largest = max(largest, *differences, 0.0)
    each = [1000 * own / len(posts) for own in seconds]
    print(f"float32 {each[0]:.1f} ms a photo, bfloat16 {each[1]:.1f} ms: {each[0] / each[1]:.2f} times as fast")
    print(f"{len(posts)} posts with {entities} entities: {changed} posts changed, scores by at most {largest:.4f}")


if __name__ == "__main__":
    main()
