from pathlib import Path

import pytest

from model.errors import InvalidCheckpoint
from training.cards.record import RECORD_FILE, Source, TrainingRecord
from training.data.sources import DataSource
from training.data.training_data import TrainingData
from training.recipes.recipe import Recipe


def test_a_record_counts_posts_and_images(recipe: Recipe, source: DataSource, untagged: DataSource) -> None:
    data = TrainingData.read([source, untagged], held_out=3)
    record = TrainingRecord.of(recipe, data, {"eight": 4, "untagged": 2})
    assert record.sources == [
        Source(name="eight", posts=8, images=4, sha256=source.checksum("train")),
        Source(name="untagged", posts=5, images=2, sha256=untagged.checksum("train")),
    ]
    assert record.held_out == 3


def test_a_record_has_no_local_paths(
    recipe: Recipe, source: DataSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "teacher").mkdir(parents=True)
    changed = recipe.model_copy(update={"teacher": "runs/teacher"})
    record = TrainingRecord.of(changed, TrainingData.read([source], held_out=0), {"eight": 4})
    assert Path(recipe.text_encoder).is_absolute()
    assert record.recipe.text_encoder == Path(recipe.text_encoder).name
    assert record.recipe.teacher == "teacher"


def test_what_is_written_is_read(recipe: Recipe, tmp_path: Path) -> None:
    record = TrainingRecord(recipe=recipe, sources=[], held_out=7, remarks=["…"])
    (tmp_path / RECORD_FILE).write_text(record.to_json(), "utf-8")
    assert TrainingRecord.read(tmp_path) == record


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, r"training.json: cannot be read \(No such file"), ("{}", "training.json: recipe: Field required; sources")],
)
def test_a_bad_record_is_named(tmp_path: Path, content: str | None, problem: str) -> None:
    if content is not None:
        (tmp_path / RECORD_FILE).write_text(content, "utf-8")
    with pytest.raises(InvalidCheckpoint, match=problem):
        TrainingRecord.read(tmp_path)
