"""The posts that are sent: real ones with images where the data set is at hand, else made-up ones."""

import io
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from skimage import data as free_images

SHARED = Path(__file__).parents[3] / "shared" / "data"

_CHECKED = 20  # made-up posts with compared answers
_NAMES = ("Kawhi Leonard", "Toronto", "Game of Thrones", "the NBA", "Angela Merkel", "Lake Como", "Apple", "Eid")
_WORDS = "so proud of you today everyone we just met at the show and it was more than #amazing , thank you all !"


class Post(NamedTuple):
    """A text and the bytes of its image."""

    text: str
    image: bytes


class Posts(NamedTuple):
    """Posts, where they come from, and how many of the first ones have their answers compared."""

    source: str
    posts: list[Post]
    checked: int


def load_posts(count: int, folder: Path = SHARED) -> Posts:
    """The benchmark pairs and ``count`` real posts in a fixed random order, or as many made-up posts."""
    pairs, posts = folder / "pairs" / "pairs.jsonl", folder / "posts" / "posts.jsonl"
    if pairs.is_file() and posts.is_file():
        checked = list(_read(pairs))
        records = random.Random(0).sample(posts.read_text("utf-8").splitlines(), count)
        return Posts("real posts", checked + [_post(record, posts.parent) for record in records], len(checked))
    return Posts("made-up posts", list(itertools.islice(_made_up(), _CHECKED + count)), _CHECKED)


def _read(file: Path) -> Iterator[Post]:
    for line in file.read_text("utf-8").splitlines():
        yield _post(line, file.parent)


def _post(line: str, folder: Path) -> Post:
    record = json.loads(line)
    return Post(record["text"] or " ".join(record["tokens"]), (folder / record["image"]).read_bytes())


def _made_up() -> Iterator[Post]:
    """Names among words, and crops of free images in the size of a tweet's."""
    rng = random.Random(0)
    images = [
        Image.fromarray(load())  # type: ignore[no-untyped-call]
        for load in (free_images.astronaut, free_images.coffee, free_images.cat)
    ]
    while True:
        words = rng.choices(_WORDS.split(), k=rng.randint(5, 25))
        words.insert(rng.randrange(len(words)), rng.choice(_NAMES))
        image = rng.choice(images)
        left, top = rng.randrange(image.width // 4), rng.randrange(image.height // 4)
        buffer = io.BytesIO()
        image.crop((left, top, image.width, image.height)).resize((600, 450)).save(buffer, "JPEG", quality=85)
        yield Post(" ".join(words), buffer.getvalue())
