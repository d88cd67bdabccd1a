"""What all systems are trained on: the same tagged posts, and photos as features that were computed once."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model import SMNERProcessor
from model.checkpoint import CHECKSUM_FILE, load_model
from model.device import choose_device
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabelledPost, TypedWords
from training.data.sources import DataSource
from training.data.training_data import Part, TrainingData
from training.features.image_features import ImageFeatureFile, cache_images
from training.learning.encoders import FrozenImageEncoder
from training.learning.run import train
from training.recipes.recipe import Recipe
from training.scoring.evaluation import predict


@dataclass(frozen=True, slots=True)
class QualityData:
    """Posts that all have tags, gold or the teacher's; ``features`` has each part's photos, None where it has none.

    Attributes:
        gold: the tagged posts of each part's train split as its people have tagged them.
        description: of what every result depends on, checksums above all.
        seconds: that tags and photos took to prepare.
    """

    parts: list[Part]
    features: list[ImageFeatureFile | None]
    gold: list[list[LabelledPost]]
    types: list[str]
    description: dict[str, Any]
    seconds: float

    @property
    def feature_size(self) -> int | None:
        """C, the width of the image features; None without photos."""
        sizes = {file.feature_size for file in self.features if file is not None}
        if len(sizes) > 1:
            raise ValueError(f"the photos' features have different widths: {sorted(sizes)}")
        return sizes.pop() if sizes else None

    def tagged_by_people(self) -> "QualityData":
        """The same without the posts that only the teacher has tagged."""
        parts = [replace(part, train=gold) for part, gold in zip(self.parts, self.gold, strict=True)]
        return replace(self, parts=parts)

    def train(self, processor: SMNERProcessor) -> list[PostDataset]:
        """The training posts of each part."""
        return [_dataset(part.train, part, file, processor) for part, file in self._with_features()]

    def valid(self, processor: SMNERProcessor) -> dict[str, PostDataset]:
        """The valid posts of the parts that have some."""
        return {
            part.name: _dataset(part.valid, part, file, processor) for part, file in self._with_features() if part.valid
        }

    def _with_features(self) -> list[tuple[Part, ImageFeatureFile | None]]:
        return list(zip(self.parts, self.features, strict=True))


def _dataset(
    posts: list[LabelledPost], part: Part, file: ImageFeatureFile | None, processor: SMNERProcessor
) -> PostDataset:
    return PostDataset(posts, processor, features=file, features_by_id=part.image_features is not None)


def prepare(recipe: Recipe, sources: Sequence[DataSource], work: Path) -> QualityData:
    """Read the sources; let the recipe's teacher tag the posts without tags; encode the photos.

    What the teacher and the image encoder made is kept in ``work`` and found again there.

    Raises:
        ValueError: no source has a valid split, or posts have no tags and the recipe no teacher.
    """
    data = TrainingData.read(sources, held_out=recipe.held_out, split_retweets=recipe.split_retweets)
    if not any(part.valid for part in data.parts):
        raise ValueError("none of the sources has a valid split to measure on")
    gold = [[post for post in part.train if post.entities is not None] for part in data.parts]
    teacher = None
    seconds = 0.0
    if any(post.entities is None for part in data.parts for post in part.train):
        if recipe.teacher is None:
            raise ValueError(f"posts without tags need a teacher, and the recipe {recipe.name} has none")
        teacher = Recipe.load(recipe.teacher)
        data, seconds = _tagged(teacher, data, sources, work)
    began = time.perf_counter()
    features = [_features(recipe, part, work) for part in data.parts]
    return QualityData(
        data.parts,
        features,
        gold,
        data.types,
        {
            "teacher": teacher and teacher.model_dump(mode="json"),
            "sources": [
                {
                    "name": part.name,
                    "train_sha256": part.checksums["train"],
                    "valid_sha256": source.checksum("valid"),
                    "posts": len(part.train),
                    "gold": len(own),
                    "photos": _images(part, file),
                    "image_encoder": file and file.encoder,
                }
                for part, file, own, source in zip(data.parts, features, gold, sources, strict=True)
            ],
        },
        seconds + time.perf_counter() - began,
    )


def fingerprint(settings: Any) -> str:
    """What tells settings apart in a file's name."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def write_whole(path: Path, content: str) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(content, "utf-8")
    os.replace(partial, path)


def _tagged(
    teacher: Recipe, data: TrainingData, sources: Sequence[DataSource], work: Path
) -> tuple[TrainingData, float]:
    """All posts tagged, and the seconds it took to make the teacher's tags."""
    untagged = [post for part in data.parts for post in part.train if post.entities is None]
    read = [part.checksums["train"] for part in data.parts]
    key = fingerprint([teacher.model_dump(mode="json"), read, [(post.id, post.words) for post in untagged]])
    file = work / f"teacher-{key}.json"
    if not file.is_file():
        began = time.perf_counter()
        texts = [DataSource(source.path) for source, part in zip(sources, data.parts, strict=True) if _has_gold(part)]
        tags = _ask_teacher(teacher, texts, untagged, work / f"teacher-{key}")
        write_whole(file, json.dumps({"seconds": time.perf_counter() - began, "tags": tags}))
    kept = json.loads(file.read_text("utf-8"))
    answers = iter(kept["tags"])

    def tagger(posts: list[LabelledPost]) -> list[LabelledPost]:
        return [replace(post, entities=tuple(TypedWords(*entity) for entity in next(answers))) for post in posts]

    return data.tagged_by(tagger), float(kept["seconds"])


def _has_gold(part: Part) -> bool:
    return any(post.entities is not None for post in part.train)


def _ask_teacher(
    teacher: Recipe, texts: Sequence[DataSource], posts: list[LabelledPost], folder: Path
) -> list[tuple[TypedWords, ...]]:
    """Train the teacher, unless it is there, or go on training it; what it finds in each post."""
    if not (folder / CHECKSUM_FILE).is_file():
        train(teacher, texts, folder, resume=(folder / "run").is_dir())
    model, processor = load_model(folder).to(choose_device("auto")), SMNERProcessor.from_pretrained(folder)
    collator = Collator(processor, model.config.label2id, teacher.max_span_width)
    return predict(model, PostDataset(posts, processor), collator, progress=True)


def _features(recipe: Recipe, part: Part, work: Path) -> ImageFeatureFile | None:
    if part.image_features is not None:
        return ImageFeatureFile(part.image_features)
    images = part.images()
    if not images or recipe.image_encoder is None:
        return None
    path = work / f"photos-{part.name}.safetensors"
    encoder = FrozenImageEncoder.load(recipe.image_encoder, recipe.image_encoder_weights, pretrained=recipe.pretrained)
    for image in cache_images(images, path, encoder):  # which knows what it has encoded before
        print(f"{image}: cannot be read, its post is one without a photo")
    return ImageFeatureFile(path)


def _images(part: Part, file: ImageFeatureFile | None) -> int:
    """How many training posts have a photo that is used."""
    if file is None:
        return 0
    by_id = part.image_features is not None
    return sum((post.image.stem if post.image else post.id if by_id else None) in file for post in part.train)
