"""Options that several command lines share, and what they stand for."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from transformers.utils import logging

from model import Recognizer
from training.data.sources import DataSource

DEVICES = "auto, cpu, cuda or cuda:N"


class _AttachToLastData(argparse.Action):
    """Attaches the value of an option to the ``--data`` before it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if not namespace.data:
            parser.error(f"{option} must follow the --data whose photos it names")
        if self.dest in namespace.data[-1]:
            parser.error(f"{option} is given twice for {namespace.data[-1]['path']}")
        namespace.data[-1][self.dest] = values


def add_data_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add ``--data``, which may be repeated with images for each; :func:`data_sources` reads it."""
    parser.add_argument(
        "--data", type=lambda path: {"path": Path(path)}, action="append", required=required, metavar="DIR",
        help="folder with train and valid splits, or one .txt or .jsonl file to train on; may be repeated",
    )  # fmt: skip
    add = partial(parser.add_argument, type=Path, action=_AttachToLastData)
    add("--images", metavar="DIR", help="photos of the --data before it")
    add("--image-features", metavar="FILE", help="ready image features of the --data before it")


def add_texts_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--texts``, which :func:`data_sources` reads."""
    parser.add_argument(
        "--texts", type=Path, action="append", metavar="FILE",
        help="file whose texts alone a teacher explains: a post in each line, or data whose tags are dropped; "
        "may be repeated",
    )  # fmt: skip


def data_sources(options: argparse.Namespace) -> list[DataSource]:
    """The sources given with ``--data`` and ``--texts``."""
    texts = getattr(options, "texts", None) or ()
    return [*(DataSource(**own) for own in options.data or ()), *(DataSource(path, texts=True) for path in texts)]


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a checkpoint and the split to run it on; :func:`recognizer_and_source` reads them."""
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="folder, or name of a checkpoint that comes along (smner-compact)"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with SPLIT.txt or SPLIT.jsonl")
    parser.add_argument("--split", required=True, help="train, valid, test, or the stem of another file in the folder")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--images", type=Path, metavar="DIR", help="folder of photos")
    images.add_argument("--image-features", type=Path, metavar="FILE", help="ready image features")
    parser.add_argument("--device", default="auto", help=DEVICES)


def recognizer_and_source(options: argparse.Namespace) -> tuple[Recognizer, DataSource]:
    """The checkpoint and the data that the options name."""
    source = DataSource(options.data, options.images, options.image_features)
    # ready features are checked against the weights of the image encoder, which folding would change
    fold = options.image_features is None
    return load_recognizer(options.checkpoint, device=options.device, fold=fold), source


def load_recognizer(checkpoint: str | Path | None, *, device: str, fold: bool = True) -> Recognizer:
    """Load a checkpoint in float32, whatever the processor has; only our own errors say what does not fit."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return Recognizer.from_pretrained(checkpoint, device=device, precision="float32", fold=fold)
