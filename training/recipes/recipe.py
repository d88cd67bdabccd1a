"""The schema of a recipe: a TOML file with all settings of a training run."""

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

from model.weights import WeightFormat

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Recipe(BaseModel):
    """The keys of a recipe and what they mean."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(description="name of the checkpoint")
    text_encoder: str = Field(
        description="hub id, folder, `package:NAME` (the folder `model` in an installed package) or `config:TYPE` "
        "(the default configuration of an architecture; `config:bert` is BERT-base-uncased)"
    )
    tokenizer: str | None = Field(None, description="hub id or folder of the tokenizer, if not with the text encoder")
    image_encoder: str | None = Field(
        description="`torchvision:NAME` or `timm:NAME`; none to train on ready features only"
    )
    image_encoder_weights: str | None = Field(
        None, description="`package:NAME` for weights in an installed package; by default its library's published ones"
    )
    pretrained: bool = Field(True, description="false gives both encoders random weights")
    use_cmib: bool = Field(True, description="false switches the information bottleneck off (table 4)")
    use_cma: bool = Field(True, description="false switches the cross-modal attention off (table 4)")
    max_span_width: PositiveInt = Field(4, description="widest span, in words")
    attention_heads: PositiveInt = Field(12, description="heads of the cross-modal attention; they divide the width d")
    initial_deviation: PositiveFloat = Field(0.1, description="initial σ of the posteriors")
    critic: str = Field("mlp", description="scores a text with an image in InfoNCE: `mlp`, the paper's, or `cosine`")
    morph_inputs: bool = Field(
        False, description="true tells an uncased text encoder the casing of each word; not in the paper"
    )
    split_compounds: bool = Field(
        False,
        description="true tokenizes the parts of NHLBlackhawks and @premierleague as words; not in the paper",
    )
    max_pooling: bool = Field(
        False, description="true adds the maximum over a span's words to its representation; not in the paper"
    )
    epochs: PositiveFloat = Field(description="passes over the training data")
    max_steps: int = Field(-1, description="number of optimizer steps to stop after; -1 for no limit")
    batch_size: PositiveInt = Field(
        16, description="posts in a batch of one process; the batches of all processes together make a step"
    )
    gradient_accumulation: PositiveInt = Field(
        1,
        description="batches per step, to save memory; InfoNCE contrasts the posts within each",
    )
    encoder_learning_rate: NonNegativeFloat = Field(description="learning rate of the text encoder")
    head_learning_rate: NonNegativeFloat = Field(description="learning rate of everything trained from scratch")
    image_encoder_learning_rate: NonNegativeFloat = Field(
        1e-5, description="learning rate of the image encoder, if it is fine-tuned"
    )
    fine_tune_image_encoder: bool = Field(
        False, description="true trains the image encoder too, so its features cannot be cached"
    )
    warmup: Fraction = Field(0.1, description="share of the steps over which the learning rate rises")
    weight_decay: NonNegativeFloat = Field(0.01, description="AdamW's")
    cmib_weight: NonNegativeFloat = Field(0.1, description="λ of eq. 16")
    cmib_beta: NonNegativeFloat = Field(0.01, description="β of eq. 2")
    no_entity_weight: PositiveFloat = Field(0.5, description='weight of "no entity" in the cross-entropy')
    consistency_weight: NonNegativeFloat = Field(
        0.0,
        description="weight of the divergence between two passes with different dropout (R-Drop); above 0, a step "
        "costs twice as much",
    )
    undo_no_entity_weight: bool = Field(
        False, description="true takes the weight's effect out of the trained classifier: −ln of it goes to its bias"
    )
    image_dropout: Fraction = Field(0.1, description="chance that a post's image is dropped in training")
    patience: NonNegativeInt = Field(
        5, description="epochs without a better F1 on valid before training stops; 0 for never"
    )
    seed: int = Field(0, description="seed of everything random")
    bf16: bool = Field(
        False,
        description="true trains in mixed precision with bfloat16; a device without it trains in float32 and says so",
    )
    weight_format: WeightFormat = Field("float32", description="how the checkpoint stores the weights, or in `int8`")
    report_to: str | None = Field(
        "tensorboard",
        description="trackers that Trainer reports to: `tensorboard`, `wandb`, `mlflow`, `all`, … or none",
    )
    teacher: str | None = Field(
        None,
        description="text-only model that teaches this one its span scores: the folder or name of a checkpoint, or a "
        "recipe that is trained first on the posts with tags; --set does not change that recipe",
    )
    start_from_teacher: bool = Field(
        False, description="true starts with the weights of the teacher, which must be the same network"
    )
    distillation_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="share of the teacher in the loss of tagged posts; it has the whole loss of untagged ones"
    )
    distillation_temperature: PositiveFloat = Field(
        1.0, description="softens teacher and student alike (Hinton et al. 2015, section 2)"
    )
    max_texts: NonNegativeInt | None = Field(
        None, description="posts of each file of --texts to train on, chosen by the hash of their ids; all if none"
    )
    casing_share: Fraction = Field(
        0.0,
        description="share of the training posts that have a copy in small letters, and of those with one in capitals",
    )
    split_retweets: bool = Field(
        False,
        description="true splits the handle of `RT @name` in training posts as raw text is split; in Twitter-2015 it "
        "is one word",
    )
    held_out: NonNegativeInt = Field(0, description="posts without tags that are kept out of training")

    @field_validator(
        "tokenizer", "image_encoder", "image_encoder_weights", "report_to", "teacher", "max_texts", mode="before"
    )
    @classmethod
    def _none(cls, value: Any) -> Any:
        """Read "none" as null, which TOML lacks."""
        return None if value == "none" else value

    @classmethod
    def load(cls, name: str, overrides: dict[str, Any] | None = None) -> Self:
        """Read a recipe by its name in ``training/recipes`` or by the path of its file.

        Raises:
            FileNotFoundError: naming the bundled recipes.
            pydantic.ValidationError: naming the key that is wrong.
            ValueError: naming the file that is not TOML.
        """
        bundled = Path(str(files("training") / "recipes"))
        path = Path(name) if name.endswith(".toml") else bundled / f"{name}.toml"
        if not path.is_file():
            known = ", ".join(sorted(recipe.stem for recipe in bundled.glob("*.toml")))
            raise FileNotFoundError(f"no recipe {name!r}; there are {known}, or give the path of a .toml file")
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except ValueError as error:  # not TOML, or not UTF-8
            raise ValueError(f"{path}: {error}") from error
        return cls(**{"name": path.stem, **values, **(overrides or {})})


def recipe_names() -> list[str]:
    """The names of the recipes in ``training/recipes``, sorted."""
    return sorted(path.stem for path in Path(str(files("training") / "recipes")).glob("*.toml"))


def parse_override(setting: str) -> tuple[str, Any]:
    """Parse ``key=value``; the value is read as TOML, or else as a plain string."""
    key, separator, value = setting.partition("=")
    if not separator or key not in Recipe.model_fields:
        raise ValueError(f"--set takes key=value with a recipe's key, not {setting!r}")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
