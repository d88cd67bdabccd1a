"""How many posts were answered."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from model.entities import Entity
from model.post_files.post_line import PreparedLine
from model.posts import Post


@dataclass(frozen=True, slots=True)
class Counts:
    """Of some posts: how many there are, have an error instead of an answer, and have a photo; and their entities."""

    posts: int = 0
    failed: int = 0
    images_used: int = 0
    entities: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.posts + other.posts,
            self.failed + other.failed,
            self.images_used + other.images_used,
            self.entities + other.entities,
        )

    @classmethod
    def of(cls, lines: Sequence[PreparedLine], answers: Iterable[Sequence[Entity]]) -> Self:
        """Count posts and their answers."""
        posts = [line.post for line in lines if isinstance(line.post, Post)]
        images = sum(post.has_image for post in posts)
        return cls(len(lines), len(lines) - len(posts), images, sum(map(len, answers)))

    def to_dict(self) -> dict[str, int]:
        """JSON-ready values."""
        return asdict(self)


def total(counts: Iterable[Counts]) -> Counts:
    """Their sum."""
    return sum(counts, Counts())
