"""Peers that tag words: Hugging Face token classification and BERT-CRF.

Notation: B posts, T sub-tokens, n words of the longest post, K tags, d text encoder width.
"""

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification

from model import SMNER, SMNERProcessor
from model.modeling.morph_inputs import MorphInputs, text_inputs
from model.modeling.spans import Spans
from model.morphs import Morph
from model.preprocessing.processor import Batch
from tests.benchmarks.quality.tags import IndependentTags, LinearChainCRF, TagModel
from training.data.dataset import Collator, Example, PostDataset
from training.data.tags import entities_of_tags
from training.learning.objective import Losses, symmetric_divergence
from training.learning.trainer import SMNERTrainer
from training.scoring.prediction import run_model
from training.scoring.scores import Predictions


def bio_tags(types: Sequence[str]) -> list[str]:
    """O, then B- and I- of every type."""
    return ["O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]


class WordTagger(nn.Module):
    """A token classification network read at the first sub-token of each word, and a distribution over tags.

    Args:
        network: of :class:`AutoModelForTokenClassification`; its labels are the tags.
        morph_inputs: adds how each word is written, where given.
    """

    def __init__(self, network: Any, tag_model: TagModel, morph_inputs: MorphInputs | None = None) -> None:
        super().__init__()
        self.tags = [network.config.id2label[index] for index in range(network.config.num_labels)]
        self.text_encoder = network.base_model  # the name gives it the encoder's learning rate
        head = (module for name, module in network.named_children() if name != network.base_model_prefix)
        self.head = nn.Sequential(*head)  # dropout and a linear layer
        self.tag_model = tag_model
        self.morph_inputs = morph_inputs

    @classmethod
    def like(cls, smner: SMNER, *, crf: bool, morphs: bool = False) -> Self:
        """With SMNER's pretrained text encoder and types, Hugging Face's head, and SMNER's morph inputs if asked."""
        tags = bio_tags(smner.config.entity_types)
        config: Any = copy.deepcopy(smner.config.text_config)
        config.id2label, config.label2id = dict(enumerate(tags)), {tag: i for i, tag in enumerate(tags)}
        network = AutoModelForTokenClassification.from_config(config)
        encoder = smner.text_encoder.state_dict()
        network.base_model.load_state_dict({key: encoder[key] for key in encoder if not key.startswith("pooler.")})
        tag_model = LinearChainCRF(len(tags)) if crf else IndependentTags()
        return cls(network, tag_model, smner.morph_inputs if morphs else None)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        word_starts: Tensor,
        word_ends: Tensor,
        morphs: Tensor,
        **_: object,
    ) -> Tensor:
        """Score the tags of each word, (B, n, K) float; images and the rest of the batch are ignored."""
        inputs = text_inputs(self.text_encoder, self.morph_inputs, input_ids, word_starts, word_ends, morphs)
        states = self.text_encoder(**inputs, attention_mask=attention_mask).last_hidden_state  # (B, T, d)
        logits: Tensor = self.head(states)  # (B, T, K)
        return logits.gather(1, word_starts[..., None].expand(-1, -1, logits.shape[-1]))


def read_tags(tagger: WordTagger, batch: Batch) -> Predictions:
    """The entities that a tagger finds in each post, read from its tags as conlleval reads them."""
    best = tagger.tag_model.best(tagger(**batch), word_mask(batch))
    return [entities_of_tags(tagger.tags[tag] for tag in own) for own in best]


def word_mask(batch: Batch) -> Tensor:
    """(B, n) bool, True on real words."""
    return batch["morphs"] != Morph.PADDING


class TagCollator(Collator):
    """The spans' collator, with the words' tags as ``labels``, (B, n) int64, 0 on padding."""

    def __init__(self, processor: SMNERProcessor, tags: Sequence[str]) -> None:
        super().__init__(processor, {}, 1)
        self._tags = {tag: index for index, tag in enumerate(tags)}

    def _labels(self, examples: Sequence[Example], spans: Spans, *, words: int) -> Tensor:  # noqa: ARG002 - Collator's
        labels = torch.zeros(len(examples), words, dtype=torch.int64)
        for row, example in enumerate(examples):
            assert example.entities is not None  # the teacher has tagged the others
            for entity in example.entities:
                labels[row, entity.start : entity.end + 1] = self._tags[f"I-{entity.type}"]
                labels[row, entity.start] = self._tags[f"B-{entity.type}"]
        return labels


class TagObjective(nn.Module):
    """A tagger and its loss on a labeled batch.

    That is the negative log-likelihood per word; with a consistency weight the mean over two passes, plus their
    divergence.
    """

    def __init__(self, network: WordTagger, consistency_weight: float) -> None:
        super().__init__()
        self.network = network
        self.consistency_weight = consistency_weight

    def forward(self, batch: Batch) -> Losses:
        """Compute the loss; the terms of the bottleneck are 0."""
        tags, mask, tag_model = batch["labels"], word_mask(batch), self.network.tag_model
        scores = self.network(**batch)
        loss = tag_model.loss(scores, tags, mask)
        total = loss
        if self.consistency_weight:
            again = self.network(**batch)
            loss = (loss + tag_model.loss(again, tags, mask)) / 2
            first, second = (tag_model.log_marginals(own, mask) for own in (scores, again))
            total = loss + self.consistency_weight * symmetric_divergence(first, second, mask)
        zero = loss.new_zeros(())
        return Losses(total, loss, zero, zero, zero)


class TaggerTrainer(SMNERTrainer):
    """SMNER's trainer, reading a tagger's answers."""

    def predict_entities(self, dataset: PostDataset) -> Predictions:
        """Find the entities of each post with the present weights."""
        return run_model(self.network, dataset, self.collator.inputs, read_tags)
