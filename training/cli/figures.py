"""``smner-figures``: what a checkpoint does on a split, and how its run went, in figures."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from transformers.utils import logging

from model import Recognizer
from model.checkpoint import embedded_checkpoint
from model.errors import SMNERError
from training.cli.evaluate import add_subject_arguments, check, load, prepare
from training.data.posts import LabelledPost
from training.data.sources import DataSource
from training.figures import plots
from training.figures.analysis import confusion, represent
from training.learning.run_folder import METRICS_FILE, RUN_FOLDER
from training.scoring.calibration import calibration
from training.scoring.evaluation import mentions, predict_scored, score_by_mention, score_by_width, without_scores

_RESOLUTION = 150  # dots per inch of a .png


def draw(recognizer: Recognizer, source: DataSource, split: str, run: Path | None) -> Iterator[tuple[str, Figure]]:
    """The figures that the data allow, each with its name.

    Errors and scores are drawn of tagged posts, the alignment of posts with a photo, learning curves of a run.

    Args:
        run: a run's folder; of untagged posts those are taken that it has kept out of training, or all of them if it
            has kept out none of these.

    Raises:
        FileNotFoundError: there is no such split.
        ValueError: the posts have types or features that do not fit the checkpoint.
    """
    if run is not None:
        yield "learning-curves", plots.learning_curves(history(run))
    posts = source.read(split)
    if tagged := [post for post in posts if post.entities is not None]:
        check(tagged, recognizer.model.config.entity_types, source, split)
        yield from _of_predictions(recognizer, source, tagged)
    dataset, collator = prepare(recognizer, source, [*tagged, *_kept_out(posts, run)])
    if any(dataset.has_image(i) for i in range(len(dataset))):
        seen = represent(recognizer.model, dataset, collator)
        if seen is None:
            print("alignment is not drawn: none of the photos can be read", file=sys.stderr)
        else:
            yield "alignment", plots.alignment(seen)


def _of_predictions(
    recognizer: Recognizer, source: DataSource, posts: Sequence[LabelledPost]
) -> Iterator[tuple[str, Figure]]:
    scored = predict_scored(recognizer.model, *prepare(recognizer, source, posts), progress=True)
    predicted, types = without_scores(scored), recognizer.model.config.entity_types
    yield "confusion", plots.confusion_matrix(confusion(posts, predicted, types), types)
    yield "span-width", plots.scores_by_width(score_by_width(posts, predicted))
    if source.file("train") is not None:
        seen, unseen = score_by_mention(posts, predicted, mentions(source.read("train")))
        yield "mentions", plots.scores_by_mention({"seen": seen, "not seen": unseen})
    yield "reliability", plots.reliability(calibration(posts, scored))


def _kept_out(posts: Sequence[LabelledPost], run: Path | None) -> list[LabelledPost]:
    untagged = [post for post in posts if post.entities is None]
    kept_out = run / "held_out.txt" if run is not None else None
    names = set(kept_out.read_text("utf-8").split("\n")[:-1]) if kept_out is not None and kept_out.is_file() else set()
    return [post for post in untagged if post.id in names] or untagged


def history(run: Path) -> list[dict[str, float]]:
    """What a run has logged, its losses and every epoch's scores; raises FileNotFoundError if it has not begun to."""
    return [json.loads(line) for line in (run / METRICS_FILE).read_text("utf-8").splitlines()]


def arguments() -> argparse.ArgumentParser:
    """The command line of ``smner-figures``."""
    parser = argparse.ArgumentParser("smner-figures", description="Draw how a checkpoint does and how its run went.")
    add_subject_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the figures")
    parser.add_argument("--format", choices=("png", "svg"), default="png")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; a mistake of the caller is one line on standard error and exit status 2."""
    options = arguments().parse_args(argv)
    logging.disable_progress_bar()
    run = (options.checkpoint or embedded_checkpoint()) / RUN_FOLDER
    try:
        recognizer, source = load(options)
        options.output.mkdir(parents=True, exist_ok=True)
        for name, figure in draw(recognizer, source, options.split, run if run.is_dir() else None):
            file = options.output / f"{name}.{options.format}"
            figure.savefig(file, dpi=_RESOLUTION)
            print(file)
    except (SMNERError, ValueError, OSError) as error:
        print(f"smner-figures: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("smner-figures: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
