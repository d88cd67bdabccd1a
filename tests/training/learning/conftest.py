"""What several tests of runs use."""

import json
from pathlib import Path
from typing import Any

import pytest

import training.learning.images
import training.learning.run
from tests.training.learning.tiny_runs import small
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[SMNERTrainer]:
    """The trainers of the runs of this test, in their order."""
    made: list[SMNERTrainer] = []

    class Kept(SMNERTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(training.learning.run, "SMNERTrainer", Kept)
    return made


@pytest.fixture
def teacher(recipe: Recipe, tmp_path: Path) -> str:
    """A recipe file for the teacher, which learns the eight posts by heart."""
    keys = small(recipe, epochs=40, patience=0).model_dump(exclude={"name"}, exclude_none=True)
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in keys.items()]
    (tmp_path / "teacher.toml").write_text("".join(lines), "utf-8")
    return str(tmp_path / "teacher.toml")
