"""What may make SMNER better, each idea alone, beside the same seed without it.

All are tried with the text-only span classifier, which is level with SMNER on splits without photos and takes two
thirds of the time, and on the posts that people have tagged. What an idea is not about is as the recipe has it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

from model import SMNER, SMNERConfig, SMNERProcessor
from model.modeling.smner import SMNEROutput
from model.modeling.spans import Spans
from tests.benchmarks.quality.data import QualityData
from tests.benchmarks.quality.span_classifier import TextSpanClassifier
from tests.benchmarks.quality.systems import Make, System, span_trainer
from training.data.dataset import IGNORED, PostDataset
from training.learning.objective import Losses, Objective
from training.learning.trainer import SMNERTrainer, in_bfloat16
from training.recipes.recipe import Recipe

BASELINE = "as-it-is"

# what a span is to be, from the spans of a batch and their classes (B, S, 1 + types) float, one-hot
Soften = Callable[[Spans, Tensor], Tensor]


class BiaffineSpanClassifier(TextSpanClassifier):
    """With a biaffine score of the two ends beside the classifier's (Yu et al. 2020); it begins at zero."""

    def __init__(self, config: SMNERConfig) -> None:
        super().__init__(config)
        self.first, self.last = (nn.Sequential(nn.Linear(config.hidden_size, 64), nn.ReLU()) for _ in range(2))
        self.biaffine = nn.Parameter(torch.zeros(config.num_labels, 65, 65))

    def score(self, states: Tensor, word_starts: Tensor, word_ends: Tensor, morphs: Tensor, spans: Spans) -> Tensor:
        """As without, and the biaffine score."""
        posts = torch.arange(len(states), device=states.device)[:, None]
        firsts = F.pad(self.first(states[posts, word_starts]), (0, 1), value=1.0)  # (B, n, 65)
        lasts = F.pad(self.last(states[posts, word_ends]), (0, 1), value=1.0)
        pairs = torch.einsum("bsi,kij,bsj->bsk", firsts[:, spans.starts], self.biaffine, lasts[:, spans.ends])
        return super().score(states, word_starts, word_ends, morphs, spans) + spans.select(pairs)


def _classifier(
    change: Callable[[SMNERTrainer], None] = lambda _: None,
    *,
    network: type[TextSpanClassifier] = TextSpanClassifier,
    teachers_tags: bool = False,
) -> Make:
    """A span classifier whose trainer is changed before it begins."""

    def make(smner: SMNER, processor: SMNERProcessor, recipe: Recipe, data: QualityData, output: Path) -> SMNERTrainer:
        posts = data if teachers_tags else data.tagged_by_people()
        trainer = span_trainer(network.like(smner), processor, recipe, posts, output)
        change(trainer)
        return trainer

    return make


def pretrain_on_tweets(
    encoder: nn.Module,
    processor: SMNERProcessor,
    tweets: Sequence[PostDataset],
    recipe: Recipe,
    output: Path,
    epochs: float = 10,
) -> None:
    """Let a text encoder fill in words that are masked in the tweets at hand (Gururangan et al. 2020)."""
    model = AutoModelForMaskedLM.from_config(encoder.config)  # its head is random: no encoder here comes with one
    shared = model.base_model.state_dict().keys()  # all but the pooler
    model.base_model.load_state_dict({name: tensor for name, tensor in encoder.state_dict().items() if name in shared})
    arguments = TrainingArguments(
        output_dir=str(output / "masked-language"),
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        learning_rate=recipe.encoder_learning_rate,
        warmup_steps=0.1,
        weight_decay=recipe.weight_decay,
        bf16=in_bfloat16(recipe),
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        seed=recipe.seed,
    )
    examples = [{"input_ids": text.input_ids} for part in tweets for text in part.texts]
    collator = DataCollatorForLanguageModeling(processor.tokenizer)
    Trainer(model, arguments, collator, examples).train()
    encoder.load_state_dict({**encoder.state_dict(), **model.base_model.state_dict()})


def _pretrained_on_tweets(
    smner: SMNER, processor: SMNERProcessor, recipe: Recipe, data: QualityData, output: Path
) -> SMNERTrainer:
    trainer = _classifier()(smner, processor, recipe, data, output)
    with torch.random.fork_rng():  # so that what follows is as random as without
        pretrain_on_tweets(trainer.model.text_encoder, processor, data.train(processor), recipe, output)
    return trainer


def smooth_labels(_: Spans, classes: Tensor, *, share: float = 0.05) -> Tensor:
    """``share`` of the probability goes to all classes alike (Szegedy et al. 2016)."""
    return (1 - share) * classes + share / classes.shape[-1]


def smooth_boundaries(spans: Spans, classes: Tensor, *, share: float = 0.1) -> Tensor:
    """``share`` of an entity goes to the four spans with one end a word away (Zhu and Li 2022)."""
    entities = classes.clone()
    entities[..., 0] = 0
    words = int(spans.ends.max()) + 1
    grid = entities.new_zeros(len(entities), words + 2, words + 2, entities.shape[-1])  # by start and end, with a rim
    grid[:, spans.starts + 1, spans.ends + 1] = entities
    near = grid[:, :-2, 1:-1] + grid[:, 2:, 1:-1] + grid[:, 1:-1, :-2] + grid[:, 1:-1, 2:]  # (B, n, n, 1 + types)
    soft = (1 - share) * entities + share / 4 * near[:, spans.starts, spans.ends]
    soft[..., 0] = 1 - soft.sum(-1)
    return soft


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftenedObjective(Objective):
    """The span cross-entropy towards softened classes; of a network without a bottleneck."""

    soften: Soften

    def __call__(self, output: SMNEROutput, labels: Tensor) -> Losses:
        """As :meth:`training.learning.objective.Objective.__call__`."""
        assert output.logits is not None
        assert output.spans is not None
        real = labels != IGNORED
        classes = F.one_hot(labels.clamp(min=0), output.logits.shape[-1]).float()
        each = -(self.soften(output.spans, classes) * output.logits.float().log_softmax(-1)).sum(-1)  # (B, S)
        weight = torch.where(labels == 0, self.no_entity_weight, 1.0)
        loss = (each * weight * real).sum() / real.sum()
        zero = loss.new_zeros(())
        return Losses(loss, loss, zero, zero, zero)


def _towards(soften: Soften) -> Callable[[SMNERTrainer], None]:
    def change(trainer: SMNERTrainer) -> None:
        trainer.objective = SoftenedObjective(**asdict(trainer.objective), soften=soften)

    return change


def _decay_layer_wise(trainer: SMNERTrainer, *, factor: float = 0.85) -> None:
    """Each layer of a BERT learns ``factor`` times as fast as the one above it, the embeddings slowest."""
    plain = trainer._learning_rate
    layers = trainer.model.config.text_config.num_hidden_layers

    def rate(parameter: str) -> float:
        if not parameter.startswith("text_encoder."):
            return plain(parameter)
        layer = re.search(r"\.layer\.(\d+)\.", parameter)
        depth = 1 + int(layer[1]) if layer else 0  # of the embeddings 0
        return plain(parameter) * float(factor ** (layers - depth))

    trainer._learning_rate = rate  # type: ignore[method-assign]


def _freeze_word_embeddings(trainer: SMNERTrainer) -> None:
    trainer.model.text_encoder.get_input_embeddings().requires_grad_(False)


IDEAS = {
    BASELINE: System("as it is", _classifier()),
    # what the recipe has
    "no-morph-inputs": System("no morphs at the encoder's input", _classifier(), {"morph_inputs": False}),
    "no-average": System("no average of the weights", _classifier(), {"weight_average": 0.0}),
    "no-compounds": System("compounds are not read in parts", _classifier(), {"split_compounds": False}),
    "no-maximum": System("no maximum over a span's words", _classifier(), {"max_pooling": False}),
    "no-entity-1": System("weight of “no entity” 1", _classifier(), {"no_entity_weight": 1.0}),
    # what it has not
    "urls": System("links are read as one sub-token", _classifier(), {"shorten_urls": True}),
    "r-drop": System("R-Drop, weight 2", _classifier(), {"consistency_weight": 2.0}),
    "teachers-tags": System("posts with a teacher's tags", _classifier(teachers_tags=True)),
    "masked-language": System("encoder pre-trained on the tweets", _pretrained_on_tweets),
    "longer": System("twice the epochs", _classifier(), {"epochs": 4.0}),
    "encoder-slower": System("encoder at 5e-5", _classifier(), {"encoder_learning_rate": 5e-5}),
    "heads-faster": System("heads at 1e-3", _classifier(), {"head_learning_rate": 1e-3}),
    "width-8": System("spans of up to 8 words", _classifier(), {"max_span_width": 8}),
    "label-smoothing": System("label smoothing 0.05", _classifier(_towards(smooth_labels))),
    "boundary-smoothing": System("boundary smoothing 0.1", _classifier(_towards(smooth_boundaries))),
    "biaffine": System("a biaffine score beside the classifier's", _classifier(network=BiaffineSpanClassifier)),
    "layer-wise-decay": System("layer-wise decay 0.85", _classifier(_decay_layer_wise)),
    "frozen-embeddings": System("word embeddings are not trained", _classifier(_freeze_word_embeddings)),
}
