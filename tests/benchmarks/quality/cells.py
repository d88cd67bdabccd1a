"""Cells: one system trained with one seed and measured, each kept in a file that is named by all it depends on.

A changed recipe, other data or another teacher make other names, so results of different settings never meet in a
table. Code and machine are not part of the name: they stand in the cell, and in the table if cells differ in them.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import set_seed

from tests.benchmarks.quality.data import QualityData, fingerprint, write_whole
from tests.benchmarks.quality.systems import System
from tests.benchmarks.serving.report import machine
from training.data.dataset import PostDataset
from training.data.posts import LabelledPost
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe
from training.scoring.evaluation import Predictions, mentions, score, score_by_mention, score_by_type

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """A system and a seed, and the folder in which its result is or will be."""

    name: str
    system: System
    recipe: Recipe
    data: QualityData
    folder: Path

    @classmethod
    def all(
        cls, systems: dict[str, System], seeds: Iterable[int], recipe: Recipe, data: QualityData, folder: Path
    ) -> list["Cell"]:
        """Of every system and seed, seed by seed, so that there is a whole table as soon as possible."""
        return [
            cls(name, system, system.recipe(recipe, seed), data, folder)
            for seed in seeds
            for name, system in systems.items()
        ]

    @property
    def title(self) -> str:
        """The cell for a person."""
        return f"{self.system.title}, seed {self.recipe.seed}"

    @property
    def file(self) -> Path:
        """Where its result is kept."""
        settings = {"recipe": self.recipe.model_dump(mode="json"), "data": self.data.description}
        return self.folder / f"{self.name}-seed{self.recipe.seed}-{fingerprint([self.name, settings])}.json"

    def result(self) -> Result | None:
        """What was measured, if it has been."""
        return json.loads(self.file.read_text("utf-8")) if self.file.is_file() else None

    def run(self) -> Result:
        """Train, measure and keep the result; a cell that was interrupted begins anew."""
        checkpoints = self.file.with_suffix("")
        shutil.rmtree(checkpoints, ignore_errors=True)
        began = time.perf_counter()
        set_seed(self.recipe.seed)
        trainer = self.system.trainer(self.recipe, self.data, checkpoints)
        trainer.train()
        # out of mixed precision, as a checkpoint would be
        trainer.model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        result = {
            "system": self.name,
            "seed": self.recipe.seed,
            "scores": {
                part.name: _scores(trainer.valid[part.name], trainer.entities, self.data.types, mentions(gold))
                for part, gold in zip(self.data.parts, self.data.gold, strict=True)
                if part.valid
            },
            "f1_by_epoch": _f1_by_epoch(trainer),
            "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
            "seconds": round(time.perf_counter() - began, 1),
            "recipe": self.recipe.model_dump(mode="json"),
            "data": self.data.description,
            "code": _revision(),
            "machine": machine(),
        }
        write_whole(self.file, json.dumps(result, indent=1) + "\n")
        shutil.rmtree(checkpoints, ignore_errors=True)
        return result


def _scores(
    dataset: PostDataset, entities: Callable[[PostDataset], Predictions], types: list[str], seen: frozenset[str]
) -> dict[str, Any]:
    """Precision, recall, F1 and support: of all, of each type, and of mentions that are or are not in ``seen``."""
    posts: list[LabelledPost] = list(dataset.posts)
    found = entities(dataset)
    known, unknown = score_by_mention(posts, found, seen)
    return {
        **asdict(score(posts, found)),
        "by_type": {kind: asdict(own) for kind, own in score_by_type(posts, found, types).items()},
        "seen": asdict(known),
        "unseen": asdict(unknown),
    }


def _f1_by_epoch(trainer: SMNERTrainer) -> list[float]:
    """The mean F1 that chose the epoch, after each."""
    return [round(entry["eval_f1"], 4) for entry in trainer.state.log_history if "eval_f1" in entry]


def _revision() -> str | None:
    """The commit of the code, marked if files have been changed since; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
