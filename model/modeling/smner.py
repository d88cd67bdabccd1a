"""SMNER, assembled (figure 2 of the paper).

Notation: B posts, T sub-tokens, n words, S spans, R real spans, m image regions, C image feature size,
d width of the text encoder, h attention heads.
"""

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from model.modeling.attention import Attended, CrossModalAttention
from model.modeling.bottleneck import Aligned, CrossModalBottleneck, Gaussian
from model.modeling.classifier import SpanClassifier
from model.modeling.configuration import SMNERConfig
from model.modeling.image_encoder import ImageEncoder, refuse_to_save
from model.modeling.morph_inputs import MorphInputs, text_inputs
from model.modeling.span_encoder import SpanEncoder
from model.modeling.spans import Spans, enumerate_spans
from model.morphs import Morph


@dataclass
class SMNEROutput(ModelOutput):
    """What the network computes for a batch.

    Attributes:
        logits: (B, S, 1 + types) float, index 0 is "no entity"; zero for padding spans.
        spans: the S spans, and which of them are real.
        text_posterior, image_posterior: p(z_t | x_t) and p(z_v | x_v), (B, d) each.
        text_sample, image_sample: z_t and z_v, (B, d) float; drawn in training, the mean in evaluation.
        image_mask: (B,) bool, True where a post has an image; rows of the image's posterior and sample where it is
            False mean nothing.
        attentions: α of eq. 9, (B, h, S, 1 + m), when asked for; None without CMA.

    Posteriors and samples are None without CMIB; in a batch without images the image's are None too.
    """

    logits: Tensor | None = None
    spans: Spans | None = None
    text_posterior: Gaussian | None = None
    image_posterior: Gaussian | None = None
    text_sample: Tensor | None = None
    image_sample: Tensor | None = None
    image_mask: Tensor | None = None
    attentions: Tensor | None = None


class SMNER(PreTrainedModel):
    """Span-based multimodal named entity recognition; built from its configuration alone, with random weights."""

    config_class = SMNERConfig
    config: SMNERConfig
    base_model_prefix = "smner"
    main_input_name = "input_ids"
    input_modalities = ("text", "image")
    _supports_sdpa = True
    hub_revision: str | None = None  # that it was loaded from

    def __init__(self, config: SMNERConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.text_encoder = AutoModel.from_config(config.text_config)
        self.morph_inputs = (
            MorphInputs(self.text_encoder.get_input_embeddings().embedding_dim) if config.morph_inputs else None
        )
        self.image_encoder = ImageEncoder(config.image_encoder) if config.image_encoder else None
        feature_size = self.image_encoder.feature_size if self.image_encoder else config.image_feature_size
        assert feature_size is not None  # the configuration has checked it
        self.image_projection = nn.Linear(feature_size, width, bias=False)  # W_v, section 3.2
        self.no_image = nn.Parameter(torch.zeros(width))  # takes the place of z_v without an image
        self.bottleneck = (
            CrossModalBottleneck(width, initial_deviation=config.initial_deviation, critic=config.critic)
            if config.use_cmib
            else None
        )
        self.span_encoder = SpanEncoder(
            width,
            max_span_width=config.max_span_width,
            length_size=config.length_size,
            morph_size=config.morph_size,
            max_pooling=config.max_pooling,
        )
        self.cross_modal_attention = (
            CrossModalAttention(width, heads=config.attention_heads) if config.use_cma else None
        )
        self.classifier = SpanClassifier(2 * width, labels=config.num_labels, dropout=config.classifier_dropout)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as Hugging Face does, except morph inputs (zero) and the path to the bottleneck (Glorot).

        On that path, weights from N(0, 0.02²) would shrink the means through six layers far below σ before the critic
        sees them, and InfoNCE would be slow to leave chance.
        """
        path = [self.image_projection, *(self.bottleneck.modules() if self.bottleneck is not None else ())]
        if isinstance(module, nn.Linear) and any(module is part for part in path):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif self.morph_inputs is not None and module is self.morph_inputs.embedding:
            init.zeros_(module.weight)
        else:
            super()._init_weights(module)

    def with_encoders_in(self, *, text: torch.dtype, images: torch.dtype) -> Self:
        """Convert copies of the encoders, for inference alone; the new network shares all other weights and their type.

        What follows the encoders is a small part of the work.
        """
        converted = copy.copy(self)
        converted._modules = dict(self._modules)
        for name, dtype in (("text_encoder", text), ("image_encoder", images)):
            encoder = getattr(self, name)
            if encoder is not None and _dtype(encoder) != dtype:
                converted._modules[name] = copy.deepcopy(encoder).to(dtype)
                refuse_to_save(converted._modules[name])
        return converted

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load as any :class:`PreTrainedModel`, from a folder or the hub, but never a pickle."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **{"use_safetensors": True, **kwargs})
        network = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info
        network.hub_revision = kwargs.get("revision")
        return loaded

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """Images (N, 3, H, W) float → image features V (N, 1 + m, C) of the encoder's type, row 0 the global vector."""
        if self.image_encoder is None:
            raise ValueError("this model was trained on ready image features and has no image encoder")
        features: Tensor = self.image_encoder(pixel_values.to(_dtype(self.image_encoder)))
        return features

    def encode_text(
        self, input_ids: Tensor, attention_mask: Tensor, word_starts: Tensor, word_ends: Tensor, morphs: Tensor
    ) -> Tensor:
        """Hidden states of the sub-tokens, (B, T, d) of the encoder's type; arguments as in :meth:`forward`."""
        inputs = text_inputs(self.text_encoder, self.morph_inputs, input_ids, word_starts, word_ends, morphs)
        states: Tensor = self.text_encoder(attention_mask=attention_mask, **inputs).last_hidden_state
        return states

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        word_starts: Tensor,
        word_ends: Tensor,
        morphs: Tensor,
        segments: Tensor | None = None,
        image_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        image_feature_mask: Tensor | None = None,
        output_attentions: bool = False,
    ) -> SMNEROutput:
        """Classify every span of every post.

        With ``segments`` and ``image_mask`` on the CPU, nothing in here waits for a GPU that the rest is on, but for
        transformers' own look at ``attention_mask``, before the first layer.

        Args:
            input_ids, attention_mask: (B, T) int64, sub-tokens with [CLS] first; 1 on sub-tokens, 0 on padding.
            word_starts, word_ends: (B, n) int64 in [0, T), first and last sub-token of each word.
            morphs: (B, n) int64, :class:`model.morphs.Morph` of each word, 0 after the last.
            segments: (B, n) int64, the same number from 1 for words that one entity may have, 0 for links and after
                the last word; by default any words of a post.
            image_mask: (B,) bool, True where a post has an image; by default every post of a batch with images.
            pixel_values: (B, 3, H, W) float, normalized images, or
            image_features: (B, 1 + m, C) float, ready features; rows of posts without an image are ignored.
            image_feature_mask: (B, 1 + m) bool, True where a region is real; by default everywhere.
            output_attentions: whether to return the weights of the cross-modal attention.
        """
        states = self.encode_text(input_ids, attention_mask, word_starts, word_ends, morphs)  # H_t, (B, T, d)
        states = states.to(self.no_image.dtype)
        segments = morphs != Morph.PADDING if segments is None else segments
        spans = enumerate_spans(segments, self.config.max_span_width).to(states.device)
        span_states = self.span_encoder(states, word_starts, word_ends, morphs, spans)  # s_t, (R, d)
        image = self._project_images(image_mask, pixel_values, image_features, image_feature_mask)  # H_v, (B, 1 + m, d)
        aligned: Aligned | None = None
        if self.bottleneck is not None:
            aligned = self.bottleneck(states[:, 0], image and image.states[:, 0])  # z_t, z_v, (B, d)
        keys = self._image_keys(states, image, aligned)  # m_v, (B, 1 + m, d)
        attended = self._attend(span_states, keys, spans, output_weights=output_attentions)  # s_tv, (R, d)
        logits = self.classifier(torch.cat([span_states, attended.states], -1))  # s_u (R, 2d) → (R, 1 + types)
        return SMNEROutput(
            logits=spans.place(logits),  # (B, S, 1 + types)
            spans=spans,
            **({} if aligned is None else aligned._asdict()),
            image_mask=None if image is None else image.mask[:, 0],
            attentions=attended.weights,
        )

    def _project_images(
        self,
        image_mask: Tensor | None,
        pixel_values: Tensor | None,
        image_features: Tensor | None,
        image_feature_mask: Tensor | None,
    ) -> "_ImageStates | None":
        """H_v = V W_v (section 3.2), None if no post has an image; arguments as in :meth:`forward`."""
        given = pixel_values if image_features is None else image_features
        if given is None:
            return None
        if image_mask is None:
            image_mask = torch.ones(len(given), dtype=torch.bool, device=given.device)
        if not image_mask.any():
            return None
        image_mask = image_mask.to(given.device, non_blocking=True)
        if image_features is None:
            encoded = self.encode_images(given[image_mask])  # (images present, 1 + m, C)
            image_features = encoded.new_zeros(len(given), *encoded.shape[1:])  # (B, 1 + m, C)
            image_features[image_mask] = encoded
        image_features = image_features.masked_fill(~image_mask[:, None, None], 0)
        mask = image_mask[:, None].expand(-1, image_features.shape[1])  # (B, 1 + m)
        if image_feature_mask is not None:
            mask = torch.cat([mask[:, :1], mask[:, 1:] & image_feature_mask[:, 1:]], 1)
        weight = self.image_projection.weight
        return _ImageStates(self.image_projection(image_features.to(weight.dtype)), mask)  # (B, 1 + m, d)

    def _image_keys(self, states: Tensor, image: "_ImageStates | None", aligned: Aligned | None) -> "_ImageStates":
        """m_v = [z_v ; h_v^o]: a post without an image has a single key, the learned "no image" state.

        Without CMIB h_v^g takes the place of z_v.
        """
        no_image = self.no_image.expand(len(states), 1, -1)  # (B, 1, d)
        if image is None:
            return _ImageStates(no_image, states.new_ones(len(states), 1, dtype=torch.bool))
        sample = image.states[:, 0] if aligned is None else aligned.image_sample  # (B, d)
        assert sample is not None  # there is an image
        whole = torch.where(image.mask[:, :1, None], sample[:, None], no_image)  # (B, 1, d)
        mask = torch.cat([torch.ones_like(image.mask[:, :1]), image.mask[:, 1:]], 1)  # (B, 1 + m)
        return _ImageStates(torch.cat([whole, image.states[:, 1:]], 1), mask)  # (B, 1 + m, d)

    def _attend(self, span_states: Tensor, keys: "_ImageStates", spans: Spans, *, output_weights: bool) -> Attended:
        """Apply CMA; without it every span gets its post's z_v."""
        if self.cross_modal_attention is None:
            return Attended(keys.states[:, 0].index_select(0, spans.posts), None)  # (B, d) → (R, d)
        attended: Attended = self.cross_modal_attention(
            span_states, keys.states, keys.mask, spans, output_weights=output_weights
        )
        return attended


def _dtype(encoder: nn.Module) -> torch.dtype:
    return next(encoder.parameters()).dtype


class _ImageStates(NamedTuple):
    """States of the whole image (row 0) and its regions, (B, 1 + m, d) float, and which rows are real, (B, 1 + m)."""

    states: Tensor
    mask: Tensor
