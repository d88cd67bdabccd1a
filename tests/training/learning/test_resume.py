"""Runs that are resumed: after a kill, in another folder, or with something changed."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import WEIGHTS_FILE
from tests.training.learning.tiny_runs import Killed, killed_after_first_epoch, ready_features, small
from training.data.sources import DataSource
from training.learning.run import train
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe
from training.scoring.scores import Scores


def test_resumed_run_ends_like_an_uninterrupted_one(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Post order, dropped images, dropout, sampled z, optimizer and schedule continue where they stopped."""
    (source.path / "valid.txt").unlink()  # with it, the first of three equally bad epochs is kept
    longer = small(recipe, epochs=3, image_dropout=0.3)
    train(longer, [source], tmp_path / "whole")
    with killed_after_first_epoch(), pytest.raises(Killed):
        train(longer, [source], tmp_path / "killed")
    assert [path.name for path in (tmp_path / "killed" / "run" / "checkpoints").glob("checkpoint-*")] == [
        "checkpoint-2"
    ]
    assert not (tmp_path / "killed" / WEIGHTS_FILE).exists()

    steps: list[bool] = []
    loss = SMNERTrainer.compute_loss

    def counted_loss(*given: Any, **more: Any) -> Any:
        steps.append(True)
        return loss(*given, **more)

    monkeypatch.setattr(SMNERTrainer, "compute_loss", counted_loss)
    train(longer, [source], tmp_path / "killed", resume=True)
    assert len(steps) == 4  # two epochs of two batches; the first is not run again
    whole, resumed = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("whole", "killed"))
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_resuming_what_never_began_begins(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    assert train(small(recipe, max_steps=1), [source], tmp_path / "run", resume=True).checkpoint.is_dir()


def test_resume_with_another_recipe_is_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    changed = small(recipe, max_steps=1, max_span_width=6)
    with pytest.raises(ValueError, match="began with, but: max_span_width 4 → 6"):
        train(changed, [source], tmp_path / "run", resume=True)


def test_resume_with_other_data_is_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    with (source.path / "train.txt").open("a") as file:
        file.write("IMGID:9\nParis\tB-LOC\n\n")
    with pytest.raises(ValueError, match="began with, but: eight "):
        train(small(recipe, max_steps=1), [source], tmp_path / "run", resume=True)


def test_resume_with_other_images_is_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    """Left out, replaced by one of equal size, or deleted: each silently gave other weights."""
    assert source.images is not None
    image, short = source.images / "0.png", small(recipe, max_steps=1)
    train(short, [source], tmp_path / "run")
    before = image.read_bytes()
    with pytest.raises(ValueError, match=r"began with, but: eight images [0-9a-f]{64} → None"):
        train(short, [DataSource(source.path)], tmp_path / "run", resume=True)
    image.write_bytes(bytes([*before[:-1], before[-1] ^ 1]))
    with pytest.raises(ValueError, match="began with, but: eight images "):
        train(short, [source], tmp_path / "run", resume=True)
    image.unlink()
    with pytest.raises(ValueError, match="began with, but: eight images "):
        train(short, [source], tmp_path / "run", resume=True)
    image.write_bytes(before)
    train(short, [source], tmp_path / "run", resume=True)


def test_resume_skips_a_truncated_checkpoint(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    """A run killed while Trainer saved could not be resumed from the previous, complete checkpoint."""
    train(small(recipe, max_steps=1), [source], tmp_path / "run")
    (tmp_path / "run" / "run" / "checkpoints" / "checkpoint-2").mkdir()
    train(small(recipe, max_steps=1), [source], tmp_path / "run", resume=True)


def test_resume_with_other_image_features_is_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    for i in range(2):
        file = ready_features(tmp_path / "f.safetensors", width=7 + i, regions=3)
        ready, only = DataSource(source.path, image_features=file), small(recipe, max_steps=1)
        if i == 0:
            train(only, [ready], tmp_path / "run")
    with pytest.raises(ValueError, match="began with, but: eight image features "):
        train(only, [ready], tmp_path / "run", resume=True)


def test_resume_with_another_teacher_is_refused(
    recipe: Recipe, source: DataSource, untagged: DataSource, teacher: str, tmp_path: Path
) -> None:
    """The tags are the finished teacher's, whatever the recipe says."""
    content = Path(teacher).read_text("utf-8").replace("epochs = 40", "epochs = 1")
    Path(teacher).write_text(content, "utf-8")
    taught = small(recipe, max_steps=1, teacher=teacher)
    train(taught, [source, untagged], tmp_path / "run")
    Path(teacher).write_text(content.replace("seed = 0", "seed = 1"), "utf-8")
    with pytest.raises(ValueError, match="began with, but: seed 0 → 1"):
        train(taught, [source, untagged], tmp_path / "run", resume=True)


def test_moved_run_finds_its_best_epoch(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer stores the best checkpoint's path: a moved run, interrupted or finished, would lose it."""
    longer = small(recipe, epochs=3)
    f1 = iter([0.5, 0.1, 0.1])
    monkeypatch.setattr("training.learning.trainer.score", lambda *_: Scores(own := next(f1), own, own, 16))
    with killed_after_first_epoch(), pytest.raises(Killed):
        train(longer, [source], tmp_path / "before")
    shutil.move(tmp_path / "before", tmp_path / "after")
    train(longer, [source], tmp_path / "after", resume=True)
    ended = load_file(tmp_path / "after" / WEIGHTS_FILE)
    best = load_file(tmp_path / "after" / "run" / "checkpoints" / "checkpoint-2" / WEIGHTS_FILE)  # of the first epoch
    assert all(torch.equal(ended[name], best[f"network.{name}"]) for name in ended)

    shutil.move(tmp_path / "after", tmp_path / "later")
    (tmp_path / "later" / WEIGHTS_FILE).unlink()
    train(longer, [source], tmp_path / "later", resume=True)
    again = load_file(tmp_path / "later" / WEIGHTS_FILE)
    assert all(torch.equal(ended[name], again[name]) for name in ended)
