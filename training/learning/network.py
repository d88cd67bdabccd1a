"""Builds the network of a recipe around its pretrained encoders."""

from importlib.resources import files
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from model import SMNER, SMNERConfig, SMNERProcessor
from model.modeling.configuration import NO_ENTITY
from training.features.image_encoder import image_settings, load_trunk
from training.learning.tokenizer import load_tokenizer
from training.recipes.recipe import Recipe


def build(recipe: Recipe, types: list[str], *, image_feature_size: int | None = None) -> tuple[SMNER, SMNERProcessor]:
    """Build a recipe's network (pretrained encoders, the rest random) and its processor.

    Args:
        types: the entity types to recognize.
        image_feature_size: C of ready features, if an encoder other than the recipe's made them.
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
        model.text_encoder.pooler.requires_grad_(False)  # unused: h_t^g is the state of [CLS]
    tokenizer = load_tokenizer(_located(recipe.tokenizer or recipe.text_encoder))
    return model, SMNERProcessor(
        tokenizer,
        image_settings(recipe.image_encoder),
        max_tokens=_max_tokens(model.text_encoder),
        split_compounds=recipe.split_compounds,
    )


def _max_tokens(text_encoder: Any) -> int:
    """How many sub-tokens fit. RoBERTa and its kin start positions at the padding token's id + 1, BERT at 0.

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
            f"text encoder {config.model_type}: its configuration does not say how many sub-tokens it reads"
        )
    return fit


def _text_config(encoder: str) -> Any:
    scheme, _, name = encoder.partition(":")
    config = AutoConfig.for_model(name) if scheme == "config" else AutoConfig.from_pretrained(_located(encoder))
    config.name_or_path = ""  # else the checkpoint would contain a local path
    config.dtype = torch.float32  # many are published in half precision, which is too coarse to train in
    return config


def _located(source: str) -> str:
    """Resolve ``package:NAME`` to the folder in the installed package; leave hub ids and folders as they are."""
    scheme, _, name = source.partition(":")
    return str(files(name) / "model") if scheme == "package" else source
