"""``smner-evaluate``: how well a checkpoint does on a split, as a table and a report."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers.utils import logging

from model import Recognizer
from model.errors import SMNERError
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabelledPost, entity_types
from training.data.sources import DataSource
from training.features.image_features import ImageFeatureFile
from training.learning.encoders import FrozenImageEncoder
from training.scoring.calibration import calibration
from training.scoring.evaluation import (
    Predictions,
    Scores,
    mentions,
    predict_scored,
    score,
    score_by_mention,
    score_by_type,
    without_scores,
)


def evaluate(recognizer: Recognizer, source: DataSource, split: str) -> dict[str, Any]:
    """Run a checkpoint over the tagged posts of a split.

    Mentions count as seen if the train split of the same source has them.

    Returns:
        The report, with F1 and the like as fractions.

    Raises:
        ValueError: nothing is tagged, or with types that the checkpoint does not know.
        FileNotFoundError: there is no such split.
    """
    posts = [post for post in source.read(split) if post.entities is not None]
    types = recognizer.model.config.entity_types
    check(posts, types, source, split)
    dataset, collator = prepare(recognizer, source, posts)
    began = time.perf_counter()
    scored = predict_scored(recognizer.model, dataset, collator, progress=True)
    seconds = time.perf_counter() - began
    predicted = without_scores(scored)
    return {
        **asdict(score(posts, predicted)),
        "by_type": {kind: asdict(s) for kind, s in score_by_type(posts, predicted, types).items()},
        **_by_mention(posts, predicted, source),
        "calibration": asdict(calibration(posts, scored)),
        "without_image": len(dataset) - dataset.images(),
        "seconds": round(seconds, 3),
        "checkpoint_sha256": recognizer.revision,
        "data_sha256": source.checksum(split),
    }


def prepare(recognizer: Recognizer, source: DataSource, posts: Sequence[LabelledPost]) -> tuple[PostDataset, Collator]:
    """Posts of a source with their photos or ready features, and what makes batches of them.

    Raises:
        ValueError: the features do not fit the checkpoint.
    """
    features = ImageFeatureFile(source.image_features) if source.image_features else None
    config, encoder = recognizer.model.config, recognizer.model.image_encoder
    width = recognizer.model.image_projection.in_features
    if features is not None and features.feature_size != width:
        raise ValueError(
            f"{source.image_features}: features are {features.feature_size} wide, the checkpoint wants {width}"
        )
    named = features is not None and ("fingerprint" in features.metadata or features.encoder == config.image_encoder)
    if features is not None and encoder is not None and named:  # other programs' names for it may differ
        features.check(FrozenImageEncoder(str(config.image_encoder), encoder, recognizer.processor.image_settings))
    dataset = PostDataset(
        posts,
        recognizer.processor,
        features=features,
        features_by_id=features is not None,
        decode_images=features is None,
    )
    return dataset, Collator(recognizer.processor, config.label2id, config.max_span_width)


def check(posts: Sequence[LabelledPost], types: Sequence[str], source: DataSource, split: str) -> None:
    """Refuse posts that a checkpoint with these types cannot be measured on."""
    if not posts:
        raise ValueError(f"{source.path}: {split} has no tagged posts")
    foreign = sorted(set(entity_types(posts)) - set(types))
    if foreign:
        raise ValueError(
            f"{source.path}: {split} has types that the checkpoint does not know: {', '.join(foreign)} "
            f"(it knows {', '.join(types)})"
        )


def _by_mention(posts: Sequence[LabelledPost], predicted: Predictions, source: DataSource) -> dict[str, Any]:
    if source.file("train") is None:
        return {"seen": None, "unseen": None}
    seen, unseen = score_by_mention(posts, predicted, mentions(source.read("train")))
    return {"seen": asdict(seen), "unseen": asdict(unseen)}


def table(report: dict[str, Any]) -> str:
    """The report for a person's eyes."""
    rows = [("all", report), *report["by_type"].items()]
    rows += [(name, report[name]) for name in ("seen", "unseen") if report[name] is not None]
    lines = [f"{'':8} {'precision':>9} {'recall':>9} {'F1':>9} {'support':>9}"]
    for name, row in rows:
        s = Scores(**{key: row[key] for key in ("precision", "recall", "f1", "support")})
        lines.append(f"{name:8} {s.precision:9.4f} {s.recall:9.4f} {s.f1:9.4f} {s.support:9d}")
    ece = report["calibration"]["ece"]
    lines.append("nothing predicted" if ece is None else f"expected calibration error {ece:.4f}")
    lines.append(f"{report['without_image']} posts without a photo, {report['seconds']} s")
    return "\n".join(lines)


def add_subject_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which checkpoint is looked at on which posts; :func:`load` reads them."""
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="checkpoint folder; the embedded one if not given"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with SPLIT.txt or SPLIT.jsonl")
    parser.add_argument("--split", required=True, help="train, valid, test, or the stem of another file in the folder")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--images", type=Path, metavar="DIR", help="the photos")
    images.add_argument("--image-features", type=Path, metavar="FILE", help="ready image features")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def load(options: argparse.Namespace) -> tuple[Recognizer, DataSource]:
    """The checkpoint and the posts that the options name."""
    source = DataSource(options.data, options.images, options.image_features)
    # ready features are checked against the weights of the image encoder, which folding changes
    folded = options.image_features is None
    return Recognizer.from_pretrained(options.checkpoint, device=options.device, fold=folded), source


def arguments() -> argparse.ArgumentParser:
    """The command line of ``smner-evaluate``."""
    parser = argparse.ArgumentParser("smner-evaluate", description="Measure a checkpoint on a split.")
    add_subject_arguments(parser)
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="where the report goes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; a mistake of the caller is one line on standard error and exit status 2."""
    options = arguments().parse_args(argv)
    logging.disable_progress_bar()
    try:
        if options.report is not None and not options.report.parent.is_dir():  # before the minutes that it takes
            raise NotADirectoryError(f"{options.report}: there is no such folder")
        recognizer, source = load(options)
        report = evaluate(recognizer, source, options.split)
        print(table(report))
        if options.report is not None:
            options.report.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    except (SMNERError, ValueError, OSError) as error:
        print(f"smner-evaluate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("smner-evaluate: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
