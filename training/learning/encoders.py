"""Where pretrained encoders come from, and the network built around them."""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self

import timm
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from model import SMNER, SMNERConfig, SMNERProcessor
from model.device import choose_device
from model.modeling.configuration import NO_ENTITY
from model.modeling.image_encoder import ImageEncoder, build_trunk
from model.preprocessing.images import ImageSettings
from training.learning.tokenizer import load_tokenizer
from training.recipes.recipe import Recipe


def build(recipe: Recipe, types: list[str], *, image_feature_size: int | None = None) -> tuple[SMNER, SMNERProcessor]:
    """The network of a recipe, its encoders pretrained and the rest random, and its processor.

    Args:
        types: the entity types to recognise.
        image_feature_size: C of ready features from an encoder that the recipe does not name.
    """
    foreign = image_feature_size is not None
    config = SMNERConfig(
        text_config=_text_config(recipe.text_encoder),
        image_encoder=None if foreign else recipe.image_encoder,
        image_feature_size=image_feature_size,
        max_span_width=recipe.max_span_width,
        attention_heads=recipe.attention_heads,
        use_cmib=recipe.use_cmib,
        use_cma=recipe.use_cma,
        initial_deviation=recipe.initial_deviation,
        critic=recipe.critic,
        morph_inputs=recipe.morph_inputs,
        max_pooling=recipe.max_pooling,
        id2label=dict(enumerate((NO_ENTITY, *types))),
    )
    model = SMNER(config)
    if recipe.pretrained:
        text_encoder = AutoModel.from_pretrained(_located(recipe.text_encoder), dtype=torch.float32)
        model.text_encoder.load_state_dict(text_encoder.state_dict())
        if model.image_encoder is not None and recipe.image_encoder is not None:
            load_trunk(model.image_encoder.trunk, recipe.image_encoder, recipe.image_encoder_weights)
    if model.image_encoder is not None:
        model.image_encoder.requires_grad_(recipe.fine_tune_image_encoder)
    if getattr(model.text_encoder, "pooler", None) is not None:
        model.text_encoder.pooler.requires_grad_(False)  # h_t^g is the state of [CLS]; the pooler is never used
    tokenizer = load_tokenizer(_located(recipe.tokenizer or recipe.text_encoder))
    return model, SMNERProcessor(
        tokenizer,
        image_settings(recipe.image_encoder),
        max_tokens=_max_tokens(model.text_encoder),
        split_compounds=recipe.split_compounds,
    )


@dataclass(frozen=True, slots=True)
class FrozenImageEncoder:
    """An image encoder that is not trained, with the photo settings it wants."""

    name: str
    network: ImageEncoder
    image_settings: ImageSettings

    @classmethod
    def load(cls, name: str, weights: str | None, *, pretrained: bool = True, device: str = "auto") -> Self:
        """Build ``torchvision:NAME`` or ``timm:NAME`` with its weights; see :class:`training.recipes.recipe.Recipe`."""
        network = ImageEncoder(name).requires_grad_(False).eval()
        if pretrained:
            load_trunk(network.trunk, name, weights)
        return cls(name, network.to(choose_device(device)), image_settings(name))

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """uint8 photos (N, 3, size, size) → features (N, 1 + m, C) float16 on the CPU."""
        device = next(self.network.parameters()).device
        features: Tensor = self.network(self.image_settings.normalize(images.to(device)))
        return features.half().cpu()

    def fingerprint(self) -> str:
        """JSON with the SHA-256 of the weights and the photo settings: what features depend on.

        The weights are taken in half precision, so that an encoder and its copy in a half-precision checkpoint are one.
        """
        digest = hashlib.sha256()
        for key, tensor in self.network.state_dict().items():
            digest.update(key.encode())
            rounded = tensor.half() if tensor.is_floating_point() else tensor
            digest.update(rounded.cpu().contiguous().numpy().tobytes())
        return json.dumps({"weights": digest.hexdigest(), **self.image_settings.to_dict()})


def image_settings(image_encoder: str | None) -> ImageSettings:
    """Size, mean and deviation that an image encoder was trained with; ImageNet's for torchvision."""
    library, _, architecture = (image_encoder or "").partition(":")
    if library != "timm":
        return ImageSettings()
    published: Any = timm.get_pretrained_cfg(architecture)
    if published is None:
        return ImageSettings()
    return ImageSettings(size=published.input_size[-1], mean=published.mean, deviation=published.std)


def _max_tokens(text_encoder: Any) -> int:
    """Sub-tokens that fit; RoBERTa and its kin count positions from behind the padding token's id, BERT from 0.

    Raises:
        ValueError: the encoder does not say.
    """
    positions = getattr(getattr(text_encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(positions, "padding_idx", None)
    unused = 0 if padding is None else int(padding) + 1
    config = text_encoder.config
    fit = int(getattr(config, "max_position_embeddings", None) or 0) - unused
    if fit <= 0:
        raise ValueError(
            f"text encoder {config.model_type}: it does not say how many sub-tokens it reads; BERT's kin do"
        )
    return fit


def _text_config(encoder: str) -> Any:
    scheme, _, name = encoder.partition(":")
    config = AutoConfig.for_model(name) if scheme == "config" else AutoConfig.from_pretrained(_located(encoder))
    config.name_or_path = ""  # a folder of this machine has no business in a checkpoint
    config.dtype = torch.float32  # many are published in half precision, in which nothing is trained
    return config


def _located(source: str) -> str:
    """``package:NAME`` to the folder inside the installed package; hub ids and folders are left as they are."""
    scheme, _, name = source.partition(":")
    return str(files(name) / "model") if scheme == "package" else source


def load_trunk(trunk: nn.Module, encoder: str, weights: str | None) -> None:
    """Fill a trunk with pretrained weights: its library's published ones, a package's or a ``.pth`` file."""
    if weights is None:
        trunk.load_state_dict(build_trunk(encoder, pretrained=True)[0].state_dict())
        return
    scheme, _, name = weights.partition(":")
    found = sorted(Path(str(files(name))).rglob("*.pth")) if scheme == "package" else [Path(weights)]
    if len(found) != 1:
        raise ValueError(f"{weights}: expected one .pth file, found {len(found)}")
    try:
        tensors = torch.load(found[0], map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{found[0]}: not a .pth file of weights") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError(f"{found[0]}: expected a .pth file with a dict of tensors by name")
    load_by_position(trunk, tensors)


def load_by_position(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load tensors that stand in the module's order under other names; a classifier behind them is left out.

    Raises:
        ValueError: a shape differs, or there are too few.
    """
    own = module.state_dict()
    if len(tensors) < len(own):
        raise ValueError(f"{len(tensors)} tensors do not fill the {len(own)} of the encoder")
    loaded = {}
    for (name, place), (other, tensor) in zip(own.items(), tensors.items(), strict=False):
        if place.shape != tensor.shape:
            raise ValueError(f"{other} {tuple(tensor.shape)} does not fit {name} {tuple(place.shape)}")
        loaded[name] = tensor
    module.load_state_dict(loaded)
