"""Untagged posts: tagged by a teacher, held out, or for the bottleneck alone."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import WEIGHTS_FILE
from tests.training.learning.tiny_runs import part_of, small, write_recipe
from tests.training.tiny_run import BY_HEART
from training.data.sources import DataSource
from training.data.training_data import held_out_posts
from training.learning.run import train
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe


def test_posts_without_tags_train_the_bottleneck(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """Only the untagged posts have images here, so they alone train the posteriors."""
    weights: dict[str, torch.Tensor] = {}
    for name, sources in (("without", [DataSource(source.path)]), ("with", [DataSource(source.path), untagged])):
        train(small(recipe, epochs=1, image_dropout=0), sources, tmp_path / name)
        weights[name] = load_file(tmp_path / name / WEIGHTS_FILE)["bottleneck.image_posterior.head.weight"]
    assert [part.has_image(0) for part in trainers[1].train_sets.values()] == [False, True]
    assert not torch.equal(weights["with"], weights["without"])


def test_held_out_posts_are_listed_and_untrained(
    recipe: Recipe,
    source: DataSource,
    untagged: DataSource,
    tmp_path: Path,
    trainers: list[SMNERTrainer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(small(recipe, max_steps=1, held_out=3), [source, untagged], tmp_path / "run")
    assert re.search(r"5 training posts, 0 tagged, \d with a photo, 3 more kept out; 0", capsys.readouterr().out)
    kept_out = (tmp_path / "run" / "run" / "held_out.txt").read_text("utf-8").split()
    assert kept_out == sorted(post.id for post in held_out_posts(untagged.read("train"), 3))
    assert [len(part) for part in trainers[0].train_sets.values()] == [8, 5]
    assert not {post.id for post in part_of(trainers[0], 1).posts} & set(kept_out)


def test_a_teacher_tags_the_untagged_posts(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """The untagged posts repeat the tagged texts, so the right tags are known."""
    teacher = write_recipe(small(recipe, **BY_HEART), tmp_path / "teacher.toml")
    train(small(recipe, max_steps=1, held_out=2, teacher=teacher), [source, untagged], tmp_path / "run")
    gold = {post.words: post.entities for post in source.read("train")}
    silver = part_of(trainers[-1], 1).posts
    assert len(silver) == 6
    assert sum(post.entities == gold[post.words] for post in silver) >= 5
    assert [post.entities for post in part_of(trainers[-1], 0).posts] == list(gold.values())
    card = (tmp_path / "run" / "README.md").read_text("utf-8")
    assert "2 of them were kept out of training" in card


def test_teacher_sees_no_images(
    recipe: Recipe, source: DataSource, untagged: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    """Tagged and untagged posts in one file, each naming its image; the teacher is text-only."""
    tagged = {"tokens": ["Anna", "ran"], "tags": ["B-PER", "O"], "image": "eight/images/0.png"}
    with untagged.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(tagged) + "\n")
    teacher = write_recipe(small(recipe, max_steps=1), tmp_path / "teacher.toml")
    train(small(recipe, max_steps=1, held_out=2, teacher=teacher), [untagged], tmp_path / "run")
    assert [part.has_image(i) for part in trainers[0].train_sets.values() for i in range(len(part))].count(True) == 0


def test_no_teacher_without_untagged_posts(
    recipe: Recipe, source: DataSource, tmp_path: Path, trainers: list[SMNERTrainer]
) -> None:
    teacher = write_recipe(recipe, tmp_path / "teacher.toml")
    train(small(recipe, max_steps=1, held_out=2, teacher=teacher), [source], tmp_path / "run")
    assert len(trainers) == 1
    assert "text-only" not in (tmp_path / "run" / "README.md").read_text("utf-8")
