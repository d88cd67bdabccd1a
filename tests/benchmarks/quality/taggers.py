"""Peers that tag words: Hugging Face token classification and BERT-CRF.

Notation: B posts, n words of the longest, K tags.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification

from model import SMNER, SMNERProcessor
from model.modeling.morph_inputs import MorphInputs, text_inputs
from model.morphs import Morph
from model.preprocessing.processor import Batch
from tests.benchmarks.quality.tags import IndependentTags, LinearChainCRF, TagModel
from training.data.dataset import Collator, Example, PostDataset
from training.data.posts import entities_of_tags
from training.learning.objective import symmetric_divergence
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe
from training.scoring.evaluation import Predictions, ask


def bio_tags(types: Sequence[str]) -> list[str]:
    """O, and B- and I- of every type."""
    return ["O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]


class WordTagger(nn.Module):
    """A token classification network that is read at the first sub-token of each word, and a distribution over tags.

    Args:
        network: of :class:`AutoModelForTokenClassification`; its labels are the tags.
        morph_inputs: what tells it how the words are written, if it is told.
    """

    def __init__(self, network: Any, tag_model: TagModel, morph_inputs: MorphInputs | None = None) -> None:
        super().__init__()
        self.network = network
        self.tag_model = tag_model
        self.morph_inputs = morph_inputs

    @classmethod
    def like(cls, smner: SMNER, *, crf: bool, morphs: bool = False) -> "WordTagger":
        """With SMNER's pretrained text encoder and types, and ``morphs`` as it has them; its head is Hugging Face's."""
        tags = bio_tags(smner.config.entity_types)
        config: Any = copy.deepcopy(smner.config.text_config)
        config.id2label, config.label2id = dict(enumerate(tags)), {tag: i for i, tag in enumerate(tags)}
        network = AutoModelForTokenClassification.from_config(config)
        encoder = {
            name: tensor for name, tensor in smner.text_encoder.state_dict().items() if not name.startswith("pooler.")
        }
        network.base_model.load_state_dict(encoder)
        tag_model = LinearChainCRF(len(tags)) if crf else IndependentTags()
        return cls(network, tag_model, smner.morph_inputs if morphs else None)

    @property
    def tags(self) -> list[str]:
        """The tags in the order of the scores."""
        return [self.network.config.id2label[i] for i in range(self.network.config.num_labels)]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        word_starts: Tensor,
        word_ends: Tensor,
        morphs: Tensor,
        **_: object,
    ) -> Tensor:
        """Score the tags of each word: (B, n, K) float; photos and what else is in the batch are not looked at."""
        inputs = text_inputs(self.network, self.morph_inputs, input_ids, word_starts, word_ends, morphs)
        logits: Tensor = self.network(**inputs, attention_mask=attention_mask).logits  # (B, T, K)
        return logits.gather(1, word_starts[..., None].expand(-1, -1, logits.shape[-1]))


def read_tags(tagger: WordTagger, batch: Batch) -> Predictions:
    """The entities that a tagger finds in each post of a batch, read from its tags as conlleval does."""
    best = tagger.tag_model.best(tagger(**batch), word_mask(batch))
    return [entities_of_tags(tagger.tags[tag] for tag in own) for own in best]


def word_mask(batch: Batch) -> Tensor:
    """(B, n) bool, True on a post's words."""
    return batch["morphs"] != Morph.PADDING


class TagCollator(Collator):
    """As the spans' collator, but ``labels`` are the words' tags, (B, n) int64, 0 behind a post's last word."""

    def __init__(self, processor: SMNERProcessor, tags: Sequence[str]) -> None:
        super().__init__(processor, {}, 1)
        self._tags = {tag: index for index, tag in enumerate(tags)}

    def _labels(self, examples: Sequence[Example], word_mask: Tensor) -> Tensor:
        labels = torch.zeros(word_mask.shape, dtype=torch.int64)
        for row, example in enumerate(examples):
            assert example.entities is not None  # the silver posts have the teacher's
            for entity in example.entities:
                labels[row, entity.start : entity.end + 1] = self._tags[f"I-{entity.type}"]
                labels[row, entity.start] = self._tags[f"B-{entity.type}"]
        return labels


class TaggerTrainer(SMNERTrainer):
    """SMNER's trainer with a tagger's loss: all that it does but the loss, and reading the answer, is the same."""

    def __init__(
        self,
        model: WordTagger,
        recipe: Recipe,
        collator: TagCollator,
        *,
        train: Sequence[PostDataset],
        valid: dict[str, PostDataset],
        output: Path,
    ) -> None:
        network: Any = model  # the base class knows its network by what it is given here only
        super().__init__(network, recipe, collator, train=train, valid=valid, output=output)

    def _learning_rate(self, parameter: str) -> float:
        return super()._learning_rate(
            parameter.replace(f"network.{self.model.network.base_model_prefix}.", "text_encoder.")
        )

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: object
    ) -> Any:
        """Negative log-likelihood a word; with the recipe's consistency, of two passes and their divergence a word."""
        tags, mask, tag_model = inputs["labels"], word_mask(inputs), self.model.tag_model
        scores = model(**inputs)
        loss = tag_model.loss(scores, tags, mask)
        if self.recipe.consistency_weight:
            again = model(**inputs)
            divergence = symmetric_divergence(
                tag_model.log_marginals(scores, mask), tag_model.log_marginals(again, mask), mask
            )
            loss = (loss + tag_model.loss(again, tags, mask)) / 2 + self.recipe.consistency_weight * divergence
        return (loss, scores) if return_outputs else loss

    def entities(self, dataset: PostDataset) -> Predictions:
        """What the tagger finds in each post."""
        return ask(self.model, dataset, self.collator, read_tags)
