"""What every system is trained on: the same tagged posts, and image features that are computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model import SMNERProcessor
from tests.benchmarks.quality.teacher import describe_teacher, tag_by_teacher
from training.data.dataset import PostDataset
from training.data.posts import LabeledPost
from training.data.sources import DataSource
from training.data.training_data import Part, TrainingData
from training.features.cache import cache_images
from training.features.image_encoder import FrozenImageEncoder
from training.features.image_features import ImageFeatureFile
from training.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class QualityData:
    """Posts that all have tags, gold or the teacher's.

    Attributes:
        features: the image-feature file of each part; None for a part without images.
        gold: the posts of each part's train split that came with tags.
        description: everything that results depend on: checksums, counts, what describes the teacher.
    """

    parts: list[Part]
    features: list[Path | None]
    gold: list[list[LabeledPost]]
    types: list[str]
    description: dict[str, Any]

    @property
    def feature_size(self) -> int | None:
        """C, the width of the image features; None without images."""
        sizes = {ImageFeatureFile(path).feature_size for path in self.features if path is not None}
        if len(sizes) > 1:
            raise ValueError(f"the image features differ in width: {sorted(sizes)}")
        return sizes.pop() if sizes else None

    def gold_only(self) -> "QualityData":
        """The same without the posts that the teacher tagged."""
        return replace(self, parts=[replace(part, train=own) for part, own in zip(self.parts, self.gold, strict=True)])

    def train(self, processor: SMNERProcessor) -> dict[str, PostDataset]:
        """The training posts by part."""
        return {part.name: self._dataset(index, part.train, processor) for index, part in enumerate(self.parts)}

    def valid(self, processor: SMNERProcessor) -> dict[str, PostDataset]:
        """The valid posts by part; parts without any are left out."""
        return {
            part.name: self._dataset(index, part.valid, processor)
            for index, part in enumerate(self.parts)
            if part.valid
        }

    def _dataset(self, index: int, posts: list[LabeledPost], processor: SMNERProcessor) -> PostDataset:
        path = self.features[index]
        features = None if path is None else ImageFeatureFile(path)
        by_id = self.parts[index].image_features is not None
        return PostDataset(posts, processor, features=features, features_by_id=by_id)


def prepare(recipe: Recipe, sources: Sequence[DataSource], work: Path) -> QualityData:
    """Read the sources, let the recipe's teacher tag the posts without tags, and encode the images.

    The teacher's tags and the image features are cached in ``work``.

    Raises:
        ValueError: no source has a valid split, or posts have no tags and the recipe has no teacher.
    """
    data = TrainingData.read(sources, held_out=recipe.held_out, split_retweets=recipe.split_retweets)
    if not any(part.valid for part in data.parts):
        raise ValueError("none of the sources has a valid split to measure on")
    gold = [[post for post in part.train if post.entities is not None] for part in data.parts]
    teacher = None
    if data.untagged:
        if recipe.teacher is None:
            raise ValueError(f"posts without tags need a teacher, and the recipe {recipe.name} has none")
        teacher = describe_teacher(recipe.teacher)
        data = tag_by_teacher(recipe.teacher, data, sources, work)
    features = [_features(recipe, part, work) for part in data.parts]
    description = {
        "teacher": teacher,
        "sources": [
            {
                "name": part.name,
                "train_sha256": part.checksums["train"],
                "valid_sha256": source.checksum("valid"),
                "posts": len(part.train),
                "gold": len(own),
                **_images(part, path),
            }
            for part, path, own, source in zip(data.parts, features, gold, sources, strict=True)
        ],
    }
    return QualityData(data.parts, features, gold, data.types, description)


def _features(recipe: Recipe, part: Part, work: Path) -> Path | None:
    if part.image_features is not None:
        return part.image_features
    images = part.images()
    if not images or recipe.image_encoder is None:
        return None
    path = work / f"images-{part.name}.safetensors"
    encoder = FrozenImageEncoder.load(recipe.image_encoder, recipe.image_encoder_weights, pretrained=recipe.pretrained)
    for image in cache_images(images, path, encoder):  # skips what the file already has
        print(f"{image}: cannot be read, so its post counts as one without an image")
    return path


def _images(part: Part, path: Path | None) -> dict[str, Any]:
    """How many training posts have an image that is used, and what encoded it."""
    if path is None:
        return {"images": 0, "image_encoder": None}
    file, by_id = ImageFeatureFile(path), part.image_features is not None
    used = [(post.image.stem if post.image else post.id if by_id else None) in file for post in part.train]
    return {"images": sum(used), "image_encoder": file.encoder}
