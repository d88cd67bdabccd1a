from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from training.recipes.recipe import Recipe, parse_override

BUNDLED = [
    "base", "base-teacher", "compact", "compact-teacher", "large", "paper-twitter2015", "paper-twitter2017",
    "smner-best",
]  # fmt: skip
CONTRACT = {
    "text_encoder", "image_encoder", "use_cmib", "use_cma", "max_span_width", "epochs", "batch_size",
    "encoder_learning_rate", "head_learning_rate", "cmib_weight", "cmib_beta", "no_entity_weight", "image_dropout",
    "patience", "seed",
}  # fmt: skip


def test_these_are_the_bundled_recipes() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Recipe.load("paper")
    assert str(caught.value) == f"no recipe 'paper'; there are {', '.join(BUNDLED)}, or give the path of a .toml file"


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_recipes_have_the_contracts_keys(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.model_dump().keys() >= CONTRACT
    assert all(parse_override(f"{key}=1")[0] == key for key in CONTRACT)


@pytest.mark.parametrize(
    ("name", "teacher"),
    [("base", "base-teacher"), ("base-teacher", None), ("compact", "smner-base"), ("compact-teacher", None)],
)
def test_a_teacher_is_a_recipe_or_a_checkpoint(name: str, teacher: str | None) -> None:
    assert Recipe.load(name).teacher == teacher


@pytest.mark.parametrize("name", ["paper-twitter2015", "paper-twitter2017"])
def test_the_papers_recipes_have_the_papers_numbers(name: str) -> None:
    """Sections 3.4 and 4.1: spans of at most 4 words, AdamW at 1e-5, decay 0.01, batch 16, λ 0.1, β 0.01."""
    recipe = Recipe.load(name)
    assert (recipe.text_encoder, recipe.image_encoder) == ("google-bert/bert-base-uncased", "torchvision:resnet152")
    assert (recipe.use_cmib, recipe.use_cma, recipe.max_span_width, recipe.batch_size) == (True, True, 4, 16)
    assert (recipe.encoder_learning_rate, recipe.head_learning_rate, recipe.weight_decay) == (1e-5, 1e-5, 0.01)
    assert (recipe.cmib_weight, recipe.cmib_beta, recipe.no_entity_weight, recipe.warmup) == (0.1, 0.01, 0.5, 0.1)


def test_recipe_name_defaults_to_its_file_name(tmp_path: Path) -> None:
    keys = (
        'text_encoder = "t"\nimage_encoder = "timm:i"\nepochs = 1\nencoder_learning_rate = 0\nhead_learning_rate = 0\n'
    )
    (tmp_path / "mine.toml").write_text(keys, "utf-8")
    assert Recipe.load(str(tmp_path / "mine.toml")).name == "mine"
    (tmp_path / "mine.toml").write_text(keys + 'name = "other"\n', "utf-8")
    assert Recipe.load(str(tmp_path / "mine.toml")).name == "other"


def test_none_in_toml_is_null(tmp_path: Path) -> None:
    content = (
        'text_encoder = "t"\nimage_encoder = "none"\nteacher = "none"\nreport_to = "none"\n'
        "epochs = 1\nencoder_learning_rate = 0\nhead_learning_rate = 0\n"
    )
    (tmp_path / "mine.toml").write_text(content, "utf-8")
    recipe = Recipe.load(str(tmp_path / "mine.toml"))
    assert (recipe.image_encoder, recipe.teacher, recipe.report_to) == (None, None, None)
    assert Recipe.load("compact", dict([parse_override("teacher=none")])).teacher is None


def test_missing_recipe_file_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.toml"):
        Recipe.load(str(tmp_path / "absent.toml"))


@pytest.mark.parametrize("content", [b"epochs = \n", b'name = "Caf\xe9"\n'])
def test_broken_toml_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.toml: "):
        Recipe.load(str(tmp_path / "mine.toml"))


def test_overrides_replace_the_files_values() -> None:
    recipe = Recipe.load("paper-twitter2017", {"epochs": 1, "tokenizer": "here"})
    assert (recipe.epochs, recipe.tokenizer, recipe.batch_size) == (1, "here", 16)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 1e-5),  # no such key
        ("epochs", 0),
        ("epochs", "many"),
        ("epochs", float("inf")),
        ("batch_size", 1.5),
        ("gradient_accumulation", 0),
        ("max_span_width", 0),
        ("image_dropout", 1),
        ("image_dropout", -0.1),
        ("warmup", 1.0),
        ("no_entity_weight", 0),
        ("cmib_weight", -1),
        ("initial_deviation", 0),
        ("use_cmib", "perhaps"),
        ("patience", -1),
        ("held_out", -1),
    ],
)
def test_bad_recipe_key_or_value_names_the_key(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        Recipe.load("compact", {key: value})


def test_a_missing_key_is_refused_naming_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("epochs = 1\n", "utf-8")
    with pytest.raises(ValidationError, match="text_encoder"):
        Recipe.load(str(tmp_path / "mine.toml"))


def test_a_recipe_does_not_change() -> None:
    recipe = Recipe.load("compact")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs=3", 3),
        ("epochs=0.5", 0.5),
        ("head_learning_rate=1e-4", 1e-4),
        ("use_cmib=false", False),
        ("text_encoder=config:bert", "config:bert"),
        ("text_encoder=/a/path=b", "/a/path=b"),
        ('name="2017"', "2017"),
        ("name=", ""),
        ("teacher=none", "none"),
    ],
)
def test_override_values_are_parsed_as_toml(setting: str, value: Any) -> None:
    key, parsed = parse_override(setting)
    assert key == setting.partition("=")[0]
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize("setting", ["epochs", "=3", "learning_rate=3", ""])
def test_override_without_a_key_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=f"--set takes key=value with a recipe's key, not {setting!r}"):
        parse_override(setting)
