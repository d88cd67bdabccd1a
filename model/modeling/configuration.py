"""The configuration of SMNER: everything needed to build the network without its weights."""

from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from model.modeling.bottleneck import CRITICS

NO_ENTITY = "O"
EIGHT_BITS = "smner-int8"  # what model.eight_bits reads
ENTITY_TYPES = ("PER", "LOC", "ORG", "MISC")


class SMNERConfig(PreTrainedConfig):
    """Configuration of :class:`model.SMNER`; the defaults are the paper's (sections 3 and 4.1).

    Args:
        text_config: configuration of the text encoder; BERT-base-uncased when not given.
        image_encoder: ``torchvision:NAME`` or ``timm:NAME``; None for a model that reads ready image features only.
        image_feature_size: C, the width of the image features; needed only without an image encoder.
        max_span_width: widest span considered, in words.
        length_size, morph_size: widths of the span-length and morph embeddings (section 4.1: 50 and 100).
        attention_heads: heads of the cross-modal attention (12 at d = 768).
        morph_inputs: True embeds the morphs at the text encoder's input too; see
            :class:`model.modeling.morph_inputs.MorphInputs`.
        max_pooling: True adds the maximum over a span's words to its representation; see
            :class:`model.modeling.span_encoder.SpanEncoder`.
        classifier_dropout: dropout of the classifier, in [0, 1).
        use_cmib, use_cma: False switches the module off, as in the ablations of table 4.
        initial_deviation: initial σ of the posteriors of eq. 4. At softplus(0) ≈ 0.69 the noise of hundreds of
            dimensions drowns the means, and the bottleneck never leaves chance.
        critic: f_d of eq. 7, ``mlp`` (the paper's) or ``cosine``; see :mod:`model.modeling.bottleneck`.
        score_temperature: divides the logits before the scores of entities are computed (Guo et al. 2017). Fitted after
            training; it does not change which entities are found.
        id2label: index to label, 0 is "no entity", the rest are the entity types.
        weight_format: how a checkpoint stores the weights, see :mod:`model.weights`; float32 in a loaded model.
    """

    model_type = "smner"
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert")
    }

    text_config: PreTrainedConfig | dict[str, Any] | None = None
    id2label: dict[int, str] | None = None
    image_encoder: str | None = "torchvision:resnet152"
    image_feature_size: int | None = None
    max_span_width: int = 4
    length_size: int = 50
    morph_size: int = 100
    attention_heads: int = 12
    morph_inputs: bool = False
    max_pooling: bool = False
    classifier_dropout: float = 0.2
    use_cmib: bool = True
    use_cma: bool = True
    initial_deviation: float = 0.1
    critic: str = "mlp"
    score_temperature: float = 1.0
    weight_format: str = "float32"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.id2label is None:
            self.id2label = dict(enumerate((NO_ENTITY, *ENTITY_TYPES)))
        super().__post_init__(**kwargs)
        self.label2id = {label: index for index, label in (self.id2label or {}).items()}
        if self.weight_format == "int8":
            self.quantization_config = {"quant_method": EIGHT_BITS}
        self._check()

    def _check(self) -> None:
        assert self.id2label is not None
        labels = [self.id2label.get(index) for index in range(len(self.id2label))]
        if len(labels) < 2 or labels[0] != NO_ENTITY or None in labels or len(set(labels)) != len(labels):
            raise ValueError(
                f"labels must be {NO_ENTITY!r} at index 0 and then distinct entity types, not {self.id2label}"
            )
        if self.max_span_width < 1:
            raise ValueError(f"max_span_width must be at least 1, not {self.max_span_width}")
        if not 0 <= self.classifier_dropout < 1:
            raise ValueError(f"classifier_dropout must lie in [0, 1), not {self.classifier_dropout}")
        if self.hidden_size % self.attention_heads:
            raise ValueError(
                f"the text encoder's width {self.hidden_size} is not divisible by {self.attention_heads} heads"
            )
        if self.initial_deviation <= 0:
            raise ValueError(f"initial_deviation must be positive, not {self.initial_deviation}")
        if self.score_temperature <= 0:
            raise ValueError(f"score_temperature must be positive, not {self.score_temperature}")
        if self.critic not in CRITICS:
            raise ValueError(f"critic must be one of {', '.join(CRITICS)}, not {self.critic!r}")
        if self.image_encoder is None and self.image_feature_size is None:
            raise ValueError("without an image encoder, image_feature_size must be given")

    @property
    def hidden_size(self) -> int:
        """d, the width of the text encoder's states."""
        text: Any = self.text_config
        return int(text.hidden_size)

    def label(self, index: int) -> str:
        """The label of a logit."""
        assert self.id2label is not None
        return self.id2label[index]

    @property
    def entity_types(self) -> list[str]:
        """The labels without "no entity", in the order of the logits."""
        return [self.label(index) for index in range(1, self.num_labels)]
