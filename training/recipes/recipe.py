"""Recipes: everything that decides what a training run does, in a TOML file."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Recipe(BaseModel):
    """The keys of a recipe; what each is for stands in its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(description="what the checkpoint is called")
    text_encoder: str = Field(
        description="hub id, folder, `package:NAME` (the folder `model` inside an installed package) or `config:TYPE` "
        "(the default configuration of an architecture; `config:bert` is BERT-base-uncased)"
    )
    tokenizer: str | None = Field(None, description="where the tokenizer is, if not with the text encoder")
    image_encoder: str | None = Field(description="`torchvision:NAME` or `timm:NAME`; none to train on features only")
    image_encoder_weights: str | None = Field(
        None, description="`package:NAME` for weights inside an installed package; else its library's published ones"
    )
    pretrained: bool = Field(
        True, description="false builds both encoders from their configuration, with random weights"
    )
    use_cmib: bool = Field(True, description="false switches the information bottleneck off (table 4)")
    use_cma: bool = Field(True, description="false switches the cross-modal attention off (table 4)")
    max_span_width: PositiveInt = Field(4, description="widest span, in words")
    attention_heads: PositiveInt = Field(12, description="heads of the cross-modal attention; they divide the width d")
    initial_deviation: PositiveFloat = Field(0.1, description="σ that the posteriors start from")
    critic: str = Field(
        "mlp", description="what scores a text with a photo in InfoNCE: `mlp`, the paper's, or `cosine`"
    )
    morph_inputs: bool = Field(
        False, description="true tells the text encoder how each word is written; for uncased ones"
    )
    split_compounds: bool = Field(
        False,
        description="true lets the tokenizer read the parts of NHLBlackhawks and @premierleague as words; not in the "
        "paper",
    )
    shorten_urls: bool = Field(
        False, description="true lets the tokenizer read a link as `http`, one sub-token where it has a dozen or more"
    )
    max_pooling: bool = Field(
        False, description="true adds what is largest over a span's words to its two ends; not in the paper"
    )
    epochs: PositiveFloat = Field(description="passes over the training data")
    max_steps: int = Field(-1, description="stops after so many optimiser steps; -1 for never")
    batch_size: PositiveInt = Field(
        16, description="posts in a batch in each process; those of all processes make one batch together"
    )
    gradient_accumulation: PositiveInt = Field(
        1,
        description="batches whose mean gradient makes one step, where memory is short; InfoNCE contrasts the posts "
        "within each",
    )
    encoder_learning_rate: NonNegativeFloat = Field(description="of the text encoder")
    head_learning_rate: NonNegativeFloat = Field(description="of everything trained from scratch")
    image_encoder_learning_rate: NonNegativeFloat = Field(
        1e-5, description="of the image encoder, where it is fine-tuned"
    )
    fine_tune_image_encoder: bool = Field(
        False, description="true trains the image encoder too; nothing is cached then"
    )
    warmup: Fraction = Field(0.1, description="share of the steps over which the learning rate rises")
    weight_decay: NonNegativeFloat = Field(0.01, description="AdamW's")
    cmib_weight: NonNegativeFloat = Field(0.1, description="λ of eq. 16")
    cmib_beta: NonNegativeFloat = Field(0.01, description="β of eq. 2")
    no_entity_weight: PositiveFloat = Field(0.5, description='weight of "no entity" in the cross-entropy')
    consistency_weight: NonNegativeFloat = Field(
        0.0,
        description="weight of the divergence between two passes over a batch, with dropout and photos dropped anew "
        "(R-Drop); above 0, a step costs twice as much",
    )
    weight_average: Fraction = Field(
        0.0,
        description="decay of the moving average of the weights that is evaluated and stored in their place; 0: none",
    )
    image_dropout: Fraction = Field(0.1, description="chance that a post's photo is dropped in training")
    patience: NonNegativeInt = Field(5, description="epochs without a better valid F1 before it stops; 0 for never")
    seed: int = Field(0, description="of everything random")
    bf16: bool = Field(
        False, description="mixed precision in bfloat16, on devices that have it; others train in float32 and say so"
    )
    half_precision: bool = Field(False, description="true stores the checkpoint's weights in float16")
    report_to: str | None = Field(
        "tensorboard",
        description="trackers that Trainer reports to: `tensorboard`, `wandb`, `mlflow`, `all`, … or none",
    )
    teacher: str | None = Field(
        None,
        description="recipe of a text-only model that is trained first and tags the posts that have no tags; "
        "--set changes this recipe, not the teacher's",
    )
    split_retweets: bool = Field(
        False,
        description="splits the handle of `RT @name` in pre-split training words the way raw text is split, so that a "
        "model trained on Twitter-2015, whose handles are one word each, knows it from served text",
    )
    held_out: NonNegativeInt = Field(0, description="posts without tags that are kept out of training")

    @field_validator("tokenizer", "image_encoder", "image_encoder_weights", "report_to", "teacher", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        """TOML has no null."""
        return None if value == "none" else value

    @classmethod
    def load(cls, name: str, overrides: dict[str, Any] | None = None) -> Self:
        """Read the recipe called ``name`` in ``training/recipes``, or the file of that path.

        Raises:
            FileNotFoundError: naming the recipes there are.
            pydantic.ValidationError: naming the key.
            ValueError: naming the file, which is no TOML.
        """
        bundled = Path(str(files("training") / "recipes"))
        path = Path(name) if name.endswith(".toml") else bundled / f"{name}.toml"
        if not path.is_file():
            known = ", ".join(sorted(recipe.stem for recipe in bundled.glob("*.toml")))
            raise FileNotFoundError(f"no recipe {name!r}; there are {known}, or give the path of a .toml file")
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except ValueError as error:  # of the TOML or of its encoding
            raise ValueError(f"{path}: {error}") from error
        return cls(**{"name": path.stem, **values, **(overrides or {})})


def parse_override(setting: str) -> tuple[str, Any]:
    """``key=value`` to the pair; the value is TOML, or a plain string where it is not."""
    key, separator, value = setting.partition("=")
    if not separator or key not in Recipe.model_fields:
        raise ValueError(f"--set takes key=value with a recipe's key, not {setting!r}")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
