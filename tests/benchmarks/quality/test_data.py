import json
from pathlib import Path

import pytest

from tests.benchmarks.quality import data as quality_data
from tests.benchmarks.quality.data import prepare
from training.data.sources import DataSource
from training.recipes.recipe import Recipe


def as_toml(recipe: Recipe, path: Path, **changes: object) -> Path:
    """The recipe as a file."""
    settings = recipe.model_copy(update=changes).model_dump(mode="json", exclude_none=True)
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()), "utf-8")
    return path


@pytest.fixture
def untagged(source: DataSource, tmp_path: Path) -> DataSource:
    """Three texts without tags, the first with a photo."""
    records = [{"id": f"u{i}", "tokens": post.words} for i, post in enumerate(source.read("train")[:3])]
    path = tmp_path / "untagged.jsonl"
    image = {"image": "eight/images/0.png"}
    path.write_text(
        "".join(json.dumps({**record, **(image if i == 0 else {})}) + "\n" for i, record in enumerate(records)), "utf-8"
    )
    return DataSource(path)


def test_posts_without_tags_get_the_teachers_once(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = as_toml(recipe, tmp_path / "teacher.toml", epochs=1)
    own = recipe.model_copy(update={"teacher": str(teacher)})
    first = prepare(own, [DataSource(source.path), untagged], tmp_path / "work")
    silver = first.parts[1].train
    assert [post.id for post in silver] == ["u0", "u1", "u2"]
    assert all(post.entities is not None for post in silver)
    assert [len(gold) for gold in first.gold] == [8, 0]
    assert first.seconds > 0

    monkeypatch.setattr(quality_data, "train", None)  # a second teacher would not train
    again = prepare(own, [DataSource(source.path), untagged], tmp_path / "work")
    assert again.parts[1].train == silver
    assert again.description == first.description


def test_another_teacher_is_not_taken_for_this_one(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Recipe] = []

    def ask(teacher: Recipe, _: object, posts: list[object], *__: object) -> list[tuple[()]]:
        asked.append(teacher)
        return [()] * len(posts)

    monkeypatch.setattr(quality_data, "_ask_teacher", ask)
    descriptions = []
    for epochs in (1, 2, 1):
        teacher = as_toml(recipe, tmp_path / "teacher.toml", epochs=epochs)
        own = recipe.model_copy(update={"teacher": str(teacher)})
        descriptions.append(prepare(own, [DataSource(source.path), untagged], tmp_path / "work").description)
    assert [teacher.epochs for teacher in asked] == [1, 2]
    assert descriptions[0] == descriptions[2] != descriptions[1]


def test_posts_without_tags_and_without_a_teacher_are_refused(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="posts without tags need a teacher, and the recipe tiny has none"):
        prepare(recipe, [source, untagged], tmp_path / "work")


def test_sources_without_a_valid_split_are_refused(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    (source.path / "valid.txt").unlink()
    with pytest.raises(ValueError, match="none of the sources has a valid split"):
        prepare(recipe, [source], tmp_path / "work")


def test_images_and_their_absence_are_described(recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    with_images, without = (prepare(recipe, [own], tmp_path / "work") for own in (source, DataSource(source.path)))
    assert [data.description["sources"][0]["photos"] for data in (with_images, without)] == [4, 0]
    assert (with_images.feature_size, without.feature_size) == (256, None)
