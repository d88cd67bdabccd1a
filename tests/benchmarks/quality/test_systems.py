from collections.abc import Callable

import pytest
import torch

from model import SMNER
from model.preprocessing.processor import Batch
from tests.benchmarks.quality.span_classifier import TextSpanClassifier
from tests.benchmarks.quality.systems import SYSTEMS
from training.learning.trainer import SMNERTrainer
from training.scoring.scores import score

PEERS = ("token-classification", "token-classification-with-morphs", "bert-crf", "span-classifier")
Trainer = Callable[..., SMNERTrainer]


def logits(trainer: SMNERTrainer, batch: Batch) -> torch.Tensor:
    output = trainer.network.eval()(**batch)
    return output if isinstance(output, torch.Tensor) else output.logits


@pytest.mark.parametrize("name", PEERS)
def test_peer_overfits_eight_posts(name: str, trainer: Trainer) -> None:
    own = trainer(SYSTEMS[name], epochs=40, patience=0)
    (dataset,) = own.valid_sets.values()
    assert score(dataset.posts, own.predict_entities(dataset)).f1 < 0.6
    own.train()
    assert score(dataset.posts, own.predict_entities(dataset)).f1 > 0.9


@pytest.mark.parametrize(
    ("name", "bottleneck", "attention"),
    [
        ("smner", True, True),
        ("smner-without-cmib", False, True),
        ("smner-without-cma", True, False),
        ("smner-without-both", False, False),
    ],
)
def test_ablation_lacks_what_its_name_says(name: str, bottleneck: bool, attention: bool, trainer: Trainer) -> None:
    """Even if the recipe itself switches a module off."""
    network = trainer(SYSTEMS[name], use_cmib=False).network
    assert isinstance(network, SMNER)
    assert (network.bottleneck is not None, network.cross_modal_attention is not None) == (bottleneck, attention)


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_share_learning_rates_and_post_order(name: str, trainer: Trainer) -> None:
    own, smner = (trainer(SYSTEMS[key], encoder_learning_rate=1e-3, head_learning_rate=3e-3) for key in (name, "smner"))
    names = {id(parameter): name for name, parameter in own.network.named_parameters()}
    rates = {
        names[id(parameter)]: group["lr"]
        for group in own.create_optimizer().param_groups
        for parameter in group["params"]
    }
    assert {rate for name, rate in rates.items() if "embeddings" in name or "encoder.layer" in name} == {1e-3}
    heads = ("classifier.", "head.", "tag_model.")
    assert {rate for name, rate in rates.items() if name.startswith(heads)} == {3e-3}
    assert list(own._get_train_sampler()) == list(smner._get_train_sampler())


def test_peers_start_from_smners_text_encoder(trainer: Trainer) -> None:
    encoders = []
    for name in ("smner", *PEERS):
        encoder = trainer(SYSTEMS[name]).network.text_encoder
        encoders.append({key: tensor for key, tensor in encoder.state_dict().items() if "pooler" not in key})
    first, *others = encoders
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(tensor, other[key]) for key, tensor in first.items())


def test_images_change_only_smners_answers(trainer: Trainer) -> None:
    for name in ("smner", *PEERS):
        own = trainer(SYSTEMS[name])
        batch = own.collator.inputs([own.train_sets["eight"][i] for i in (0, 2)])
        other = {**batch, "image_features": -batch["image_features"]}
        assert torch.equal(logits(own, batch), logits(own, other)) == (name != "smner")


def test_span_classifier_has_no_image_parameters(trainer: Trainer) -> None:
    network = trainer(SYSTEMS["span-classifier"]).network
    assert isinstance(network, TextSpanClassifier)
    assert {name.partition(".")[0] for name in network.state_dict()} == {"text_encoder", "span_encoder", "classifier"}
    assert network.classifier.layers[1].in_features == 24  # d: s_t alone


@pytest.mark.parametrize("name", ["span-classifier", "token-classification-with-morphs"])
@pytest.mark.parametrize("told", [False, True])
def test_peers_have_morph_inputs_if_smner_has(name: str, told: bool, trainer: Trainer) -> None:
    own = trainer(SYSTEMS[name], morph_inputs=told)
    assert (own.network.morph_inputs is not None) == told
    if told:
        batch = own.collator.inputs([own.train_sets["eight"][0]])
        before = logits(own, batch)
        torch.nn.init.normal_(own.network.morph_inputs.embedding.weight)
        assert not torch.allclose(logits(own, batch), before)
