"""What a checkpoint is measured on."""

from collections.abc import Sequence
from typing import NamedTuple

from model import Recognizer
from training.data.dataset import Collator, PostDataset
from training.data.errors import UnusableSplit
from training.data.posts import LabeledPost, entity_types
from training.data.sources import DataSource
from training.features.image_encoder import FrozenImageEncoder
from training.features.image_features import ImageFeatureFile


class Inputs(NamedTuple):
    """Posts as a checkpoint reads them, and what makes batches of them."""

    dataset: PostDataset
    collator: Collator


def inputs_for(recognizer: Recognizer, source: DataSource, posts: Sequence[LabeledPost]) -> Inputs:
    """Encode posts of a source for a checkpoint, with their images or ready features.

    Raises:
        ValueError: the features do not fit the checkpoint.
    """
    config, processor, file = recognizer.model.config, recognizer.processor, source.image_features
    if file is None:
        dataset = PostDataset(posts, processor, decode_images=True)
    else:
        features = ImageFeatureFile(file)
        _check_features(features, recognizer)
        dataset = PostDataset(posts, processor, features=features, features_by_id=True)
    return Inputs(dataset, Collator(processor, config.label2id, config.max_span_width))


def _check_features(features: ImageFeatureFile, recognizer: Recognizer) -> None:
    encoder, name = recognizer.model.image_encoder, recognizer.model.config.image_encoder
    width = recognizer.model.image_projection.in_features
    if features.feature_size != width:
        raise ValueError(f"{features.path}: features are {features.feature_size} wide, the checkpoint wants {width}")
    ours = "fingerprint" in features.metadata or features.encoder == name  # other programs may use other names
    if encoder is not None and ours:
        features.check(FrozenImageEncoder(str(name), encoder, recognizer.processor.image_settings))


def check_measurable(posts: Sequence[LabeledPost], types: Sequence[str], source: DataSource, split: str) -> None:
    """Raise UnusableSplit if there are no tagged posts, or some with types that the checkpoint does not know."""
    if not posts:
        raise UnusableSplit(source.path, None, f"{split} has no tagged posts", 0)
    if foreign := sorted(set(entity_types(posts)) - set(types)):
        message = f"{split} has types that the checkpoint does not know: {', '.join(foreign)} "
        raise UnusableSplit(source.path, None, f"{message}(it knows {', '.join(types)})", foreign)
