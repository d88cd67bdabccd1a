"""A training run, from data to checkpoint."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from model import SMNER, SMNERProcessor
from model.checkpoint import CHECKSUM_FILE, save_checkpoint
from training.dataset import Collator, PostDataset
from training.encoders import FrozenImageEncoder, build
from training.evaluation import predict, score
from training.image_features import ImageFeatureFile, cache_images
from training.model_card import model_card
from training.posts import LabelledPost, entity_types
from training.recipe import Recipe
from training.sources import DataSource
from training.trainer import SMNERTrainer


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run ended with: F1 on each valid split, and where the checkpoint is."""

    f1: dict[str, float]
    checkpoint: Path


def train(recipe: Recipe, sources: Sequence[DataSource], output: Path, *, resume: bool = False) -> RunResult:
    """Train by a recipe and leave a complete checkpoint in ``output``.

    Args:
        sources: data to train on; those with a valid split also choose the best epoch.
        output: empty or new, unless ``resume``.
        resume: go on from the last checkpoint of an interrupted run.

    Raises:
        FileExistsError: ``output`` holds another run.
    """
    if output.exists() and any(output.iterdir()) and not resume:
        raise FileExistsError(f"{output} is not empty: choose another folder, or go on with --resume")
    output.mkdir(parents=True, exist_ok=True)
    data = _Data.read(sources, held_out=recipe.held_out)
    (output / "recipe.json").write_text(recipe.model_dump_json(indent=2) + "\n", "utf-8")
    (output / "held_out.txt").write_text("".join(f"{name}\n" for name in data.held_out), "utf-8")
    if recipe.teacher is not None:
        data = _tagged_by_teacher(recipe.teacher, data, sources, output / "teacher", resume=resume)

    set_seed(recipe.seed)
    ready = [ImageFeatureFile(source.image_features) if source.image_features else None for source in sources]
    model, processor = build(recipe, data.types, image_feature_size=_foreign_feature_size(recipe, ready))
    features = list(ready)
    if model.image_encoder is not None and not recipe.fine_tune_image_encoder:
        encoder = FrozenImageEncoder(str(recipe.image_encoder), model.image_encoder.eval(), processor.photos)
        features = [
            file or _cached_features(encoder, posts, output / f"image-features-{i}.safetensors")
            for i, (file, posts) in enumerate(zip(ready, data.all_posts(), strict=True))
        ]
    collator = Collator(processor, model.config.label2id, recipe.max_span_width)
    valid = zip(data.names, _datasets(data.valid, processor, features, recipe), strict=True)
    trainer = SMNERTrainer(
        model,
        recipe,
        collator,
        train=_datasets(data.train, processor, features, recipe),
        valid={name: part for name, part in valid if len(part)},
        output=output / "checkpoints",
    )
    trainer.train(resume_from_checkpoint=resume and any((output / "checkpoints").glob("checkpoint-*")))
    return _finish(recipe, trainer, processor, sources, data, output)


@dataclass(frozen=True, slots=True)
class _Data:
    """Posts for training and validation, a list a source; a source without a valid split has none there."""

    train: list[list[LabelledPost]]
    valid: list[list[LabelledPost]]
    names: list[str]
    held_out: list[str]

    @classmethod
    def read(cls, sources: Sequence[DataSource], *, held_out: int) -> "_Data":
        train = [source.read("train") for source in sources]
        valid = [source.read("valid") if source.file("valid") else [] for source in sources]
        names = [f"{source.path.stem}" for source in sources]
        unique = [name if names.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(names)]
        kept_out = held_out_ids((post for part in train for post in part if post.entities is None), held_out)
        train = [[post for post in part if post.entities is not None or post.id not in kept_out] for part in train]
        return cls(train, valid, unique, sorted(kept_out))

    @property
    def types(self) -> list[str]:
        return entity_types(post for part in self.train for post in part)

    def all_posts(self) -> list[list[LabelledPost]]:
        return [train + valid for train, valid in zip(self.train, self.valid, strict=True)]


def held_out_ids(posts: Any, count: int) -> set[str]:
    """The ``count`` ids with the smallest SHA-256: the same ones whatever the order of the file."""
    ranked = sorted({post.id for post in posts}, key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ranked[:count])


def _tagged_by_teacher(
    recipe_name: str, data: _Data, sources: Sequence[DataSource], folder: Path, *, resume: bool
) -> _Data:
    """Train the text-only teacher on the tagged posts and let it tag the others."""
    recipe = Recipe.load(recipe_name)
    tagged = [s for s, posts in zip(sources, data.train, strict=True) if any(p.entities is not None for p in posts)]
    if not (folder / CHECKSUM_FILE).is_file():
        train(recipe, [replace(s, images=None, image_features=None) for s in tagged], folder, resume=resume)
    model = SMNER.from_pretrained(folder, dtype=torch.float32)
    processor = SMNERProcessor.from_pretrained(folder)
    collator = Collator(processor, model.config.label2id, recipe.max_span_width)

    def tag(posts: list[LabelledPost]) -> list[LabelledPost]:
        untagged = [post for post in posts if post.entities is None]
        found = iter(predict(model, PostDataset(untagged, processor), collator, progress=True))
        return [post if post.entities is not None else replace(post, entities=next(found)) for post in posts]

    return replace(data, train=[tag(posts) for posts in data.train])


def _foreign_feature_size(recipe: Recipe, ready: Sequence[ImageFeatureFile | None]) -> int | None:
    """C of ready features that do not come from the recipe's encoder; None if there are none."""
    sizes = {file.feature_size for file in ready if file is not None and file.encoder != recipe.image_encoder}
    if len(sizes) > 1:
        raise ValueError(f"the image-feature files have different widths: {sorted(sizes)}")
    return sizes.pop() if sizes else None


def _cached_features(encoder: FrozenImageEncoder, posts: Sequence[LabelledPost], path: Path) -> ImageFeatureFile | None:
    """Features of the posts' photos, encoded now unless an interrupted run has left them; None without photos."""
    photos = [post.photo for post in posts if post.photo is not None]
    if not photos:
        return None
    if path.is_file() and ImageFeatureFile(path).metadata.get("fingerprint") == encoder.fingerprint():
        return ImageFeatureFile(path)
    for photo in cache_images(photos, path, encoder):
        print(f"{photo}: cannot be read, its post is trained as one without a photo")
    return ImageFeatureFile(path)


def _datasets(
    parts: Sequence[list[LabelledPost]],
    processor: SMNERProcessor,
    features: Sequence[ImageFeatureFile | None],
    recipe: Recipe,
) -> list[PostDataset]:
    return [
        PostDataset(posts, processor, features=file, decode_photos=recipe.fine_tune_image_encoder)
        for posts, file in zip(parts, features, strict=True)
    ]


def _finish(
    recipe: Recipe,
    trainer: SMNERTrainer,
    processor: SMNERProcessor,
    sources: Sequence[DataSource],
    data: _Data,
    output: Path,
) -> RunResult:
    """Round the weights as they will be stored, measure them, and write the checkpoint."""
    model: SMNER = trainer.accelerator.unwrap_model(trainer.model)
    dtype = torch.float16 if recipe.half_precision else torch.float32
    model.to(dtype).float()
    scores = {name: score(part.posts, predict(model, part, trainer.collator)) for name, part in trainer.valid.items()}
    card = model_card(
        recipe,
        scores=scores,
        parameters=sum(p.numel() for p in model.parameters()),
        types=data.types,
        posts={name: len(part) for name, part in zip(data.names, data.train, strict=True)},
        photos={
            name: sum(map(part.has_image, range(len(part))))
            for name, part in zip(data.names, trainer.parts, strict=True)
        },
        checksums={name: source.checksum("train") for name, source in zip(data.names, sources, strict=True)},
        held_out=len(data.held_out),
    )
    (output / "scores.json").write_text(
        json.dumps({name: asdict(value) for name, value in scores.items()}, indent=2) + "\n", "utf-8"
    )
    save_checkpoint(output, model.to(dtype), processor, model_card=card)
    return RunResult({name: value.f1 for name, value in scores.items()}, output)
