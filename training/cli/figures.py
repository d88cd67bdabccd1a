"""``smner-figures``: draws what a checkpoint does on a split and how its run went."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from model import Recognizer
from model.checkpoint import checkpoint_folder
from training.cli.arguments import add_evaluation_arguments, recognizer_and_source
from training.cli.command import command
from training.data.posts import LabeledPost
from training.data.sources import DataSource
from training.figures import plots
from training.figures.analysis import confusion, represent
from training.learning.run_folder import METRICS_FILE, RUN_FOLDER
from training.scoring.calibration import calibration
from training.scoring.inputs import check_measurable, inputs_for
from training.scoring.prediction import predict_scored
from training.scoring.scores import mentions, score_by_mention, score_by_width, without_scores

_RESOLUTION = 150  # dots per inch of a .png


def draw(recognizer: Recognizer, source: DataSource, split: str, run: Path | None) -> Iterator[tuple[str, Figure]]:
    """Draw the figures that the data allow, each with its name.

    Errors and scores need tagged posts, the alignment posts with an image, learning curves a run.

    Args:
        run: a run's folder. Of the untagged posts, only those that the run held out are drawn, or all if it held out
            none of them.

    Raises:
        FileNotFoundError: there is no such split.
        ValueError: the posts have types or features that do not fit the checkpoint.
    """
    if run is not None:
        yield "learning-curves", plots.learning_curves(history(run))
    posts = source.read(split)
    if tagged := [post for post in posts if post.entities is not None]:
        check_measurable(tagged, recognizer.model.config.entity_types, source, split)
        yield from _of_predictions(recognizer, source, tagged)
    dataset, collator = inputs_for(recognizer, source, [*tagged, *_held_out(posts, run)])
    if any(dataset.has_image(i) for i in range(len(dataset))):
        seen = represent(recognizer.model, dataset, collator)
        if seen is None:
            print("alignment is not drawn: none of the photos can be read", file=sys.stderr)
        else:
            yield "alignment", plots.alignment(seen)


def _of_predictions(
    recognizer: Recognizer, source: DataSource, posts: Sequence[LabeledPost]
) -> Iterator[tuple[str, Figure]]:
    scored = predict_scored(recognizer.model, *inputs_for(recognizer, source, posts), progress=True)
    predicted, types = without_scores(scored), recognizer.model.config.entity_types
    yield "confusion", plots.confusion_matrix(confusion(posts, predicted, types), types)
    by_width = {str(width): scores for width, scores in score_by_width(posts, predicted).items()}
    yield "span-width", plots.scores_by_group(by_width, "width of the entity (words)")
    if source.file("train") is not None:
        seen, unseen = score_by_mention(posts, predicted, mentions(source.read("train")))
        yield "mentions", plots.scores_by_group({"seen": seen, "not seen": unseen}, "mention in the training split")
    yield "reliability", plots.reliability(calibration(posts, scored))


def _held_out(posts: Sequence[LabeledPost], run: Path | None) -> list[LabeledPost]:
    untagged = [post for post in posts if post.entities is None]
    listed = run / "held_out.txt" if run is not None else None
    names = set(listed.read_text("utf-8").split("\n")[:-1]) if listed is not None and listed.is_file() else set()
    return [post for post in untagged if post.id in names] or untagged


def history(run: Path) -> list[dict[str, float]]:
    """What a run has logged: its losses and the scores of every epoch; raises FileNotFoundError before the first."""
    return [json.loads(line) for line in (run / METRICS_FILE).read_text("utf-8").splitlines()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_evaluation_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the figures")
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="of the figures (%(default)s)")


@command("smner-figures", "Draw what a checkpoint does and how its run went.", add_arguments)
def main(options: argparse.Namespace) -> None:
    """Draw the figures and print their paths."""
    run = checkpoint_folder(options.checkpoint) / RUN_FOLDER
    recognizer, source = recognizer_and_source(options)
    options.output.mkdir(parents=True, exist_ok=True)
    for name, figure in draw(recognizer, source, options.split, run if run.is_dir() else None):
        file = options.output / f"{name}.{options.format}"
        figure.savefig(file, dpi=_RESOLUTION)
        print(file)
