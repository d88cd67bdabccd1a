"""``smner-card``: measures a checkpoint again and rewrites its model card."""

import argparse
from functools import partial

from model import Recognizer
from model.checkpoint import checkpoint_folder, replace_files
from model.weights import weight_files
from training.cards.card import card_files
from training.cards.measurement import measure
from training.cards.record import TrainingRecord
from training.cli.arguments import DEVICES, add_data_arguments, data_sources, load_recognizer
from training.cli.command import command
from training.data.training_data import distinct_names
from training.scoring.inputs import check_measurable, inputs_for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", help="folder, or name of a checkpoint that comes along")
    add_data_arguments(parser, required=True)
    parser.add_argument(
        "--remark", action="append", metavar="TEXT",
        help="a sentence for the card, in Markdown; may be repeated, and replaces earlier ones",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help=DEVICES)


@command("smner-card", "Measure a checkpoint on valid splits, and rewrite its model card.", add_arguments)
def main(options: argparse.Namespace) -> None:
    """Measure, write the card, and print the checkpoint's new revision."""
    folder, sources = checkpoint_folder(options.checkpoint), data_sources(options)
    record = TrainingRecord.read(folder)
    if options.remark is not None:
        record = record.model_copy(update={"remarks": options.remark})
    features = any(source.image_features is not None for source in sources)  # which folded weights would not fit
    recognizer = load_recognizer(folder, device=options.device, fold=not features)
    splits = {}
    for name, source in zip(distinct_names([source.name for source in sources]), sources, strict=True):
        posts = [post for post in source.read("valid") if post.entities is not None]
        check_measurable(posts, recognizer.model.config.entity_types, source, "valid")
        splits[name], collator = inputs_for(recognizer, source, posts)
    stored = sum(path.stat().st_size for path in weight_files(folder))
    # not the recognizer above, whose float32 is for scores that do not depend on the processor
    load_served = partial(Recognizer.from_pretrained, folder, device=options.device)
    measured = measure(recognizer.model, collator, splits, load_served=load_served, weight_bytes=stored)
    print(f"revision {replace_files(folder, card_files(record, recognizer.model, measured))}")
