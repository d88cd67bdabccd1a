"""The report on a checkpoint: how well it does on a split."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from model import Recognizer
from training.data.posts import Casing, LabeledPost, recased
from training.data.sources import DataSource
from training.scoring.calibration import calibration
from training.scoring.inputs import check_measurable, inputs_for
from training.scoring.prediction import predict_scored
from training.scoring.scores import (
    Predictions,
    ScoredPredictions,
    mentions,
    score,
    score_by_mention,
    score_by_type,
    without_scores,
)


class Outcome(NamedTuple):
    """The tagged posts of a split, what a checkpoint found in them, how many have no image, and how long it took."""

    posts: list[LabeledPost]
    predicted: ScoredPredictions
    without_image: int
    seconds: float


def evaluate(recognizer: Recognizer, source: DataSource, split: str, *, casing: Casing | None = None) -> dict[str, Any]:
    """Run a checkpoint over a split and report how well it does; errors as for :func:`run_on_split`."""
    return report_on(run_on_split(recognizer, source, split, casing=casing), recognizer, source, split)


def run_on_split(recognizer: Recognizer, source: DataSource, split: str, *, casing: Casing | None = None) -> Outcome:
    """Run a checkpoint over the tagged posts of a split, as written or all in another ``casing``.

    Raises:
        FileNotFoundError: there is no such split.
        DatasetError: the split has no tagged posts, or types that the checkpoint does not know.
    """
    posts = [post for post in source.read(split) if post.entities is not None]
    if casing is not None:
        posts = [recased(post, casing) for post in posts]
    check_measurable(posts, recognizer.model.config.entity_types, source, split)
    dataset, collator = inputs_for(recognizer, source, posts)
    began = time.perf_counter()
    predicted = predict_scored(recognizer.model, dataset, collator, progress=True)
    seconds = time.perf_counter() - began
    return Outcome(posts, predicted, len(dataset) - dataset.images(), seconds)


def report_on(outcome: Outcome, recognizer: Recognizer, source: DataSource, split: str) -> dict[str, Any]:
    """The report, with scores as fractions. A mention is seen if the train split of the same source tags it."""
    posts, predicted = outcome.posts, without_scores(outcome.predicted)
    types = recognizer.model.config.entity_types
    return {
        **asdict(score(posts, predicted)),
        "by_type": {kind: asdict(s) for kind, s in score_by_type(posts, predicted, types).items()},
        **_by_mention(posts, predicted, source),
        "calibration": asdict(calibration(posts, outcome.predicted)),
        "without_image": outcome.without_image,
        "seconds": round(outcome.seconds, 3),
        "checkpoint_sha256": recognizer.revision,
        "data_sha256": source.checksum(split),
    }


def _by_mention(posts: Sequence[LabeledPost], predicted: Predictions, source: DataSource) -> dict[str, Any]:
    if source.file("train") is None:
        return {"seen": None, "unseen": None}
    seen, unseen = score_by_mention(posts, predicted, mentions(source.read("train")))
    return {"seen": asdict(seen), "unseen": asdict(unseen)}


def table(report: dict[str, Any]) -> str:
    """Format the report for the terminal."""
    rows = [("all", report), *report["by_type"].items()]
    rows += [(name, report[name]) for name in ("seen", "unseen") if report[name] is not None]
    lines = [f"{'':8} {'precision':>9} {'recall':>9} {'F1':>9} {'support':>9}"]
    for name, row in rows:
        precision, recall, f1, support = (row[key] for key in ("precision", "recall", "f1", "support"))
        lines.append(f"{name:8} {precision:9.4f} {recall:9.4f} {f1:9.4f} {support:9d}")
    ece = report["calibration"]["ece"]
    lines.append("nothing predicted" if ece is None else f"expected calibration error {ece:.4f}")
    lines.append(f"{report['without_image']} posts without a photo, {report['seconds']} s")
    return "\n".join(lines)
