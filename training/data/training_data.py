"""What a run trains on: the posts of all its sources, some of them held out."""

import hashlib
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, get_args

from torch import Tensor

from training.data.errors import UnusablePost, UnusableSplit
from training.data.posts import Casing, LabeledPost, UnusableImage, entity_types, recased, split_retweet
from training.data.sources import DataSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The posts of one source; ``valid`` has the tagged posts of its valid split and is empty without one.

    ``checksums`` has the SHA-256 of each file that was read, by what it is for. ``texts`` says that the source is a
    file of texts. ``untagged_valid`` counts the posts of
    the valid split without tags, ``held_out`` those that are kept out of training.
    """

    name: str
    train: list[LabeledPost]
    valid: list[LabeledPost]
    image_features: Path | None
    checksums: dict[str, str]
    texts: bool = False
    untagged_valid: int = 0
    held_out: int = 0

    def summary(self, max_span_width: int) -> str:
        """Describe the part in a line; entities wider than ``max_span_width`` words cannot be found."""
        tagged = sum(post.entities is not None for post in self.train)
        with_image = sum(post.image is not None for post in self.train)
        features = f", image features from {self.image_features}" if self.image_features else ""
        untagged = f" and {self.untagged_valid} without tags, left out" if self.untagged_valid else ""
        entities = [entity for post in self.train + self.valid for entity in post.entities or ()]
        wide = sum(entity.end - entity.start >= max_span_width for entity in entities)
        held_out = f", {self.held_out} more kept out" if self.held_out else ""
        missed = f"; {wide} of {len(entities)} entities wider than {max_span_width} words, never found" if wide else ""
        return (
            f"{self.name}: {len(self.train)} training posts, {tagged} tagged, {with_image} with a photo{held_out}; "
            f"{len(self.valid)} valid posts{untagged}{missed}{features}"
        )

    def without(self, unreadable: Collection[Path]) -> "Part":
        """The part without these images."""

        def check(post: LabeledPost) -> LabeledPost:
            if post.image not in unreadable:
                return post
            return replace(post, image=None, unusable_image=UnusableImage(str(post.image), "unreadable"))

        return replace(self, train=list(map(check, self.train)), valid=list(map(check, self.valid)))

    def images(self) -> list[Path]:
        """The images of all its posts."""
        return [post.image for post in self.train + self.valid if post.image is not None]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All parts, and the id of each post that is held out of training."""

    parts: list[Part]
    held_out: list[str] = field(default_factory=list)

    @classmethod
    def read(
        cls,
        sources: Sequence[DataSource],
        *,
        held_out: int,
        split_retweets: bool = False,
        max_texts: int | None = None,
    ) -> Self:
        """Read every source and hold out ``held_out`` posts without tags, none of them from a file of texts.

        Of each such file, ``max_texts`` posts are kept. ``split_retweets`` applies
        :func:`training.data.posts.split_retweet` to the training posts.

        Raises:
            FileNotFoundError: a train split is missing.
            DatasetError: a file is malformed, or a split has no entity or a type that training does not have.
            ValueError: all posts without tags would be held out.
        """
        names = [source.name for source in sources]
        parts = []
        for name, source in zip(distinct_names(names), sources, strict=True):
            valid = source.read("valid") if source.file("valid") else []
            tagged = [post for post in valid if post.entities is not None]
            train = source.read("train")
            if source.texts and max_texts is not None:
                train = chosen_by_hash(train, max_texts)
            part = Part(
                name=name,
                train=[split_retweet(post) if split_retweets else post for post in train],
                valid=tagged,
                image_features=source.image_features,
                texts=source.texts,
                checksums=source.checksums(),
                untagged_valid=len(valid) - len(tagged),
            )
            parts.append(part)
        chosen = held_out_posts([post for part in parts if not part.texts for post in part.train], held_out)
        data = cls([_hold_out(part, chosen) for part in parts], sorted(post.id for post in chosen))
        if not data.types:
            raise UnusableSplit(None, None, f"no entity is tagged in the training data of {', '.join(names)}", names)
        if held_out and chosen and not data.untagged:
            raise ValueError(f"held_out={held_out} would keep all {len(chosen)} posts without tags out of training")
        for source, part in zip(sources, data.parts, strict=True):
            if part.valid and not entity_types(part.valid):
                message = "no entity is tagged, so that nothing can be measured on it"
                raise UnusableSplit(source.file("valid"), None, message, 0)
            for post in part.valid:
                _check_types(post, data.types)
        return data

    @property
    def types(self) -> list[str]:
        """The entity types that occur in training."""
        return entity_types(post for part in self.parts for post in part.train)

    @property
    def untagged(self) -> int:
        """The number of training posts without tags."""
        return sum(post.entities is None for part in self.parts for post in part.train)

    def tagged_text(self) -> "TrainingData":
        """The tagged posts without their images, for a text-only model."""

        def texts(posts: Iterable[LabeledPost]) -> list[LabeledPost]:
            return [replace(post, image=None, unusable_image=None) for post in posts if post.entities is not None]

        changed = (
            replace(own, train=texts(own.train), valid=texts(own.valid), image_features=None) for own in self.parts
        )
        return TrainingData([part for part in changed if part.train])

    def taught(self, logits: Sequence[Tensor]) -> "TrainingData":
        """Give each training post, in the order of the parts, its teacher's logits."""
        own = iter(logits)
        taught = [[replace(post, teacher_logits=next(own)) for post in part.train] for part in self.parts]
        return replace(self, parts=[replace(part, train=posts) for part, posts in zip(self.parts, taught, strict=True)])

    def with_recased(self, share: float, seed: int) -> "TrainingData":
        """Add copies in small letters of a random share of the training posts, and copies in capitals of another.

        The copies have no image: InfoNCE would contrast them with the image of their own original.
        """
        draw = random.Random(seed)  # noqa: S311 - nothing secret

        def copy(post: LabeledPost, casing: Casing) -> LabeledPost:
            own = replace(post, id=f"{post.id} ({casing})", image=None, unusable_image=None, image_id=None)
            return recased(own, casing)

        def add(posts: list[LabeledPost]) -> list[LabeledPost]:
            count = round(share * len(posts))
            return posts + [copy(post, casing) for casing in get_args(Casing) for post in draw.sample(posts, count)]

        return replace(self, parts=[replace(part, train=add(part.train)) for part in self.parts])


def held_out_posts(posts: Iterable[LabeledPost], count: int) -> list[LabeledPost]:
    """Choose ``count`` posts without tags by :func:`chosen_by_hash`."""
    return chosen_by_hash([post for post in posts if post.entities is None], count)


def chosen_by_hash(posts: Sequence[LabeledPost], count: int) -> list[LabeledPost]:
    """Choose, in their given order, the ``count`` posts whose ids have the smallest SHA-256.

    The choice does not depend on that order.
    """
    ranked = sorted(posts, key=lambda post: hashlib.sha256(post.id.encode()).digest())
    chosen = set(map(id, ranked[:count]))  # by object: several posts may share an id
    return [post for post in posts if id(post) in chosen]


def _check_types(post: LabeledPost, known: Sequence[str]) -> None:
    if foreign := sorted({entity.type for entity in post.entities or ()} - set(known)):
        assert post.place is not None  # it was read from a file
        message = f"post {post.id}: expected the training data's types, {', '.join(known)}; not {', '.join(foreign)}"
        raise UnusablePost(*post.place, message, foreign)


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names of the sources; one that several share gets its position appended."""
    distinct: list[str] = []
    for position, name in enumerate(names):
        own = name if names.count(name) == 1 else f"{name}-{position}"
        while own in distinct or (own != name and own in names):
            own += f"-{position}"
        distinct.append(own)
    return distinct


def _hold_out(part: Part, chosen: Sequence[LabeledPost]) -> Part:
    held_out = set(map(id, chosen))
    train = [post for post in part.train if id(post) not in held_out]
    return replace(part, train=train, held_out=len(part.train) - len(train))
