import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.quality import teacher as teacher_module
from tests.benchmarks.quality.data import QualityData, prepare
from training.data.sources import DataSource
from training.recipes.recipe import Recipe


@pytest.fixture
def untagged(source: DataSource, tmp_path: Path) -> DataSource:
    """Three texts without tags, the first with an image."""
    records = [{"id": f"u{i}", "tokens": post.words} for i, post in enumerate(source.read("train")[:3])]
    path = tmp_path / "untagged.jsonl"
    image = {"image": "eight/images/0.png"}
    path.write_text(
        "".join(json.dumps({**record, **(image if i == 0 else {})}) + "\n" for i, record in enumerate(records)), "utf-8"
    )
    return DataSource(path)


@pytest.fixture
def prepare_taught(
    recipe: Recipe, write_recipe: Callable[..., Path], source: DataSource, untagged: DataSource, tmp_path: Path
) -> Callable[[int], QualityData]:
    """Prepares tagged and untagged posts with a teacher of ``epochs`` epochs."""

    def make(epochs: int) -> QualityData:
        teacher = write_recipe(tmp_path / "teacher.toml", epochs=epochs)
        own = recipe.model_copy(update={"teacher": str(teacher)})
        return prepare(own, [DataSource(source.path), untagged], tmp_path / "work")

    return make


def test_teacher_tags_untagged_posts_once(
    prepare_taught: Callable[[int], QualityData], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare_taught(1)
    silver = first.parts[1].train
    assert [post.id for post in silver] == ["u0", "u1", "u2"]
    assert all(post.entities is not None for post in silver)
    assert [len(gold) for gold in first.gold] == [8, 0]

    monkeypatch.setattr(teacher_module, "train", None)  # a second teacher would not train
    again = prepare_taught(1)
    assert again.parts[1].train == silver
    assert again.description == first.description


def test_tags_are_cached_by_teacher(
    prepare_taught: Callable[[int], QualityData], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Recipe] = []

    def trained(teacher: Recipe, _: object, folder: Path) -> Path:
        asked.append(teacher)
        return folder

    monkeypatch.setattr(teacher_module, "_trained", trained)
    monkeypatch.setattr(teacher_module, "_ask", lambda _, posts: [()] * len(posts))
    descriptions = [prepare_taught(epochs).description for epochs in (1, 2, 1)]
    assert [teacher.epochs for teacher in asked] == [1, 2]
    assert descriptions[0] == descriptions[2] != descriptions[1]


def test_a_checkpoint_may_be_the_teacher(
    recipe: Recipe, source: DataSource, untagged: DataSource, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    taught = recipe.model_copy(update={"teacher": str(tiny_checkpoint)})
    data = prepare(taught, [DataSource(source.path), untagged], tmp_path / "work")
    assert all(post.entities is not None for post in data.parts[1].train)
    assert data.description["teacher"]["name"] == "tiny"
    assert len(data.description["teacher"]["revision"]) == 64


def test_untagged_posts_need_a_teacher(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="posts without tags need a teacher, and the recipe tiny has none"):
        prepare(recipe, [source, untagged], tmp_path / "work")
