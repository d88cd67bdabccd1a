"""How many entities change when posts are read as parts of a long text.

    python -m tests.benchmarks.quality.long_posts --data DATA/twitter2015 --data DATA/twitter2017

Valid posts in a fixed random order are joined by forties, with line breaks or with blanks. Each text is read in windows
of several sizes, and its entities are compared with those of its posts alone.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from model import Entity, Recognizer
from training.data.readers import read_posts

_POSTS = 400
_JOINED = 40
_SIZES = (512, 256, 128, 64, 32)


class Change(NamedTuple):
    """Entities of the posts alone, and how many the long texts lack or have in addition."""

    entities: int
    lost: int
    new: int


def compare(recognizer: Recognizer, posts: Sequence[str], separator: str) -> Change:
    """Compare the entities of posts with those of the posts joined by forties."""
    alone = recognizer.recognize_batch(posts)
    total = lost = new = 0
    for first in range(0, len(posts), _JOINED):
        joined, expected, start = posts[first : first + _JOINED], set(), 0
        for post, entities in zip(joined, alone[first : first + _JOINED], strict=True):
            expected |= {_moved(entity, start) for entity in entities}
            start += len(post) + len(separator)
        found = {_moved(entity, 0) for entity in recognizer.recognize(separator.join(joined))}
        total, lost, new = total + len(expected), lost + len(expected - found), new + len(found - expected)
    return Change(total, lost, new)


def _moved(entity: Entity, by: int) -> tuple[int, int, str]:
    return entity.start + by, entity.end + by, entity.entity_group


def main() -> None:
    """Print a line for each separator and window size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--checkpoint")
    options = parser.parse_args()
    recognizer = Recognizer.from_pretrained(options.checkpoint)
    posts = [" ".join(post.words) for folder in options.data for post in read_posts(folder / "valid.txt")]
    posts = random.Random(0).sample(posts, _POSTS)
    for separator in ("\n", " "):
        for size in _SIZES:
            recognizer.processor.window_tokens = size
            change = compare(recognizer, posts, separator)
            print(f"{separator!r:5} {size:4} sub-tokens: {change.lost} of {change.entities} lost, {change.new} new")


if __name__ == "__main__":
    main()
