"""How good a checkpoint is on its valid splits, by type and by casing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from model import SMNER
from training.data.dataset import Collator, PostDataset
from training.data.posts import Casing, LabeledPost
from training.scoring.calibration import Calibration, calibration
from training.scoring.prediction import predict_scored
from training.scoring.scores import ScoredEntity, ScoredPredictions, Scores, score, score_by_type, without_scores

CASINGS = ("as written", *get_args(Casing))
_EXAMPLES = 3  # of each type
_FOUND_IN = 3  # posts: a name that is this frequent gives away nobody's post


@dataclass(frozen=True, slots=True)
class SplitQuality:
    """A valid split, what was found in it as written, and the scores by casing.

    Attributes:
        images: posts with an image that can be used.
        overall: of all entities, by casing.
        by_type: of the entities of each type, by type and casing.
    """

    posts: Sequence[LabeledPost]
    images: int
    predicted: ScoredPredictions
    overall: dict[str, Scores]
    by_type: dict[str, dict[str, Scores]]


def measure_quality(
    network: SMNER, collator: Collator, splits: Mapping[str, PostDataset], types: Sequence[str]
) -> dict[str, SplitQuality]:
    """Run the network over valid splits, as written and in each other casing."""
    return {name: _measure(network, collator, split, types) for name, split in splits.items()}


def _measure(network: SMNER, collator: Collator, split: PostDataset, types: Sequence[str]) -> SplitQuality:
    written = predict_scored(network, split, collator, progress=True)
    found = {CASINGS[0]: without_scores(written)}
    for casing in get_args(Casing):
        found[casing] = without_scores(predict_scored(network, split.recased(casing), collator, progress=True))
    posts = split.posts
    typed = {casing: score_by_type(posts, own, types) for casing, own in found.items()}
    return SplitQuality(
        posts=posts,
        images=split.images(),
        predicted=written,
        overall={casing: score(posts, own) for casing, own in found.items()},
        by_type={kind: {casing: typed[casing][kind] for casing in found} for kind in types},
    )


def calibration_of(splits: Mapping[str, SplitQuality]) -> Calibration | None:
    """Compare scores with how often entities are right, in all splits together; None if nothing was found."""
    posts = [post for split in splits.values() for post in split.posts]
    together = calibration(posts, [own for split in splits.values() for own in split.predicted])
    return together if together.bins else None


def examples(splits: Mapping[str, SplitQuality], types: Sequence[str]) -> dict[str, list[str]]:
    """For each type the names that were found, and rightly, in most posts; none that occurs in a few posts only."""
    counts = {kind: Counter[str]() for kind in types}
    for split in splits.values():
        for post, own in zip(split.posts, split.predicted, strict=True):
            for kind, name in {*_right(post, own)}:
                counts[kind][name] += 1
    return {kind: _most_frequent(own) for kind, own in counts.items()}


def _right(post: LabeledPost, found: Sequence[ScoredEntity]) -> Iterator[tuple[str, str]]:
    for entity, _ in found:
        if entity in (post.entities or ()):
            yield entity.type, " ".join(post.words[entity.start : entity.end + 1])


def _most_frequent(names: Counter[str]) -> list[str]:
    frequent = [name for name, count in names.items() if count >= _FOUND_IN]
    return sorted(frequent, key=lambda name: (-names[name], name))[:_EXAMPLES]
