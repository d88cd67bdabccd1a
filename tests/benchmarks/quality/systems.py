"""The systems of the comparison, each as a trainer that is ready to go.

The same for all: text encoder and its pretrained weights, posts and their order, batches, epochs, learning rates of
encoder and heads, warm-up, decay, clipping, precision, consistency between two passes, the choice of the epoch by the
mean F1 on the valid splits, seeds, and how an answer is scored.

What differs: only SMNER and its ablations look at photos. Where the recipe has morphs at the text encoder's input, the
span classifier has them too; the taggers are as they come and see the tokenizer's sub-tokens alone, but for the one
that is there to tell what the morphs are worth by themselves. Spans are weighed
by the recipe's weight of "no entity" and are at most as wide as the recipe says; tags know neither. The two taggers'
consistency is between the distributions of tags, the others' between those of spans.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model import SMNER, SMNERProcessor
from tests.benchmarks.quality.data import QualityData
from tests.benchmarks.quality.span_classifier import TextSpanClassifier
from tests.benchmarks.quality.taggers import TagCollator, TaggerTrainer, WordTagger
from training.data.dataset import Collator
from training.learning.encoders import build
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe

# what makes a trainer: of SMNER as the recipe has it, its processor, the recipe, the data and a folder for checkpoints
Make = Callable[[SMNER, SMNERProcessor, Recipe, QualityData, Path], SMNERTrainer]


@dataclass(frozen=True, slots=True)
class System:
    """A row of the table: its name, what makes its trainer, and what it changes in the recipe."""

    title: str
    make: Make
    changes: dict[str, Any] = field(default_factory=dict)

    def recipe(self, recipe: Recipe, seed: int) -> Recipe:
        """The recipe as this system trains by it."""
        return recipe.model_copy(update={**self.changes, "seed": seed})

    def trainer(self, recipe: Recipe, data: QualityData, output: Path) -> SMNERTrainer:
        """A trainer by a recipe of :meth:`recipe`; its network is random until ``set_seed``."""
        smner, processor = build(recipe, data.types, image_feature_size=data.feature_size)
        return self.make(smner, processor, recipe, data, output)


def span_trainer(
    network: Any, processor: SMNERProcessor, recipe: Recipe, data: QualityData, output: Path
) -> SMNERTrainer:
    """Of a network that classifies spans."""
    collator = Collator(processor, network.config.label2id, recipe.max_span_width)
    return SMNERTrainer(
        network, recipe, collator, train=data.train(processor), valid=data.valid(processor), output=output
    )


def _text_spans(
    smner: SMNER, processor: SMNERProcessor, recipe: Recipe, data: QualityData, output: Path
) -> SMNERTrainer:
    return span_trainer(TextSpanClassifier.like(smner), processor, recipe, data, output)


def _tags(*, crf: bool = False, morphs: bool = False) -> Make:
    def make(smner: SMNER, processor: SMNERProcessor, recipe: Recipe, data: QualityData, output: Path) -> SMNERTrainer:
        tagger = WordTagger.like(smner, crf=crf, morphs=morphs)
        return TaggerTrainer(
            tagger,
            recipe,
            TagCollator(processor, tagger.tags),
            train=data.train(processor),
            valid=data.valid(processor),
            output=output,
        )

    return make


BASELINE = "token-classification"

SYSTEMS = {
    BASELINE: System("Token classification", _tags()),
    "token-classification-with-morphs": System("Token classification, morphs", _tags(morphs=True)),
    "bert-crf": System("BERT-CRF", _tags(crf=True)),
    "span-classifier": System("Span classifier, text only", _text_spans),
    "smner": System("SMNER", span_trainer, {"use_cmib": True, "use_cma": True}),
    "smner-without-cmib": System("SMNER w/o CMIB", span_trainer, {"use_cmib": False, "use_cma": True}),
    "smner-without-cma": System("SMNER w/o CMA", span_trainer, {"use_cmib": True, "use_cma": False}),
    "smner-without-both": System("SMNER w/o both", span_trainer, {"use_cmib": False, "use_cma": False}),
}
