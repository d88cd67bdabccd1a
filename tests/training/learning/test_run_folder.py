import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.learning.tiny_runs import ready_features, small
from training.data.sources import DataSource
from training.data.training_data import TrainingData
from training.learning.run_folder import claim, last_checkpoint
from training.recipes.recipe import Recipe

WHOLE = json.dumps(
    {"best_model_checkpoint": "b", "stateful_callbacks": {"TrainerControl": {"args": {"should_training_stop": False}}}}
)
Begin = Callable[..., None]


@pytest.fixture
def begin(recipe: Recipe, tmp_path: Path) -> Begin:
    """Begins a run on a source, or resumes it."""

    def begin(source: DataSource, *, resume: bool = False, **changes: Any) -> None:
        claim(
            tmp_path / "output" / "run",
            small(recipe, **changes),
            TrainingData.read([source], held_out=0),
            resume=resume,
        )

    return begin


def test_folder_of_other_files_is_refused(begin: Begin, source: DataSource, tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "precious").write_text("data", "utf-8")
    with pytest.raises(FileExistsError, match=r"output is not empty: choose another folder"):
        begin(source)
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["precious"]


def test_resume_with_another_recipe_is_refused(begin: Begin, source: DataSource) -> None:
    begin(source)
    with pytest.raises(ValueError, match="began with, but: max_span_width 4 → 6"):
        begin(source, resume=True, max_span_width=6)


def test_resume_with_other_data_is_refused(begin: Begin, source: DataSource) -> None:
    begin(source)
    with (source.path / "train.txt").open("a") as file:
        file.write("IMGID:9\nParis\tB-LOC\n\n")
    with pytest.raises(ValueError, match="began with, but: eight train "):
        begin(source, resume=True)


def test_resume_with_other_images_is_refused(begin: Begin, source: DataSource) -> None:
    """Left out, replaced by one of equal size, or deleted: each silently gave other weights."""
    assert source.images is not None
    begin(source)
    image = source.images / "0.png"
    before = image.read_bytes()
    with pytest.raises(ValueError, match=r"began with, but: eight images [0-9a-f]{64} → None"):
        begin(DataSource(source.path), resume=True)
    image.write_bytes(bytes([*before[:-1], before[-1] ^ 1]))
    with pytest.raises(ValueError, match="began with, but: eight images "):
        begin(source, resume=True)
    image.unlink()
    with pytest.raises(ValueError, match="began with, but: eight images "):
        begin(source, resume=True)
    image.write_bytes(before)
    begin(source, resume=True)


def test_resume_with_other_image_features_is_refused(begin: Begin, source: DataSource, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    ready = DataSource(source.path, image_features=ready_features(path, width=7, regions=3))
    begin(ready)
    ready_features(path, width=8, regions=3)
    with pytest.raises(ValueError, match="began with, but: eight image features "):
        begin(ready, resume=True)


def test_incomplete_checkpoints_are_removed(tmp_path: Path) -> None:
    """A run killed while Trainer saved could not be resumed from the previous, complete checkpoint."""
    for step, content in ((2, WHOLE), (4, WHOLE), (6, WHOLE[:-1]), (8, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if content is not None:
            (folder / "trainer_state.json").write_text(content, "utf-8")
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert (found.checkpoint, found.finished) == (str(tmp_path / "checkpoint-4"), False)
    assert found.best == str(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4"]


def test_without_checkpoints_nothing_is_resumed(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None
