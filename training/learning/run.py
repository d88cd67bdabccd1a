"""A training run, from data to checkpoint.

The output folder is the checkpoint; what else the run leaves (recipe, held-out ids, scores, image features, the
trainer's own checkpoints, the teacher) lies in its subfolder ``run``.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from transformers import TrainerState, set_seed

from model import SMNER, SMNERProcessor
from model.checkpoint import CHECKSUM_FILE, load_model, save_checkpoint
from model.errors import InvalidPost
from model.recognizer import choose_device
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabelledPost
from training.data.sources import DataSource
from training.data.training_data import Part, TrainingData
from training.features.image_features import ImageFeatureFile, by_id, cache_images
from training.learning.encoders import FrozenImageEncoder, build
from training.learning.launch import join_processes, on_main_process
from training.learning.model_card import model_card
from training.learning.run_folder import (
    METRICS_FILE,
    RUN_FOLDER,
    MetricsFile,
    claim,
    last_checkpoint,
    list_unusable_images,
    write_json,
)
from training.learning.trainer import SMNERTrainer, check_tracker
from training.recipes.recipe import Recipe
from training.scoring.evaluation import Scores, predict, score
from training.scoring.temperature import fit_temperature


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run ended with: F1 on each valid split, and where the checkpoint is."""

    f1: dict[str, float]
    checkpoint: Path


def train(recipe: Recipe, sources: Sequence[DataSource], output: Path, *, resume: bool = False) -> RunResult:
    """Train by a recipe and leave a complete checkpoint in ``output``.

    Several processes that torchrun started train together; their batches are parts of one.

    Args:
        sources: data to train on; those with a valid split also choose the best epoch.
        output: without another run in it, unless ``resume``.
        resume: go on from the last checkpoint of an interrupted run.

    Raises:
        FileExistsError: ``output`` holds another run.
        ValueError: the data, the recipe and the run to go on with do not fit together; the message says how.
        OSError: something cannot be written; the last checkpoint that could is still there.
    """
    say = join_processes().print
    data = TrainingData.read(sources, held_out=recipe.held_out, split_retweets=recipe.split_retweets)
    for part in data.parts:
        say(part.summary(recipe.max_span_width))
    # Trainer remembers by its path which checkpoint was best, and a run may go on from another folder
    return _train(recipe, data, output.resolve(), resume=resume)


def _train(recipe: Recipe, data: TrainingData, output: Path, *, resume: bool) -> RunResult:
    run = output / RUN_FOLDER
    check_tracker(recipe)
    teacher = Recipe.load(recipe.teacher) if recipe.teacher is not None else None
    teacher = teacher if data.untagged else None
    set_seed(recipe.seed)
    ready = [ImageFeatureFile(part.image_features) if part.image_features else None for part in data.parts]
    model, processor = build(recipe, data.types, image_feature_size=_foreign_feature_size(recipe, data, ready))
    encoder = None
    if model.image_encoder is not None and not recipe.fine_tune_image_encoder:
        encoder = FrozenImageEncoder(str(recipe.image_encoder), model.image_encoder.eval(), processor.image_settings)
    _check(data, ready, processor, encoder)
    model.to(choose_device("auto"))
    on_main_process(lambda: claim(run, recipe, data, resume=resume))
    if teacher is not None:
        data = _tagged_by_teacher(teacher, data, run / "teacher", resume=resume)

    features = list(ready)
    broken: list[list[Path]] = [[] for _ in data.parts]
    if recipe.fine_tune_image_encoder:
        broken = on_main_process(lambda: [_unreadable(part, processor) for part in data.parts])
    elif encoder is not None:
        for i, (part, file) in enumerate(zip(data.parts, ready, strict=True)):
            if file is None and part.images():
                path = run / f"image-features-{part.name}.safetensors"
                broken[i] = on_main_process(partial(cache_images, part.images(), path, encoder))
                features[i] = ImageFeatureFile(path) if path.is_file() else None
    data = replace(data, parts=[part.without(images) for part, images in zip(data.parts, broken, strict=True)])

    def dataset(posts: list[LabelledPost], part: Part, file: ImageFeatureFile | None) -> PostDataset:
        return PostDataset(
            posts,
            processor,
            features=file,
            features_by_id=part.image_features is not None,
            decode_images=recipe.fine_tune_image_encoder,
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
    trainer.add_callback(MetricsFile(run / METRICS_FILE))
    on_main_process(lambda: _report_images(run, data, trainer))
    _fit(trainer, run / "checkpoints", resume=resume)
    return _finish(recipe, trainer, processor, data, output, taught=teacher is not None)


def _check(
    data: TrainingData,
    ready: Sequence[ImageFeatureFile | None],
    processor: SMNERProcessor,
    encoder: FrozenImageEncoder | None,
) -> None:
    """See that posts and photos can be used, before the folder is this run's and anything takes long.

    Raises:
        ValueError: a text is too long, photos cannot be told apart or features are not the encoder's.
    """
    for part, file in zip(data.parts, ready, strict=True):
        PostDataset(part.train + part.valid, processor)
        if encoder is not None and file is not None:
            file.check(encoder)
        elif encoder is not None:
            by_id(part.images())
    if len(regions := {file.rows - 1 for file in ready if file is not None}) > 1:
        raise ValueError(f"the image-feature files have different numbers of regions: {sorted(regions)}")


def _fit(trainer: SMNERTrainer, checkpoints: Path, *, resume: bool) -> None:
    """Train to the end, from the last checkpoint on if there is one to go on from."""
    last = on_main_process(lambda: last_checkpoint(checkpoints)) if resume else None
    if last is None or not last.finished:
        trainer.train(resume_from_checkpoint=None if last is None else last.checkpoint)
    else:  # Trainer would train beyond the end, since it does not look whether it had stopped early
        trainer.state = TrainerState.load_from_json(f"{last.checkpoint}/trainer_state.json")
        trainer._load_from_checkpoint(last.best)


def _unreadable(part: Part, processor: SMNERProcessor) -> list[Path]:
    """The photos that cannot be decoded, looked for once instead of in every epoch."""
    found = []
    for image in part.images():
        try:
            processor.decode_image(image)
        except (InvalidPost, OSError):
            found.append(image)
    return found


def _report_images(run: Path, data: TrainingData, trainer: SMNERTrainer) -> None:
    """Say how many photos training has and goes without, and list the latter."""
    names = [part.name for part in data.parts]
    file = run / "lost-photos.tsv"
    list_unusable_images(file, [*zip(names, trainer.parts, strict=True), *trainer.valid.items()])
    for name, own in zip(names, trainer.parts, strict=True):
        lost = Counter(image.reason for i in range(len(own)) if (image := own.unusable_image(i)) is not None)
        counts = ", ".join(f"{count} {reason}" for reason, count in lost.items())
        print(
            f"{name}: {own.images()} training posts have a photo{counts and f'; not used: {counts}, listed in {file}'}"
        )


def _tagged_by_teacher(recipe: Recipe, data: TrainingData, folder: Path, *, resume: bool) -> TrainingData:
    """Train the text-only teacher on the tagged posts and let it tag the others."""
    text = data.tagged_text()
    if on_main_process(lambda: (folder / CHECKSUM_FILE).is_file()):
        on_main_process(lambda: claim(folder / RUN_FOLDER, recipe, text, resume=resume))
    else:
        _train(recipe, text, folder, resume=resume)
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
    foreign = [file for file in files if file.encoder != recipe.image_encoder]
    if not foreign:
        return None
    if recipe.image_encoder is not None:  # another program's encoder cannot be had; one of smner-cache-images' can
        for file in foreign:
            if "fingerprint" in file.metadata:
                raise ValueError(f"{file.path}: features of {file.encoder}, not of {recipe.image_encoder}")
    unencoded = [part.name for part, file in zip(data.parts, ready, strict=True) if file is None and part.images()]
    if unencoded:
        raise ValueError(
            f"the photos of {', '.join(unencoded)} would not be used: other sources have ready features of an encoder "
            f"that is not the recipe's; give --image-features for all of them"
        )
    sizes = {file.feature_size for file in files}
    if len(sizes) > 1:
        raise ValueError(f"the image-feature files have different widths: {sorted(sizes)}")
    made_by_others = ", ".join(str(file.path) for file in foreign)
    join_processes().print(
        f"the recipe's image encoder did not make {made_by_others}: it is left out of the checkpoint, which will read "
        f"ready features and no photos"
    )
    return sizes.pop()


def _finish(
    recipe: Recipe,
    trainer: SMNERTrainer,
    processor: SMNERProcessor,
    data: TrainingData,
    output: Path,
    *,
    taught: bool,
) -> RunResult:
    """Round the weights as they will be stored, calibrate and measure them, and write the checkpoint."""
    weights = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else None  # of all processes

    def finish() -> dict[str, Scores]:
        model: SMNER = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        if weights is not None:
            device, model = model.device, SMNER(model.config)
            model.load_state_dict(weights)
            model.to(device).eval()
        dtype = torch.float16 if recipe.half_precision else torch.float32
        model.to(dtype).float()
        if not all(parameter.isfinite().all() for parameter in model.parameters()):
            raise ValueError(
                "the training has diverged: there are weights that are no numbers; lower its learning rates"
            )
        if trainer.valid:
            model.config.score_temperature = fit_temperature(model, list(trainer.valid.values()), trainer.collator)
        scores = {name: score(own.posts, predict(model, own, trainer.collator)) for name, own in trainer.valid.items()}
        card = model_card(
            recipe,
            scores=scores,
            parameters=sum(p.numel() for p in model.parameters()),
            types=data.types,
            posts={part.name: len(part.train) for part in data.parts},
            images={part.name: own.images() for part, own in zip(data.parts, trainer.parts, strict=True)},
            checksums={part.name: part.checksums["train"] for part in data.parts},
            held_out=len(data.held_out),
            taught=taught,
        )
        write_json(output / RUN_FOLDER / "scores.json", {name: asdict(value) for name, value in scores.items()})
        save_checkpoint(output, model.to(dtype), processor, model_card=card)
        return scores

    return RunResult({name: value.f1 for name, value in on_main_process(finish).items()}, output)
