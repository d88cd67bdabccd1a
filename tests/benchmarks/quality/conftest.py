"""The eight posts as all systems get them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import set_seed

from model import SMNER, SMNERProcessor
from tests.benchmarks.quality.cells import Setting
from tests.benchmarks.quality.data import QualityData, prepare
from tests.benchmarks.quality.systems import System
from training.data.sources import DataSource
from training.learning.network import build
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe


@pytest.fixture(scope="session")
def data(
    recipe: Recipe, write_dataset: Callable[[Path], DataSource], tmp_path_factory: pytest.TempPathFactory
) -> QualityData:
    folder = tmp_path_factory.mktemp("quality")
    return prepare(recipe, [write_dataset(folder / "eight")], folder / "work")


@pytest.fixture
def built(recipe: Recipe, data: QualityData) -> tuple[SMNER, SMNERProcessor]:
    """SMNER by the recipe, random, and its processor."""
    return build(recipe, data.types, image_feature_size=data.feature_size)


@pytest.fixture
def setting(recipe: Recipe, data: QualityData, tmp_path: Path) -> Setting:
    return Setting("systems", "tiny", recipe, data, tmp_path / "work")


@pytest.fixture
def write_recipe(recipe: Recipe) -> Callable[..., Path]:
    """Writes the recipe to a TOML file, with changes."""

    def write(path: Path, **changes: object) -> Path:
        settings = recipe.model_copy(update=changes).model_dump(mode="json", exclude_none=True)
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()), "utf-8")
        return path

    return write


Trainer = Callable[..., SMNERTrainer]


@pytest.fixture
def trainer(recipe: Recipe, data: QualityData, tmp_path: Path) -> Trainer:
    """Makes a system's trainer, by the recipe with changes."""

    def make(system: System, own: QualityData = data, **changes: object) -> SMNERTrainer:
        set_seed(0)
        return system.trainer(system.recipe(recipe.model_copy(update=changes), 0), own, tmp_path)

    return make
