import shutil
from pathlib import Path

import pytest

from training.data.errors import DatasetError
from training.data.posts import LabeledPost
from training.data.sources import DataSource
from training.data.training_data import TrainingData, held_out_posts


def test_held_out_posts_do_not_depend_on_order() -> None:
    posts = [LabeledPost(str(i), ("a",), None) for i in range(100)]
    kept_out = held_out_posts(posts, 10)
    assert len(kept_out) == 10
    assert held_out_posts(reversed(posts), 10) == kept_out[::-1]
    assert [post for post in held_out_posts(posts, 20) if post in kept_out] == kept_out
    assert held_out_posts(posts, 200) == posts


def test_data_without_a_tagged_entity_are_refused(untagged: DataSource) -> None:
    with pytest.raises(ValueError, match="no entity is tagged in the training data of untagged"):
        TrainingData.read([untagged], held_out=0)


def test_summary_counts_untagged_and_too_wide(tmp_path: Path) -> None:
    """Untagged valid posts are left out: their entities are unknown, so predictions cannot be counted."""
    (tmp_path / "train.txt").write_text("The\tB-MISC\nBig\tI-MISC\nSleep\tI-MISC\n\nRome\tB-LOC\n", "utf-8")
    (tmp_path / "valid.jsonl").write_text('{"text": "hi"}\n{"tokens": ["Rome"], "tags": ["B-LOC"]}\n', "utf-8")
    (part,) = TrainingData.read([DataSource(tmp_path)], held_out=0).parts
    assert [post.words for post in part.valid] == [("Rome",)]
    found = f"{part.name}: 2 training posts, 2 tagged, 0 with a photo; 1 valid posts and 1 without tags, left out"
    assert part.summary(3) == found
    assert part.summary(2) == f"{found}; 1 of 3 entities wider than 2 words, never found"


def test_valid_split_with_unknown_type_is_refused(source: DataSource) -> None:
    """It used to end in a KeyError after all epochs."""
    valid = source.path / "valid.txt"
    lines = valid.read_text("utf-8").replace("LOC", "EVENT").splitlines()
    valid.write_text("\n".join([*lines, ""]), "utf-8")
    tagged = next(number for number, line in enumerate(lines) if "EVENT" in line)
    first = 2 + max(number for number, line in enumerate(lines[:tagged]) if line.startswith("IMGID:"))
    expected = f"{valid}:{first}: post .*: expected the training data's types, PER, LOC; not EVENT"
    with pytest.raises(DatasetError, match=expected):
        TrainingData.read([source], held_out=0)


def test_posts_with_equal_ids_are_held_out_singly(source: DataSource, tmp_path: Path) -> None:
    """Lines without ids have the same names in two files."""
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in paths:
        path.write_text('{"text": "a"}\n' * 5, "utf-8")
    data = TrainingData.read([source, *map(DataSource, paths)], held_out=3)
    assert sum(len(part.train) for part in data.parts) == 8 + 10 - 3
    assert len(data.held_out) == 3


def test_sources_have_names_of_their_own(source: DataSource, tmp_path: Path) -> None:
    paths = [tmp_path / folder for folder in ("x/fold", "y/fold", "z/fold-1", "eight")]
    for path in paths[:3]:
        shutil.copytree(source.path, path)
    data = TrainingData.read(list(map(DataSource, paths)), held_out=0)
    assert [part.name for part in data.parts] == ["fold-0", "fold-1-1", "fold-1", "eight"]


def test_valid_split_without_entities_is_refused(source: DataSource) -> None:
    (source.path / "valid.txt").write_text("hi\tO\n", "utf-8")
    with pytest.raises(ValueError, match=r"valid\.txt: no entity is tagged, so that nothing can be measured on it"):
        TrainingData.read([source], held_out=0)


def test_holding_out_all_untagged_posts_is_refused(source: DataSource, untagged: DataSource) -> None:
    with pytest.raises(ValueError, match="held_out=500 would keep all 8 posts without tags out of training"):
        TrainingData.read([source, untagged], held_out=500)
    assert TrainingData.read([source], held_out=500).held_out == []  # nothing to hold out
