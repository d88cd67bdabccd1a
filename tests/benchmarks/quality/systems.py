"""The systems of the comparison, each as a trainer that is ready to run.

Shared by all: text encoder and pretrained weights, posts and their order, batches, epochs, learning rates, warm-up,
decay, clipping, precision, consistency weight, seeds, scoring, and the epoch chosen by mean F1 on the valid splits.

Only SMNER and its ablations see images. The span classifier has morph inputs if the recipe does; the taggers see the
tokenizer's sub-tokens alone, except the one that shows what the morphs are worth by themselves. The weight of "no
entity" and the maximum width apply to spans, not to tags. Consistency is between distributions of tags for the taggers
and between those of spans for the others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from model import SMNER, SMNERProcessor
from tests.benchmarks.quality.data import QualityData
from tests.benchmarks.quality.span_classifier import TextSpanClassifier
from tests.benchmarks.quality.taggers import TagCollator, TaggerTrainer, TagObjective, WordTagger
from training.data.dataset import Collator
from training.learning.network import build
from training.learning.objective import Objective
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a trainer is made from; ``smner`` is the network of the recipe."""

    smner: SMNER
    processor: SMNERProcessor
    recipe: Recipe
    data: QualityData
    output: Path

    def trainer(
        self, objective: nn.Module, collator: Collator, kind: type[SMNERTrainer] = SMNERTrainer
    ) -> SMNERTrainer:
        """A trainer of ``smner`` or another network on the data."""
        train, valid = self.data.train(self.processor), self.data.valid(self.processor)
        return kind(objective, self.recipe, collator, train=train, valid=valid, output=self.output)


# a module's function or a partial of one, so that it can be sent to another process
Make = Callable[[Inputs], SMNERTrainer]


@dataclass(frozen=True, slots=True)
class System:
    """A row of the table: its title, what makes its trainer, and the recipe keys it changes."""

    title: str
    make: Make
    changes: dict[str, Any] = field(default_factory=dict)

    def recipe(self, recipe: Recipe, seed: int) -> Recipe:
        """The recipe that this system is trained by."""
        return recipe.model_copy(update={**self.changes, "seed": seed})

    def trainer(self, recipe: Recipe, data: QualityData, output: Path) -> SMNERTrainer:
        """A trainer for a recipe of :meth:`recipe`; call ``set_seed`` first, since it draws the weights."""
        smner, processor = build(recipe, data.types, image_feature_size=data.feature_size)
        return self.make(Inputs(smner, processor, recipe, data, output))


def span_trainer(inputs: Inputs, *, text_only: bool = False) -> SMNERTrainer:
    """A trainer of SMNER, or of the text-only span classifier."""
    network: Any = TextSpanClassifier.like(inputs.smner) if text_only else inputs.smner
    return inputs.trainer(
        Objective.of(network, inputs.recipe),
        Collator(inputs.processor, network.config.label2id, inputs.recipe.max_span_width),
    )


def tag_trainer(inputs: Inputs, *, crf: bool = False, morphs: bool = False) -> SMNERTrainer:
    """A trainer of a word tagger."""
    tagger = WordTagger.like(inputs.smner, crf=crf, morphs=morphs)
    objective = TagObjective(tagger, inputs.recipe.consistency_weight)
    return inputs.trainer(objective, TagCollator(inputs.processor, tagger.tags), TaggerTrainer)


BASELINE = "token-classification"

SYSTEMS = {
    BASELINE: System("Token classification", tag_trainer),
    "token-classification-with-morphs": System("Token classification, morphs", partial(tag_trainer, morphs=True)),
    "bert-crf": System("BERT-CRF", partial(tag_trainer, crf=True)),
    "span-classifier": System("Span classifier, text only", partial(span_trainer, text_only=True)),
    "smner": System("SMNER", span_trainer, {"use_cmib": True, "use_cma": True}),
    "smner-without-cmib": System("SMNER w/o CMIB", span_trainer, {"use_cmib": False, "use_cma": True}),
    "smner-without-cma": System("SMNER w/o CMA", span_trainer, {"use_cmib": True, "use_cma": False}),
    "smner-without-both": System("SMNER w/o both", span_trainer, {"use_cmib": False, "use_cma": False}),
}
