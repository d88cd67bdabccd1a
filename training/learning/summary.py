"""The last words of a run: how good it is, where the checkpoint lies, and what to do with it."""

import shlex
from collections.abc import Iterator, Sequence

from training.data.errors import UnusableSplit
from training.data.sources import DataSource
from training.learning.run import RunResult, ValidScores

_SPLITS = ("test", "valid")  # to measure on, the best first


def summary(result: RunResult, sources: Sequence[DataSource]) -> str:
    """The best epoch, F1 by type, the checkpoint, and the commands that measure and serve it."""
    lines = ["", _epochs(result)]
    for name, scores in result.valid.items():
        lines += ["", *_table(f"{name} valid", scores)]
    checkpoint = str(result.checkpoint)
    commands = [
        ["smner-evaluate", "--checkpoint", checkpoint, *_measured(sources)],
        ["smner-serve", "--checkpoint", checkpoint],
    ]
    return "\n".join([*lines, "", f"checkpoint: {checkpoint}", "next:", *(f"  {shlex.join(own)}" for own in commands)])


def _epochs(result: RunResult) -> str:
    if not result.valid:
        return f"epochs: {result.epochs:.4g}; the last was kept, since there is no valid split"
    return f"best epoch: {result.best_epoch:.4g} of {result.epochs:.4g}"


def _table(title: str, scores: ValidScores) -> Iterator[str]:
    rows = [("all", scores.overall), *scores.by_type.items()]
    width = max(len(title), *(len(name) for name, _ in rows))
    yield f"{title:{width}} {'F1':>9} {'entities':>9}"
    for name, own in rows:
        yield f"{name:{width}} {own.f1:9.4f} {own.support:9d}"


def _measured(sources: Sequence[DataSource]) -> list[str]:
    """The options that name a split to measure on; with placeholders if no source has one."""
    found = ((source, split) for source in sources for split in _SPLITS if _has(source, split))
    source, split = next(found, (None, _SPLITS[0]))
    if source is None:
        return ["--data", "DIR", "--split", split]
    options = ["--data", str(source.path), "--split", split]
    if source.images is not None:
        options += ["--images", str(source.images)]
    if source.image_features is not None:
        options += ["--image-features", str(source.image_features)]
    return options


def _has(source: DataSource, split: str) -> bool:
    try:
        return source.file(split) is not None
    except UnusableSplit:  # two files for it
        return False
