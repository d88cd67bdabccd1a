"""What a card says beside the record of the training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model import SMNER, Recognizer
from training.cards.quality import SplitQuality, measure_quality
from training.data.dataset import Collator, PostDataset
from training.scoring.speed import Speed, measure_speed


@dataclass(frozen=True, slots=True)
class Measurement:
    """The quality on each valid split, the speed if there is one, and the size of the weights as stored."""

    quality: Mapping[str, SplitQuality]
    speed: Speed | None
    weight_bytes: int


def measure(
    network: SMNER,
    collator: Collator,
    splits: Mapping[str, PostDataset],
    *,
    load_served: Callable[[], Recognizer],
    weight_bytes: int,
) -> Measurement:
    """Measure a network on its valid splits, and how fast the recognizer is that ``load_served`` makes of it.

    That is made afterwards, because on CUDA its precision is the whole process's.
    """
    quality = measure_quality(network, collator, splits, network.config.entity_types)
    texts = [" ".join(post.words) for split in splits.values() for post in split.posts]
    return Measurement(quality, measure_speed(load_served(), texts), weight_bytes)
