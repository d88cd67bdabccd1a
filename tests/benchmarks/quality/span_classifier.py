"""A text-only span classifier, as SpanNER (Fu et al. 2021)."""

from typing import Self

from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from model import SMNER, SMNERConfig
from model.modeling.classifier import SpanClassifier
from model.modeling.morph_inputs import MorphInputs
from model.modeling.smner import SMNEROutput
from model.modeling.span_encoder import SpanEncoder
from model.modeling.spans import enumerate_spans


class TextSpanClassifier(PreTrainedModel):
    """SMNER's span encoder with a classifier of s_t alone.

    Unlike SMNER without CMIB and CMA, which still classifies [s_t ; h_v^g].
    """

    config_class = SMNERConfig
    config: SMNERConfig
    _supports_sdpa = True

    def __init__(self, config: SMNERConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.text_encoder = AutoModel.from_config(config.text_config)
        self.morph_inputs: MorphInputs | None = None
        self.span_encoder = SpanEncoder(
            width,
            max_span_width=config.max_span_width,
            length_size=config.length_size,
            morph_size=config.morph_size,
            max_pooling=config.max_pooling,
        )
        self.classifier = SpanClassifier(width, labels=config.num_labels, dropout=config.classifier_dropout)
        self.post_init()

    @classmethod
    def like(cls, smner: SMNER) -> Self:
        """With SMNER's pretrained text encoder, morph inputs and entity types."""
        model = cls(smner.config)
        model.text_encoder, model.morph_inputs = smner.text_encoder, smner.morph_inputs
        return model

    encode_text = SMNER.encode_text

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        word_starts: Tensor,
        word_ends: Tensor,
        morphs: Tensor,
        segments: Tensor,
        **_: object,
    ) -> SMNEROutput:
        """Classify every span as :meth:`model.SMNER.forward` does; images are ignored."""
        states = self.encode_text(input_ids, attention_mask, word_starts, word_ends, morphs)
        spans = enumerate_spans(segments, self.config.max_span_width)
        logits = self.classifier(self.span_encoder(states, word_starts, word_ends, morphs, spans))
        return SMNEROutput(logits=spans.place(logits), spans=spans)
