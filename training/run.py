"""A training run, from data to checkpoint.

The output folder is the checkpoint; what else the run leaves (recipe, held-out ids, scores, image features, the
trainer's own checkpoints, the teacher) lies in its subfolder ``run``.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from transformers import set_seed

from model import SMNER, SMNERProcessor
from model.checkpoint import CHECKSUM_FILE, load_model, save_checkpoint
from model.recognizer import choose_device
from training.data import Part, TrainingData
from training.dataset import Collator, PostDataset
from training.encoders import FrozenImageEncoder, build
from training.evaluation import predict, score
from training.image_features import ImageFeatureFile, cache_images
from training.model_card import model_card
from training.posts import LabelledPost
from training.recipe import Recipe
from training.sources import DataSource
from training.temperature import fit_temperature
from training.trainer import SMNERTrainer

RUN_FOLDER = "run"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run ended with: F1 on each valid split, and where the checkpoint is."""

    f1: dict[str, float]
    checkpoint: Path


def train(recipe: Recipe, sources: Sequence[DataSource], output: Path, *, resume: bool = False) -> RunResult:
    """Train by a recipe and leave a complete checkpoint in ``output``.

    Args:
        sources: data to train on; those with a valid split also choose the best epoch.
        output: without another run in it, unless ``resume``.
        resume: go on from the last checkpoint of an interrupted run.

    Raises:
        FileExistsError: ``output`` holds another run.
        ValueError: the data, the recipe and the run to go on with do not fit together; the message says how.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("a run in several processes is not supported; use one device")
    data = TrainingData.read(sources, held_out=recipe.held_out, split_retweets=recipe.split_retweets)
    for part in data.parts:
        print(part.summary())
    return _train(recipe, data, output, resume=resume)


def _train(recipe: Recipe, data: TrainingData, output: Path, *, resume: bool) -> RunResult:
    run = output / RUN_FOLDER
    set_seed(recipe.seed)
    ready = [ImageFeatureFile(part.image_features) if part.image_features else None for part in data.parts]
    model, processor = build(recipe, data.types, image_feature_size=_foreign_feature_size(recipe, data, ready))
    model.to(choose_device("auto"))
    _claim(run, recipe, data, resume=resume)
    if recipe.teacher is not None:
        data = _tagged_by_teacher(Recipe.load(recipe.teacher), data, run / "teacher", resume=resume)

    features = list(ready)
    if model.image_encoder is not None and not recipe.fine_tune_image_encoder:
        encoder = FrozenImageEncoder(str(recipe.image_encoder), model.image_encoder.eval(), processor.photos)
        _check_fingerprints(encoder, data, ready)
        features = [
            file or _cached_features(encoder, part, run / f"image-features-{part.name}.safetensors")
            for file, part in zip(ready, data.parts, strict=True)
        ]

    def dataset(posts: list[LabelledPost], part: Part, file: ImageFeatureFile | None) -> PostDataset:
        return PostDataset(
            posts,
            processor,
            features=file,
            features_by_id=part.image_features is not None,
            decode_photos=recipe.fine_tune_image_encoder,
        )

    sources = list(zip(data.parts, features, strict=True))
    trainer = SMNERTrainer(
        model,
        recipe,
        Collator(processor, model.config.label2id, recipe.max_span_width),
        train=[dataset(part.train, part, file) for part, file in sources],
        valid={part.name: dataset(part.valid, part, file) for part, file in sources if part.valid},
        output=run / "checkpoints",
    )
    trainer.train(resume_from_checkpoint=_last_checkpoint(run / "checkpoints") if resume else None)
    return _finish(recipe, trainer, processor, data, output)


def _claim(run: Path, recipe: Recipe, data: TrainingData, *, resume: bool) -> None:
    """Make the folder this run's, or see that it is the one to go on with."""
    record = {"recipe": recipe.model_dump(mode="json"), "data": {part.name: part.checksum for part in data.parts}}
    file = run / "recipe.json"
    if not file.is_file():
        if run.parent.is_dir() and any(path.name != RUN_FOLDER for path in run.parent.iterdir()):
            raise FileExistsError(f"{run.parent} is not empty: choose another folder")
        run.mkdir(parents=True, exist_ok=True)
        (run / "held_out.txt").write_text("".join(f"{name}\n" for name in data.held_out), "utf-8")
        file.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        return
    if not resume:
        raise FileExistsError(f"{run.parent} holds another run: choose another folder, or go on with --resume")
    begun = json.loads(file.read_text("utf-8"))
    changed = [
        f"{key} {before.get(key)} → {now.get(key)}"
        for before, now in ((begun["recipe"], record["recipe"]), (begun["data"], record["data"]))
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise ValueError(f"--resume goes on with the recipe and data it began with, but: {', '.join(changed)}")


def _last_checkpoint(folder: Path) -> str | None:
    """The last one that was written to its end: the trainer's state comes last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _tagged_by_teacher(recipe: Recipe, data: TrainingData, folder: Path, *, resume: bool) -> TrainingData:
    """Train the text-only teacher on the tagged posts and let it tag the others."""
    if not (folder / CHECKSUM_FILE).is_file():
        _train(recipe, data.tagged_text(), folder, resume=resume)
    model, processor = load_model(folder).to(choose_device("auto")), SMNERProcessor.from_pretrained(folder)
    collator = Collator(processor, model.config.label2id, recipe.max_span_width)

    def tag(posts: list[LabelledPost]) -> list[LabelledPost]:
        found = predict(model, PostDataset(posts, processor), collator, progress=True)
        return [replace(post, entities=entities) for post, entities in zip(posts, found, strict=True)]

    return data.tagged_by(tag)


def _foreign_feature_size(recipe: Recipe, data: TrainingData, ready: Sequence[ImageFeatureFile | None]) -> int | None:
    """C of ready features if some do not come from the recipe's encoder, which is left out of the model then."""
    files = [file for file in ready if file is not None]
    if files and recipe.fine_tune_image_encoder:
        raise ValueError("fine_tune_image_encoder needs photos, and --image-features gives what is made of them")
    if all(file.encoder == recipe.image_encoder for file in files):
        return None
    unencoded = [part.name for part, file in zip(data.parts, ready, strict=True) if file is None and part.photos()]
    if unencoded:
        raise ValueError(
            f"the photos of {', '.join(unencoded)} would not be used: other sources have ready features of an encoder "
            f"that is not the recipe's; give --image-features for all of them"
        )
    sizes = {file.feature_size for file in files}
    if len(sizes) > 1:
        raise ValueError(f"the image-feature files have different widths: {sorted(sizes)}")
    return sizes.pop()


def _check_fingerprints(
    encoder: FrozenImageEncoder, data: TrainingData, ready: Sequence[ImageFeatureFile | None]
) -> None:
    """Features of the recipe's architecture with other weights would train for an encoder that is not in the model."""
    for part, file in zip(data.parts, ready, strict=True):
        if file is not None and file.metadata.get("fingerprint", encoder.fingerprint()) != encoder.fingerprint():
            raise ValueError(f"{part.image_features}: made by {file.encoder} with other weights or photo settings")


def _cached_features(encoder: FrozenImageEncoder, part: Part, path: Path) -> ImageFeatureFile | None:
    """Features of a part's photos, encoded now unless an interrupted run has left them; None without photos."""
    photos = part.photos()
    if not photos:
        return None
    if path.is_file() and ImageFeatureFile(path).metadata.get("fingerprint") == encoder.fingerprint():
        return ImageFeatureFile(path)
    for photo in cache_images(photos, path, encoder):
        print(f"{photo}: cannot be read, its post is trained as one without a photo")
    return ImageFeatureFile(path)


def _finish(
    recipe: Recipe, trainer: SMNERTrainer, processor: SMNERProcessor, data: TrainingData, output: Path
) -> RunResult:
    """Round the weights as they will be stored, calibrate and measure them, and write the checkpoint."""
    model: SMNER = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    dtype = torch.float16 if recipe.half_precision else torch.float32
    model.to(dtype).float()
    if trainer.valid:
        model.config.score_temperature = fit_temperature(model, list(trainer.valid.values()), trainer.collator)
    scores = {name: score(part.posts, predict(model, part, trainer.collator)) for name, part in trainer.valid.items()}
    card = model_card(
        recipe,
        scores=scores,
        parameters=sum(p.numel() for p in model.parameters()),
        types=data.types,
        posts={part.name: len(part.train) for part in data.parts},
        photos={part.name: own.photos() for part, own in zip(data.parts, trainer.parts, strict=True)},
        checksums={part.name: part.checksum for part in data.parts},
        held_out=len(data.held_out),
    )
    report = json.dumps({name: asdict(value) for name, value in scores.items()}, indent=2)
    (output / RUN_FOLDER / "scores.json").write_text(report + "\n", "utf-8")
    save_checkpoint(output, model.to(dtype), processor, model_card=card)
    return RunResult({name: value.f1 for name, value in scores.items()}, output)
