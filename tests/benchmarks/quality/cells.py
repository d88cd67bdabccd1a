"""Cells: a system to be trained with one seed, and measured."""

import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import set_seed

from tests.benchmarks.quality.data import QualityData
from tests.benchmarks.quality.results import Result, ResultFile, cell_key
from tests.benchmarks.quality.systems import System
from tests.benchmarks.serving.report import machine
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe
from training.scoring.scores import mentions, score, score_by_mention, score_by_type


@dataclass(frozen=True, slots=True)
class Setting:
    """What all cells of a command share.

    Attributes:
        settings: the recipe's name and overrides, as the command takes them.
        work: folder of the results and, while a cell is trained, its checkpoints.
    """

    comparison: str
    settings: str
    recipe: Recipe
    data: QualityData
    work: Path

    @property
    def shared_recipe(self) -> dict[str, Any]:
        """The recipe without its seed, which is the cell's."""
        return self.recipe.model_dump(mode="json", exclude={"seed"})

    @property
    def results(self) -> ResultFile:
        """Where trained cells go."""
        return ResultFile(self.work / "results.jsonl")


@dataclass(frozen=True, slots=True)
class Cell:
    """A system and a seed."""

    name: str
    system: System
    seed: int
    setting: Setting

    @classmethod
    def all(cls, systems: dict[str, System], seeds: Iterable[int], setting: Setting) -> list["Cell"]:
        """Every system with every seed, seed by seed, so that the table has all rows early."""
        return [cls(name, system, seed, setting) for seed in seeds for name, system in systems.items()]

    @property
    def title(self) -> str:
        """The cell for a person."""
        return f"{self.system.title}, seed {self.seed}"

    @property
    def key(self) -> str:
        """What tells it from other cells, see :func:`tests.benchmarks.quality.results.cell_key`."""
        setting = self.setting
        return cell_key(
            setting.comparison,
            self.name,
            self.seed,
            setting.shared_recipe,
            self.system.changes,
            setting.data.description,
        )

    def run(self) -> Result:
        """Train, measure, and add the result to the file; an interrupted cell starts over."""
        setting = self.setting
        checkpoints = setting.work / "cells" / f"{self.name}-seed{self.seed}-{self.key}"
        shutil.rmtree(checkpoints, ignore_errors=True)
        began = time.perf_counter()
        set_seed(self.seed)
        trainer = self.system.trainer(self.system.recipe(setting.recipe, self.seed), setting.data, checkpoints)
        trainer.train()
        result = Result(
            comparison=setting.comparison,
            system=self.name,
            seed=self.seed,
            title=self.system.title,
            settings=setting.settings,
            scores={
                part.name: _scores(trainer, part.name, setting.data.types, mentions(gold))
                for part, gold in zip(setting.data.parts, setting.data.gold, strict=True)
                if part.valid
            },
            f1_by_epoch=[round(entry["eval_f1"], 4) for entry in trainer.state.log_history if "eval_f1" in entry],
            parameters=sum(parameter.numel() for parameter in trainer.network.parameters()),
            seconds=round(time.perf_counter() - began, 1),
            recipe=setting.shared_recipe,
            changes=self.system.changes,
            data=setting.data.description,
            code=_revision(),
            machine=machine(),
        )
        setting.results.add(result)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return result


def _scores(trainer: SMNERTrainer, split: str, types: list[str], seen: frozenset[str]) -> dict[str, Any]:
    """Precision, recall, F1 and support: overall, by type, and for mentions that are or are not in ``seen``."""
    dataset = trainer.valid_sets[split]
    posts, found = list(dataset.posts), trainer.predict_entities(dataset)
    known, unknown = score_by_mention(posts, found, seen)
    return {
        **asdict(score(posts, found)),
        "by_type": {kind: asdict(own) for kind, own in score_by_type(posts, found, types).items()},
        "seen": asdict(known),
        "unseen": asdict(unknown),
    }


def _revision() -> str | None:
    """The commit, marked if the working tree differs from it; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
