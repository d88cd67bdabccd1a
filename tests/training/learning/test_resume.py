"""Resumed runs: unfinished, finished, moved, or with another recipe or teacher."""

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from model.checkpoint import MODEL_CARD_FILE, write_checksums
from model.weights import WEIGHTS_FILE
from tests.training.learning.tiny_runs import small, trainer_with, write_recipe
from training.data.sources import DataSource
from training.learning.run import train
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe
from training.scoring.scores import Scores


class Killed(BaseException):
    """Ends a run from outside."""


class Kill(TrainerCallback):
    """Kills a run after its first checkpoint."""

    def on_save(self, *_: Any, **__: Any) -> None:
        raise Killed


def test_resuming_what_never_began_begins(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    assert train(small(recipe, max_steps=1), [source], tmp_path / "run", resume=True).checkpoint.is_dir()


def test_resuming_a_finished_run_trains_no_step(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer checks max_steps and patience only after a step, so it used to train one more."""
    (source.path / "valid.txt").unlink()
    stopped = small(recipe, max_steps=3)
    train(stopped, [source], tmp_path / "run")
    before = (tmp_path / "run" / WEIGHTS_FILE).read_bytes()
    monkeypatch.setattr(SMNERTrainer, "compute_loss", lambda *_, **__: pytest.fail("another step"))
    train(stopped, [source], tmp_path / "run", resume=True)
    assert (tmp_path / "run" / WEIGHTS_FILE).read_bytes() == before


def test_resume_with_another_recipe_or_teacher_is_refused(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path
) -> None:
    """The tags are the finished teacher's, whatever the recipe says."""
    teacher = small(recipe, max_steps=1)
    taught = small(recipe, max_steps=1, teacher=write_recipe(teacher, tmp_path / "teacher.toml"))
    train(taught, [source, untagged], tmp_path / "run")
    with pytest.raises(ValueError, match="began with, but: max_span_width 4 → 6"):
        train(small(taught, max_span_width=6), [source, untagged], tmp_path / "run", resume=True)
    write_recipe(small(teacher, seed=1), tmp_path / "teacher.toml")
    with pytest.raises(ValueError, match="began with, but: seed 0 → 1"):
        train(taught, [source, untagged], tmp_path / "run", resume=True)
    ready = tmp_path / "run" / "run" / "teacher"
    taught = small(taught, teacher=str(ready))
    train(taught, [source, untagged], tmp_path / "again")
    (ready / MODEL_CARD_FILE).write_text("# another\n", "utf-8")
    write_checksums(ready)
    with pytest.raises(ValueError, match=r"began with, but: teacher [0-9a-f]{64} → "):
        train(taught, [source, untagged], tmp_path / "again", resume=True)


def test_moved_run_resumes_and_finds_its_best_epoch(
    recipe: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer stores the best checkpoint's path: a moved run, interrupted or finished, would lose it."""
    longer = small(recipe, epochs=3)
    f1 = iter([0.5, 0.1, 0.1])
    monkeypatch.setattr("training.learning.trainer.score", lambda *_: Scores(own := next(f1), own, own, 16))
    with patch("training.learning.run.SMNERTrainer", trainer_with(Kill())), pytest.raises(Killed):
        train(longer, [source], tmp_path / "before")
    assert [path.name for path in (tmp_path / "before/run/checkpoints").glob("checkpoint-*")] == ["checkpoint-2"]
    assert not (tmp_path / "before" / WEIGHTS_FILE).exists()

    shutil.move(tmp_path / "before", tmp_path / "after")
    compute_loss = SMNERTrainer.compute_loss
    with patch.object(SMNERTrainer, "compute_loss", autospec=True, side_effect=compute_loss) as steps:
        train(longer, [source], tmp_path / "after", resume=True)
    assert steps.call_count == 4  # two epochs of two batches; the first is not run again
    ended = load_file(tmp_path / "after" / WEIGHTS_FILE)
    best = load_file(tmp_path / "after" / "run" / "checkpoints" / "checkpoint-2" / WEIGHTS_FILE)  # of the first epoch
    assert all(torch.equal(ended[name], best[f"network.{name}"]) for name in ended)

    shutil.move(tmp_path / "after", tmp_path / "later")
    (tmp_path / "later" / WEIGHTS_FILE).unlink()
    train(longer, [source], tmp_path / "later", resume=True)
    again = load_file(tmp_path / "later" / WEIGHTS_FILE)
    assert all(torch.equal(ended[name], again[name]) for name in ended)
