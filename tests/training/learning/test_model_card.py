from pathlib import Path
from typing import Any

import pytest

from training.learning.model_card import model_card
from training.recipes.recipe import Recipe
from training.scoring.scores import Scores


def card(recipe: Recipe, **changes: Any) -> str:
    values: dict[str, Any] = {
        "scores": {"t17": Scores(0.5, 0.25, 1 / 3, 1324)},
        "parameters": 61_234_567,
        "types": ["PER", "LOC"],
        "posts": {"t17": 3373, "posts": 1900},
        "images": {"t17": 0, "posts": 1899},
        "checksums": {"t17": "ab" * 32, "posts": None},
        "held_out": 500,
    }
    return model_card(recipe, **(values | changes))


def test_the_card_says_what_the_model_is(recipe: Recipe) -> None:
    text = card(recipe)
    assert "# tiny" in text
    assert "with CMIB and CMA: 61.2 million parameters, entity types PER, LOC." in text
    assert f"Text encoder `{Path(recipe.text_encoder).name}`, image encoder `timm:test_efficientnet`." in text


def test_card_has_training_data_and_scores(recipe: Recipe) -> None:
    text = card(recipe)
    assert f"| t17 | 3373 | 0 | `{'ab' * 32}` |" in text
    assert "| posts | 1900 | 1899 |" in text
    assert "| t17 | 0.5000 | 0.2500 | 0.3333 | 1324 |" in text


def test_the_card_has_every_key_of_the_recipe(recipe: Recipe) -> None:
    text = card(recipe)
    values = {**recipe.model_dump(), "text_encoder": Path(recipe.text_encoder).name}
    assert all(f"| {key} | {value} |" in text for key, value in values.items())


def test_card_has_no_local_paths(recipe: Recipe) -> None:
    assert Path(recipe.text_encoder).is_absolute()
    assert str(Path(recipe.text_encoder).parent) not in card(recipe)


def test_its_front_matter_is_the_hubs(recipe: Recipe) -> None:
    start, front, _ = card(recipe).split("---\n", 2)
    assert start == ""
    assert "license" not in front  # for other data, the model's owner chooses it
    assert "pipeline_tag: token-classification" in front
    benchmark = card(recipe, posts={"twitter2017": 1}, images={"twitter2017": 0}, checksums={"twitter2017": None})
    assert benchmark.startswith("---\nlicense: apache-2.0\nlanguage: en\n")


def test_teacher_and_copies_are_owned_up_to(recipe: Recipe) -> None:
    taught = card(recipe.model_copy(update={"teacher": "compact-teacher", "casing_share": 0.1}))
    assert "A text-only model, `compact-teacher`, taught the network its span scores" in taught
    assert "10% of the posts were also seen in small letters" in taught
    assert "text-only" not in card(recipe)
    assert "500 posts without tags were kept out of training" in card(recipe)
    assert "kept out" not in card(recipe, held_out=0)


@pytest.mark.parametrize(
    ("cmib", "cma", "words"),
    [(True, False, "with CMIB:"), (False, True, "with CMA:"), (False, False, "with neither CMIB nor CMA:")],
)
def test_an_ablation_is_called_one(recipe: Recipe, cmib: bool, cma: bool, words: str) -> None:
    assert words in card(recipe.model_copy(update={"use_cmib": cmib, "use_cma": cma}))


def test_without_a_valid_split_there_are_no_figures(recipe: Recipe) -> None:
    text = card(recipe, scores={})
    assert "| – | – | – | – | – |" in text
    assert "chose the epoch" not in text
    assert "the last epoch was kept" in text


def test_card_mentions_benchmarks_only_for_benchmarks(recipe: Recipe) -> None:
    """A model of Dutch invoices was described as one of English tweets of 2014 to 2017."""
    ours = {"posts": {"twitter2017": 3373}, "images": {"twitter2017": 0}, "checksums": {"twitter2017": None}}
    for words in ("language: en\n", "English posts of 2014 to 2017", "politicians", "@handle"):
        assert words in card(recipe, **ours)
        assert words not in card(recipe)
