"""Tags for posts that have none, from the text-only teacher that a recipe names; a recipe is trained once."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model import SMNERProcessor
from model.checkpoint import CHECKSUM_FILE, checkpoint_folder, load_model, verify_checkpoint
from model.device import choose_device
from tests.benchmarks.quality.files import fingerprint, locked, replace_file
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost, TypedWords
from training.data.sources import DataSource
from training.data.training_data import TrainingData
from training.learning.run import train
from training.recipes.recipe import Recipe
from training.scoring.prediction import predict


def describe_teacher(name: str) -> dict[str, Any]:
    """What a teacher's tags depend on: its recipe, or the bytes of its checkpoint."""
    folder = checkpoint_folder(name)
    if _is_checkpoint(folder):
        return {"name": folder.resolve().name, "revision": verify_checkpoint(folder)}
    return Recipe.load(name).model_dump(mode="json")


def tag_by_teacher(name: str, data: TrainingData, sources: Sequence[DataSource], work: Path) -> TrainingData:
    """All posts tagged; the answers are cached in ``work`` by teacher, training files and texts."""
    untagged = [post for part in data.parts for post in part.train if post.entities is None]
    files = [part.checksums["train"] for part in data.parts]
    key = fingerprint([describe_teacher(name), files, [(post.id, post.words) for post in untagged]])
    cache = work / f"teacher-{key}.json"
    if not cache.is_file():
        folder = checkpoint_folder(name)
        if not _is_checkpoint(folder):
            tagged = [any(post.entities is not None for post in part.train) for part in data.parts]
            texts = [DataSource(source.path) for source, has_gold in zip(sources, tagged, strict=True) if has_gold]
            folder = _trained(Recipe.load(name), texts, work / f"teacher-{key}")
        answers = _ask(folder, untagged)
        with locked(work):
            replace_file(cache, json.dumps(answers))
    tags = iter(json.loads(cache.read_text("utf-8")))

    def tag(posts: list[LabeledPost]) -> list[LabeledPost]:
        """The posts with gold tags, then the others."""
        tagged, others = ([post for post in posts if (post.entities is None) == none] for none in (False, True))
        return tagged + [replace(post, entities=tuple(TypedWords(*own) for own in next(tags))) for post in others]

    return replace(data, parts=[replace(part, train=tag(part.train)) for part in data.parts])


def _is_checkpoint(folder: Path) -> bool:
    return (folder / CHECKSUM_FILE).is_file()


def _trained(teacher: Recipe, texts: Sequence[DataSource], folder: Path) -> Path:
    """Train or resume the teacher unless its checkpoint is there."""
    if not _is_checkpoint(folder):
        train(teacher, texts, folder, resume=(folder / "run").is_dir())
    return folder


def _ask(folder: Path, posts: list[LabeledPost]) -> list[tuple[TypedWords, ...]]:
    """Let a checkpoint tag each post."""
    model, processor = load_model(folder).to(choose_device("auto")), SMNERProcessor.from_pretrained(folder)
    collator = Collator(processor, model.config.label2id, model.config.max_span_width)
    return predict(model, PostDataset(posts, processor), collator, progress=True)
