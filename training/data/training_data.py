"""What a run trains on: the posts of all its sources, and which of them are kept out."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from training.data.posts import DatasetError, LabelledPost, UnusableImage, entity_types, split_retweet
from training.data.sources import DataSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One source's posts; ``valid`` has tagged posts only and is empty where the source has no valid split.

    ``untagged_valid`` is how many posts of the valid split have no tags, ``held_out`` how many without tags are kept
    out of training.
    ``checksums`` has the SHA-256 of each file that was read, by what it is for.
    """

    name: str
    train: list[LabelledPost]
    valid: list[LabelledPost]
    image_features: Path | None
    checksums: dict[str, str]
    untagged_valid: int = 0
    held_out: int = 0

    def summary(self, max_span_width: int) -> str:
        """What was found, in a line; ``max_span_width`` is the most words that an entity may have to be found."""
        tagged = sum(post.entities is not None for post in self.train)
        with_image = sum(post.image is not None for post in self.train)
        features = f", image features from {self.image_features}" if self.image_features else ""
        untagged = f" and {self.untagged_valid} without tags, left out" if self.untagged_valid else ""
        entities = [entity for post in self.train + self.valid for entity in post.entities or ()]
        wide = sum(entity.end - entity.start >= max_span_width for entity in entities)
        kept_out = f", {self.held_out} more kept out" if self.held_out else ""
        missed = f"; {wide} of {len(entities)} entities wider than {max_span_width} words, never found" if wide else ""
        return (
            f"{self.name}: {len(self.train)} training posts, {tagged} tagged, {with_image} with a photo{kept_out}; "
            f"{len(self.valid)} valid posts{untagged}{missed}{features}"
        )

    def without(self, unreadable: Collection[Path]) -> "Part":
        """The same without those photos."""

        def look(post: LabelledPost) -> LabelledPost:
            lost = post.image in unreadable
            return (
                replace(post, image=None, unusable_image=UnusableImage(str(post.image), "unreadable")) if lost else post
            )

        return replace(self, train=list(map(look, self.train)), valid=list(map(look, self.valid)))

    def images(self) -> list[Path]:
        """The photos of all its posts."""
        return [post.image for post in self.train + self.valid if post.image is not None]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All parts, and the ids of the posts that are kept out of training, one for each."""

    parts: list[Part]
    held_out: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, sources: Sequence[DataSource], *, held_out: int, split_retweets: bool = False) -> Self:
        """Read every source; ``held_out`` posts without tags are left out.

        ``split_retweets`` applies :func:`training.data.posts.split_retweet` to the training posts.

        Raises:
            ValueError: no entity is tagged, so there is nothing to learn; a valid split cannot be measured on, since it
                has no entity or one of a type that is not learnt; all posts without tags would be held out.
            FileNotFoundError, DatasetError: a file is missing or not as it should be.
        """
        names = [source.name for source in sources]
        parts = []
        for name, source in zip(_distinct(names), sources, strict=True):
            valid = source.read("valid") if source.file("valid") else []
            tagged = [post for post in valid if post.entities is not None]
            part = Part(
                name=name,
                train=[split_retweet(post) if split_retweets else post for post in source.read("train")],
                valid=tagged,
                image_features=source.image_features,
                checksums=source.checksums(),
                untagged_valid=len(valid) - len(tagged),
            )
            parts.append(part)
        kept_out = held_out_posts([post for part in parts for post in part.train], held_out)
        data = cls([_without(part, kept_out) for part in parts], sorted(post.id for post in kept_out))
        if not data.types:
            raise ValueError(f"no entity is tagged in the training data of {', '.join(names)}")
        if held_out and kept_out and not data.untagged:
            raise ValueError(f"held_out={held_out} would keep all {len(kept_out)} posts without tags out of training")
        for source, part in zip(sources, data.parts, strict=True):
            if part.valid and not entity_types(part.valid):
                raise ValueError(f"{source.file('valid')}: no entity is tagged, so that nothing can be measured on it")
            for post in part.valid:
                _check_types(post, data.types)
        return data

    @property
    def types(self) -> list[str]:
        """The entity types that occur in training."""
        return entity_types(post for part in self.parts for post in part.train)

    @property
    def untagged(self) -> int:
        """How many posts to train on have no tags."""
        return sum(post.entities is None for part in self.parts for post in part.train)

    def tagged_text(self) -> "TrainingData":
        """The tagged posts without their photos, for a text-only model."""
        parts = [
            replace(
                part,
                train=[_without_image(post) for post in part.train if post.entities is not None],
                valid=[_without_image(post) for post in part.valid],
                image_features=None,
            )
            for part in self.parts
        ]
        return TrainingData([part for part in parts if part.train])

    def tagged_by(self, tagger: Callable[[list[LabelledPost]], list[LabelledPost]]) -> "TrainingData":
        """The same with every untagged training post replaced by what ``tagger`` makes of it."""
        return replace(
            self,
            parts=[
                replace(
                    part,
                    train=[post for post in part.train if post.entities is not None]
                    + tagger([post for post in part.train if post.entities is None]),
                )
                for part in self.parts
            ],
        )


def held_out_posts(posts: Iterable[LabelledPost], count: int) -> list[LabelledPost]:
    """Of the posts without tags, the ``count`` whose ids have the smallest SHA-256, in the order in which they came.

    They are the same ones whatever that order is.
    """
    untagged = [post for post in posts if post.entities is None]
    ranked = sorted(untagged, key=lambda post: hashlib.sha256(post.id.encode()).digest())
    chosen = set(map(id, ranked[:count]))  # ids of posts need not differ
    return [post for post in untagged if id(post) in chosen]


def _check_types(post: LabelledPost, known: Sequence[str]) -> None:
    if foreign := sorted({entity.type for entity in post.entities or ()} - set(known)):
        assert post.place is not None  # it was read from a file
        message = f"post {post.id}: expected the training data's types, {', '.join(known)}; not {', '.join(foreign)}"
        raise DatasetError(*post.place, message)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names of the sources, those that several have with their place behind them."""
    distinct: list[str] = []
    for place, name in enumerate(names):
        own = name if names.count(name) == 1 else f"{name}-{place}"
        while own in distinct or (own != name and own in names):
            own += f"-{place}"
        distinct.append(own)
    return distinct


def _without_image(post: LabelledPost) -> LabelledPost:
    return replace(post, image=None, unusable_image=None)


def _without(part: Part, kept_out: Sequence[LabelledPost]) -> Part:
    left_out = set(map(id, kept_out))
    train = [post for post in part.train if id(post) not in left_out]
    return replace(part, train=train, held_out=len(part.train) - len(train))
