from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.benchmarks.quality.comparisons import COMPARISONS
from tests.benchmarks.quality.data import QualityData
from tests.benchmarks.quality.ideas import BASELINE, IDEAS
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe, parse_override

Trainer = Callable[..., SMNERTrainer]


def test_only_one_idea_gets_the_teachers_tags(trainer: Trainer, data: QualityData) -> None:
    """The last two of the eight training posts are silver here."""
    taught = replace(data, gold=[data.gold[0][:-2]])
    plain, teachers = (trainer(IDEAS[name], taught) for name in (BASELINE, "teachers-tags"))
    assert [len(part) for own in (plain, teachers) for part in own.train_sets.values()] == [6, 8]
    assert plain.valid_sets.keys() == teachers.valid_sets.keys()


def test_source_without_gold_tags_is_allowed(trainer: Trainer, data: QualityData) -> None:
    parts = [*data.parts, replace(data.parts[0], name="untagged")]
    twice = replace(data, parts=parts, features=data.features * 2, gold=[data.gold[0], []])
    own = trainer(IDEAS[BASELINE], twice, max_steps=1)
    own.train()
    assert [len(part) for part in own.train_sets.values()] == [8, 0]


@pytest.mark.parametrize("name", [name for name, idea in IDEAS.items() if idea.changes])
def test_every_idea_changes_the_compared_recipe(name: str) -> None:
    """Even where `compact` already has the idea, such as R-Drop or eight epochs."""
    plain = Recipe.load("compact", dict(map(parse_override, COMPARISONS["ideas"].settings)))
    changed = IDEAS[name].recipe(plain, 0)
    assert changed != IDEAS[BASELINE].recipe(plain, 0)
    assert Recipe.model_validate(changed.model_dump()) == changed  # valid keys and values
