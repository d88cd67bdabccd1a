"""Variations of the tiny run: recipes, features, and what ends it early."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import TrainerCallback

import training.learning.images
import training.learning.run
from training.data.dataset import PostDataset
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe


def part_of(trainer: SMNERTrainer, place: int) -> PostDataset:
    """The training data of a trainer's first, second, … source."""
    return list(trainer.train_sets.values())[place]


class Killed(BaseException):
    """What ends a run from outside."""


@contextmanager
def killed_after_first_epoch() -> Iterator[None]:
    """Runs are killed when their first checkpoint has been written."""

    class Kill(TrainerCallback):
        def on_save(self, *_: Any, **__: Any) -> None:
            raise Killed

    class Doomed(SMNERTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(Kill())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.learning.run, "SMNERTrainer", Doomed)
        yield


def small(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update=changes)


def ready_features(
    path: Path, *, width: int, regions: int, encoder: str = "torchvision:resnet152", **more: str
) -> Path:
    """Random features for the posts 0, 2, 4 and 6, with the last region of each masked."""
    mask = torch.ones(4, 1 + regions, dtype=torch.bool)
    mask[:, -1] = False
    metadata = {"image_ids": json.dumps(["0", "2", "4", "6"]), "encoder": encoder, **more}
    save_file({"features": torch.randn(4, 1 + regions, width).half(), "mask": mask}, path, metadata)
    return path
