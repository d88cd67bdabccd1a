"""The eight posts as all systems get them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model import SMNER, SMNERProcessor
from tests.benchmarks.quality.data import QualityData, prepare
from training.data.sources import DataSource
from training.learning.encoders import build
from training.recipes.recipe import Recipe


@pytest.fixture(scope="session")
def data(
    recipe: Recipe, write_dataset: Callable[[Path], DataSource], tmp_path_factory: pytest.TempPathFactory
) -> QualityData:
    folder = tmp_path_factory.mktemp("quality")
    return prepare(recipe, [write_dataset(folder / "eight")], folder / "work")


@pytest.fixture
def built(recipe: Recipe, data: QualityData) -> tuple[SMNER, SMNERProcessor]:
    """SMNER as the recipe has it, random, and its processor."""
    return build(recipe, data.types, image_feature_size=data.feature_size)
