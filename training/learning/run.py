"""A training run, from data to checkpoint.

The output folder is the checkpoint. Everything else that the run writes (recipe, held-out ids, scores, image features,
the trainer's own checkpoints, the teacher) is in its subfolder ``run``.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

from transformers import TrainerState, set_seed

from model import SMNER, SMNERProcessor
from model.checkpoint import CHECKSUM_FILE, checkpoint_folder, save_checkpoint
from model.device import choose_device
from model.weights import round_weights, stored_weights
from training.cards.card import card_files
from training.cards.measurement import measure
from training.cards.quality import CASINGS, SplitQuality
from training.cards.record import TrainingRecord
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost
from training.data.sources import DataSource
from training.data.training_data import Part, TrainingData
from training.features.image_features import ImageFeatureFile
from training.learning import images
from training.learning.distributed import join_processes, on_main_process
from training.learning.network import build
from training.learning.objective import Objective
from training.learning.run_folder import CHECKPOINTS_FOLDER, RUN_FOLDER, MetricsFile, claim, last_checkpoint, write_json
from training.learning.teacher import Teacher
from training.learning.trainer import SMNERTrainer, check_tracker, in_bfloat16
from training.recipes.recipe import Recipe
from training.scoring.scores import Scores
from training.scoring.speed import as_served
from training.scoring.temperature import fit_temperature


class ValidScores(NamedTuple):
    """Scores on a valid split, of all entities and of those of each type."""

    overall: Scores
    by_type: dict[str, Scores]

    @classmethod
    def of(cls, split: SplitQuality) -> Self:
        """Those of the split as it is written."""
        written = CASINGS[0]
        return cls(split.overall[written], {kind: scores[written] for kind, scores in split.by_type.items()})


@dataclass(frozen=True, slots=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        valid: the scores on each valid split, by source.
        best_epoch: the epoch whose weights were kept, out of ``epochs``; not whole if ``max_steps`` ended the run.
        checkpoint: the folder.
    """

    valid: dict[str, ValidScores]
    best_epoch: float
    epochs: float
    checkpoint: Path

    @property
    def f1(self) -> dict[str, float]:
        """F1 on each valid split, as a fraction."""
        return {name: own.overall.f1 for name, own in self.valid.items()}


def train(recipe: Recipe, sources: Sequence[DataSource], output: Path, *, resume: bool = False) -> RunResult:
    """Train by a recipe and write a complete checkpoint to ``output``.

    Processes started by torchrun train together; their batches form one.

    Args:
        sources: data to train on; those with a valid split also choose the best epoch.
        output: folder without a run in it, unless ``resume``.
        resume: continue from the last checkpoint of an interrupted run.

    Raises:
        FileExistsError: ``output`` holds another run.
        ValueError: the data, the recipe and the run to resume do not match; the message says how.
        OSError: a file cannot be written; the last complete checkpoint is kept.
    """
    say = join_processes().print
    data = TrainingData.read(
        sources, held_out=recipe.held_out, split_retweets=recipe.split_retweets, max_texts=recipe.max_texts
    )
    for part in data.parts:
        say(part.summary(recipe.max_span_width))
    # resolved: Trainer stores the best checkpoint's path, and a run may be resumed from another folder
    return _train(recipe, data, output.resolve(), resume=resume)


def _train(recipe: Recipe, data: TrainingData, output: Path, *, resume: bool) -> RunResult:
    run = output / RUN_FOLDER
    check_tracker(recipe)
    teacher = None if recipe.teacher is None else _teacher(recipe.teacher, recipe, data)
    set_seed(recipe.seed)
    features = images.open_features(recipe, data)
    foreign_size = images.foreign_feature_size(recipe, data, features)
    network, processor = build(recipe, data.types, image_feature_size=foreign_size)
    encoder = images.frozen_encoder(recipe, network, processor)
    _check_texts(data, processor)
    images.check(data, features, encoder)
    network.to(choose_device("auto"))
    revision = teacher.revision if isinstance(teacher, Teacher) else None
    on_main_process(lambda: claim(run, recipe, data, resume=resume, teacher=revision))
    if teacher is not None:
        data = _teach(recipe, teacher, data, network, run, resume=resume)
        teacher = None  # frees its memory
    data, features = images.encode(recipe, data, features, encoder, processor, run)
    cased = data.with_recased(recipe.casing_share, recipe.seed)
    trainer = _make_trainer(recipe, cased, features, network, processor, run)
    on_main_process(lambda: images.report(trainer.train_sets, trainer.valid_sets, run))
    _fit(trainer, run / CHECKPOINTS_FOLDER, resume=resume)
    valid = on_main_process(lambda: _finish(recipe, data, trainer, processor, output))
    epochs = trainer.state.epoch or 0.0
    return RunResult(valid, _best_epoch(trainer.state) or epochs, epochs, output)


def _check_texts(data: TrainingData, processor: SMNERProcessor) -> None:
    """Check that every text fits the encoder before any slow step; the ValueError names the post."""
    for part in data.parts:
        PostDataset(part.train + part.valid, processor)


def _teacher(name: str | Path, recipe: Recipe, data: TrainingData) -> Teacher | Recipe:
    """The teacher of ``recipe``, or else the recipe to train it by.

    Raises:
        FileNotFoundError: ``name`` names neither a checkpoint nor a recipe.
        InvalidCheckpoint, ValueError: as :class:`training.learning.teacher.Teacher`.
    """
    folder = checkpoint_folder(name)
    if not (folder / CHECKSUM_FILE).is_file():
        return Recipe.load(str(name))
    return Teacher(folder, types=data.types, max_span_width=recipe.max_span_width, bfloat16=in_bfloat16(recipe))


def _teach(
    recipe: Recipe, teacher: Teacher | Recipe, data: TrainingData, network: SMNER, run: Path, *, resume: bool
) -> TrainingData:
    """Give the training posts the teacher's answers, and perhaps the network its weights.

    A teacher that is a recipe is trained on the tagged posts first.
    """
    if isinstance(teacher, Recipe):
        folder, text = run / "teacher", data.tagged_text()
        if on_main_process(lambda: (folder / CHECKSUM_FILE).is_file()):
            on_main_process(partial(claim, folder / RUN_FOLDER, teacher, text, resume=resume))
        else:
            _train(teacher, text, folder, resume=resume)
        trained = _teacher(folder, recipe, data)
        assert isinstance(trained, Teacher)
        teacher = trained
    if recipe.start_from_teacher:
        teacher.lend_weights(network)
    return data.taught(teacher.answer([post for part in data.parts for post in part.train], run / "answers"))


def _make_trainer(
    recipe: Recipe, data: TrainingData, features: images.Features, network: SMNER, processor: SMNERProcessor, run: Path
) -> SMNERTrainer:
    def dataset(posts: list[LabeledPost], part: Part, file: ImageFeatureFile | None) -> PostDataset:
        return PostDataset(
            posts,
            processor,
            features=file,
            features_by_id=part.image_features is not None,
            decode_images=recipe.fine_tune_image_encoder,
        )

    parts = list(zip(data.parts, features, strict=True))
    trainer = SMNERTrainer(
        Objective.of(network, recipe),
        recipe,
        Collator(processor, network.config.label2id, recipe.max_span_width),
        train={part.name: dataset(part.train, part, file) for part, file in parts},
        valid={part.name: dataset(part.valid, part, file) for part, file in parts if part.valid},
        output=run / CHECKPOINTS_FOLDER,
    )
    trainer.add_callback(MetricsFile(run))
    return trainer


def _fit(trainer: SMNERTrainer, checkpoints: Path, *, resume: bool) -> None:
    """Train to the end, from the last checkpoint if one can be resumed."""
    last = on_main_process(lambda: last_checkpoint(checkpoints)) if resume else None
    if last is None or not last.finished:
        trainer.train(resume_from_checkpoint=None if last is None else last.checkpoint)
    else:  # Trainer would train past the end, since it does not check whether it had stopped early
        trainer.state = TrainerState.load_from_json(f"{last.checkpoint}/trainer_state.json")
        trainer._load_from_checkpoint(last.best)


def _finish(
    recipe: Recipe,
    data: TrainingData,
    trainer: SMNERTrainer,
    processor: SMNERProcessor,
    output: Path,
) -> dict[str, ValidScores]:
    """Take the weight of "no entity" out, round to the stored format, calibrate, score, and write the checkpoint."""
    network: SMNER = trainer.network
    if recipe.undo_no_entity_weight:
        network.classifier.shift_no_entity(-math.log(recipe.no_entity_weight))
    network.load_state_dict(round_weights(network.state_dict(), recipe.weight_format))
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise ValueError("the training has diverged: some weights are not finite; lower its learning rates")
    valid = trainer.valid_sets
    if valid:
        network.config.score_temperature = fit_temperature(network, list(valid.values()), trainer.collator)
    measured = measure(
        network,
        trainer.collator,
        valid,
        load_served=partial(as_served, network, processor),
        weight_bytes=sum(own.nbytes for own in stored_weights(network.state_dict(), recipe.weight_format).values()),
    )
    scores = {name: ValidScores.of(own) for name, own in measured.quality.items()}
    write_json(output / RUN_FOLDER / "scores.json", {name: asdict(own.overall) for name, own in scores.items()})
    images = {name: own.images() for name, own in trainer.train_sets.items()}
    files = card_files(TrainingRecord.of(recipe, data, images), network, measured)
    save_checkpoint(output, network, processor, card=files, weight_format=recipe.weight_format)
    return scores


def _best_epoch(state: TrainerState) -> float | None:
    """The epoch that F1 on the valid splits chose; None without a valid split."""
    scored = [entry for entry in state.log_history if "eval_f1" in entry]
    return next((entry["epoch"] for entry in scored if entry["step"] == state.best_global_step), None)
