from pathlib import Path

import pytest
import torch
from transformers import set_seed

from model import SMNER
from tests.benchmarks.quality.data import QualityData
from tests.benchmarks.quality.span_classifier import TextSpanClassifier
from tests.benchmarks.quality.systems import SYSTEMS
from tests.benchmarks.quality.taggers import WordTagger
from training.recipes.recipe import Recipe
from training.scoring.evaluation import score

PEERS = ("token-classification", "token-classification-with-morphs", "bert-crf", "span-classifier")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_learns_eight_posts_by_heart(name: str, recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    set_seed(0)
    longer = recipe.model_copy(update={"epochs": 40, "patience": 0})
    trainer = SYSTEMS[name].trainer(longer, data, tmp_path / "checkpoints")
    (dataset,) = trainer.valid.values()
    assert score(dataset.posts, trainer.entities(dataset)).f1 < 0.6
    trainer.train()
    assert score(dataset.posts, trainer.entities(dataset)).f1 > 0.9


@pytest.mark.parametrize(
    ("name", "bottleneck", "attention"),
    [
        ("smner", True, True),
        ("smner-without-cmib", False, True),
        ("smner-without-cma", True, False),
        ("smner-without-both", False, False),
    ],
)
def test_an_ablation_lacks_what_its_name_says(
    name: str, bottleneck: bool, attention: bool, recipe: Recipe, data: QualityData, tmp_path: Path
) -> None:
    """Whatever the recipe says: it may itself have one switched off."""
    without = recipe.model_copy(update={"use_cmib": False})
    network = SYSTEMS[name].trainer(SYSTEMS[name].recipe(without, 0), data, tmp_path).model
    assert isinstance(network, SMNER)
    assert (network.bottleneck is not None, network.cross_modal_attention is not None) == (bottleneck, attention)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_has_the_recipes_learning_rates_and_the_same_order_of_posts(
    name: str, recipe: Recipe, data: QualityData, tmp_path: Path
) -> None:
    own = recipe.model_copy(update={"encoder_learning_rate": 1e-3, "head_learning_rate": 3e-3})
    trainer = SYSTEMS[name].trainer(own, data, tmp_path)
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    rates = {
        names[id(parameter)]: group["lr"]
        for group in trainer.create_optimizer().param_groups
        for parameter in group["params"]
    }
    assert {rate for name, rate in rates.items() if "embeddings" in name or "encoder.layer" in name} == {1e-3}
    assert {rate for name, rate in rates.items() if "classifier" in name or "tag_model" in name} == {3e-3}
    smner = SYSTEMS["smner"].trainer(own, data, tmp_path)
    assert list(trainer._get_train_sampler()) == list(smner._get_train_sampler())


def test_peers_begin_with_smners_text_encoder(recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    encoders = []
    for name in ("smner", *PEERS):
        set_seed(3)
        network = SYSTEMS[name].trainer(recipe, data, tmp_path).model
        encoder = network.network.base_model if isinstance(network, WordTagger) else network.text_encoder
        encoders.append({key: tensor for key, tensor in encoder.state_dict().items() if "pooler" not in key})
    first, *others = encoders
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(tensor, other[key]) for key, tensor in first.items())


def test_images_move_smner_and_no_peer(recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    for name in ("smner", *PEERS):
        trainer = SYSTEMS[name].trainer(recipe, data, tmp_path)
        network = trainer.model.eval()
        batch = trainer.collator.inputs([trainer.parts[0][i] for i in (0, 2)])
        other = {**batch, "image_features": -batch["image_features"]}
        answers = [network(**own) for own in (batch, other)]
        one, two = (answer if isinstance(answer, torch.Tensor) else answer.logits for answer in answers)
        assert torch.equal(one, two) == (name != "smner")


def test_the_span_classifier_has_nothing_of_the_image_path(recipe: Recipe, data: QualityData, tmp_path: Path) -> None:
    network = SYSTEMS["span-classifier"].trainer(recipe, data, tmp_path).model
    assert isinstance(network, TextSpanClassifier)
    assert {name.partition(".")[0] for name in network.state_dict()} == {"text_encoder", "span_encoder", "classifier"}
    assert network.classifier.layers[1].in_features == 24  # d: s_t alone


@pytest.mark.parametrize("name", ["span-classifier", "token-classification-with-morphs"])
@pytest.mark.parametrize("told", [False, True])
def test_some_peers_are_told_how_words_are_written_if_smner_is(
    name: str, told: bool, recipe: Recipe, data: QualityData, tmp_path: Path
) -> None:
    trainer = SYSTEMS[name].trainer(recipe.model_copy(update={"morph_inputs": told}), data, tmp_path)
    network = trainer.model.eval()
    assert (network.morph_inputs is not None) == told
    if told:
        batch = trainer.collator.inputs([trainer.parts[0][0]])

        def answer() -> torch.Tensor:
            output = network(**batch)
            return output if isinstance(output, torch.Tensor) else output.logits

        before = answer()
        torch.nn.init.normal_(network.morph_inputs.embedding.weight)
        assert not torch.allclose(answer(), before)
