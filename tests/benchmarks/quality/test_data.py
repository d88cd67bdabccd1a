from pathlib import Path

import pytest

from tests.benchmarks.quality.data import prepare
from training.data.sources import DataSource
from training.recipes.recipe import Recipe


def test_sources_without_a_valid_split_are_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    (source.path / "valid.txt").unlink()
    with pytest.raises(ValueError, match="none of the sources has a valid split"):
        prepare(recipe, [source], tmp_path / "work")


def test_description_counts_images(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    with_images, without = (prepare(recipe, [own], tmp_path / "work") for own in (source, DataSource(source.path)))
    assert [data.description["sources"][0]["images"] for data in (with_images, without)] == [4, 0]
    assert (with_images.feature_size, without.feature_size) == (256, None)
