"""SMNER, assembled (paper, figure 2).

Notation: B posts, T sub-tokens, n words, S spans, m image regions, C image feature size, d text encoder width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from model.modeling.attention import CrossModalAttention
from model.modeling.bottleneck import BottleneckLoss, CrossModalBottleneck, Gaussian
from model.modeling.classifier import SpanClassifier
from model.modeling.configuration import SMNERConfig
from model.modeling.image_encoder import ImageEncoder
from model.modeling.morph_inputs import MorphInputs, text_inputs
from model.modeling.span_encoder import SpanEncoder
from model.modeling.spans import Spans, enumerate_spans
from training.learning.distributed import process_count, sum_over_processes


@dataclass
class SMNEROutput(ModelOutput):
    """What the network says about a batch.

    Attributes:
        logits: (B, S, 1 + types) float, index 0 is "no entity"; zero for padding spans.
        spans: the S spans and which are real.
        text_posterior: p(z_t | x_t), (B, d); None without CMIB.
        image_posterior: p(z_v | x_v), (B, d), rows of posts without a photo mean nothing; None without CMIB or photos.
        bottleneck: the terms of eq. 2 over the posts with a photo, when asked for; None without CMIB or photos.
        attentions: α of eq. 9, (B, heads, S, 1 + m), when asked for; None without CMA.
    """

    logits: Tensor | None = None
    spans: Spans | None = None
    text_posterior: Gaussian | None = None
    image_posterior: Gaussian | None = None
    bottleneck: BottleneckLoss | None = None
    attentions: Tensor | None = None


class SMNER(PreTrainedModel):
    """Span-based multimodal named entity recognition; built from its configuration alone, with random weights."""

    config_class = SMNERConfig
    config: SMNERConfig
    base_model_prefix = "smner"
    main_input_name = "input_ids"
    input_modalities = ("text", "image")
    _supports_sdpa = True

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
        self.no_image = nn.Parameter(torch.zeros(width))  # stands for z_v where there is no photo
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
        """Hugging Face's, but zero for the morphs at the input and Glorot's on the path to the bottleneck.

        On that path, weights drawn from N(0, 0.02²) shrink the means through six layers far below σ before the critic
        sees them, and InfoNCE is slow to leave chance.
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

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """Photos (N, 3, H, W) float → image features V (N, 1 + m, C) float, row 0 the global vector."""
        if self.image_encoder is None:
            raise ValueError("this model was trained on ready image features and has no image encoder")
        features: Tensor = self.image_encoder(pixel_values.to(self.image_projection.weight.dtype))
        return features

    def encode_text(
        self, input_ids: Tensor, attention_mask: Tensor, word_starts: Tensor, word_ends: Tensor, morphs: Tensor
    ) -> Tensor:
        """Hidden states of the sub-tokens, (B, T, d) float; arguments as in :meth:`forward`."""
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
        image_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        image_feature_mask: Tensor | None = None,
        output_attentions: bool = False,
        output_bottleneck: bool = False,
        passes: int = 1,
    ) -> SMNEROutput:
        """Classify every span of every post.

        Args:
            input_ids, attention_mask: (B, T) int64, sub-tokens with [CLS] first; 1 on sub-tokens, 0 on padding.
            word_starts, word_ends: (B, n) int64 in [0, T), first and last sub-token of each word.
            morphs: (B, n) int64, :class:`model.morphs.Morph` of each word, 0 behind the last.
            image_mask: (B,) bool, True where a post has a photo; every post of a batch with photos when not given.
            pixel_values: (B, 3, H, W) float, normalised photos, or
            image_features: (B, 1 + m, C) float, ready features; rows of posts without a photo are not looked at.
            image_feature_mask: (B, 1 + m) bool, True where a region is real; all of them when not given.
            output_attentions: whether to return the weights of the cross-modal attention.
            output_bottleneck: whether to compute the terms of eq. 2.
            passes: how often the same posts stand in the batch, one copy of all of them behind another; no post is
                contrasted with another copy's photos.
        """
        states = self.encode_text(input_ids, attention_mask, word_starts, word_ends, morphs)
        spans = enumerate_spans(morphs != 0, self.config.max_span_width)
        span_states = self.span_encoder(states, word_starts, word_ends, morphs, spans)  # s_t

        image = self._image_states(image_mask, pixel_values, image_features, image_feature_mask)
        if output_bottleneck and process_count() > 1:
            image = self._image_states_as_others(image, states)
        text_posterior = image_posterior = loss = None
        image_global = None if image is None else image.states[:, 0]  # h_v^g
        if self.bottleneck is not None:
            text_posterior = self.bottleneck.text_posterior(states[:, 0])
            if image is not None and image_global is not None:
                image_posterior = self.bottleneck.image_posterior(image_global)
                image_global = self._draw(image_posterior)  # z_v
                if output_bottleneck:
                    loss = self._bottleneck_loss(text_posterior, image_posterior, image_global, image.post_mask, passes)
            elif output_bottleneck:
                # DDP waits for a gradient of whatever an output hangs on, and none will come
                text_posterior = Gaussian(*(part.detach() for part in text_posterior))

        global_slot = self.no_image.expand(len(states), -1)
        keys, key_mask = global_slot[:, None], attention_mask.new_ones(len(states), 1, dtype=torch.bool)
        if image is not None and image_global is not None:
            global_slot = torch.where(image.post_mask[:, None], image_global, global_slot)
            keys = torch.cat([global_slot[:, None], image.states[:, 1:]], 1)  # m_v, (B, 1 + m, d)
            key_mask = torch.cat([key_mask, image.region_mask], 1)

        attentions = None
        if self.cross_modal_attention is not None:
            attended = self.cross_modal_attention(span_states, keys, key_mask, spans, output_weights=output_attentions)
            image_aware, attentions = attended.states, attended.weights  # s_tv
        else:
            image_aware = global_slot.index_select(0, spans.posts)
        logits = spans.place(self.classifier(torch.cat([span_states, image_aware], -1)))  # eq. 13, 14
        return SMNEROutput(logits, spans, text_posterior, image_posterior, loss, attentions)

    def _image_states(
        self,
        image_mask: Tensor | None,
        pixel_values: Tensor | None,
        image_features: Tensor | None,
        image_feature_mask: Tensor | None,
    ) -> "_ImageStates | None":
        given = pixel_values if image_features is None else image_features
        if given is None:
            return None
        if image_mask is None:
            image_mask = torch.ones(len(given), dtype=torch.bool, device=given.device)
        if not image_mask.any():
            return None
        if image_features is None:
            encoded = self.encode_images(given[image_mask])  # only photos that are there cost anything
            image_features = encoded.new_zeros(len(given), *encoded.shape[1:])
            image_features[image_mask] = encoded
        image_features = image_features.masked_fill(~image_mask[:, None, None], 0)
        regions = image_mask[:, None].expand(-1, image_features.shape[1] - 1)
        if image_feature_mask is not None:
            regions = regions & image_feature_mask[:, 1:]
        dtype = self.image_projection.weight.dtype
        return _ImageStates(self.image_projection(image_features.to(dtype)), image_mask, regions)

    def _image_states_as_others(self, image: "_ImageStates | None", states: Tensor) -> "_ImageStates | None":
        """Without photos here but in another process: image states for no post, so that weights are used alike.

        Processes that train together have to meet in the same collectives, forward and backward.
        """
        own = torch.tensor(int(image is not None), device=states.device)
        if int(sum_over_processes(own)) == 0 or image is not None:
            return image
        nothing = states.new_zeros(len(states), 1, self.image_projection.in_features)
        nobody = torch.zeros(len(states), dtype=torch.bool, device=states.device)
        dtype = self.image_projection.weight.dtype
        return _ImageStates(self.image_projection(nothing.to(dtype)), nobody, nobody[:, None][:, :0])

    def _bottleneck_loss(
        self, text: Gaussian, image: Gaussian, image_sample: Tensor, mask: Tensor, passes: int
    ) -> BottleneckLoss | None:
        """Mean over the passes of eq. 2's terms, which are 0 where the photos of a pass were all dropped."""
        assert self.bottleneck is not None
        text_sample = self._draw(text)
        found = []
        for rows in torch.arange(len(mask), device=mask.device).chunk(passes):
            real = rows[mask[rows]]
            one = self.bottleneck.loss(_rows(text, real), _rows(image, real), text_sample[real], image_sample[real])
            found += [] if one is None else [one]
        if not found:
            return None
        info_nce, kl, rank = (sum(terms) for terms in zip(*found, strict=True))
        return BottleneckLoss(info_nce / passes, kl / passes, rank / len(found))

    def _draw(self, posterior: Gaussian) -> Tensor:
        """z: a sample in training, the mean in evaluation, so that the same post always gets the same answer."""
        drawn = posterior.sample() if self.training else posterior.mean
        return drawn.to(self.no_image.dtype)


@dataclass(frozen=True, slots=True)
class _ImageStates:
    """H_v (B, 1 + m, d), which posts have a photo (B,) and which regions are real (B, m)."""

    states: Tensor
    post_mask: Tensor
    region_mask: Tensor


def _rows(distribution: Gaussian, rows: Tensor) -> Gaussian:
    return Gaussian(distribution.mean[rows], distribution.deviation[rows])
