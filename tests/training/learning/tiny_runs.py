"""What tests of runs use: variations of the tiny recipe, ready features, and what a run leaves."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import TrainerCallback

from training.data.dataset import PostDataset
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe


def part_of(trainer: SMNERTrainer, place: int) -> PostDataset:
    """The training data of a trainer's first, second, … source."""
    return list(trainer.train_sets.values())[place]


def trainer_with(callback: TrainerCallback) -> type[SMNERTrainer]:
    """A trainer class whose trainers have one more callback."""

    class Watched(SMNERTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(callback)

    return Watched


def small(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update=changes)


def write_recipe(recipe: Recipe, path: Path) -> str:
    """Write it as a TOML file; returns its path."""
    keys = recipe.model_dump(exclude={"name"}, exclude_none=True)
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()), "utf-8")
    return str(path)


def logged(output: Path) -> list[dict[str, Any]]:
    """What a run has logged."""
    return [json.loads(line) for line in (output / "run" / "metrics.jsonl").read_text("utf-8").splitlines()]


def ready_features(
    path: Path, *, width: int, regions: int, encoder: str = "torchvision:resnet152", **more: str
) -> Path:
    """Random features for the posts 0, 2, 4 and 6, with the last region of each masked."""
    mask = torch.ones(4, 1 + regions, dtype=torch.bool)
    mask[:, -1] = False
    metadata = {"image_ids": json.dumps(["0", "2", "4", "6"]), "encoder": encoder, **more}
    save_file({"features": torch.randn(4, 1 + regions, width).half(), "mask": mask}, path, metadata)
    return path
