"""The images of a run: ready features, features encoded once by the frozen encoder, or pixels for fine-tuning."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from model import SMNER, SMNERProcessor
from model.errors import InvalidPost
from training.data.dataset import PostDataset
from training.data.training_data import Part, TrainingData
from training.features.cache import by_id, cache_images
from training.features.image_encoder import FrozenImageEncoder
from training.features.image_features import ImageFeatureFile
from training.learning.distributed import join_processes, on_main_process
from training.learning.run_folder import list_unusable_images
from training.recipes.recipe import Recipe

Features = Sequence[ImageFeatureFile | None]  # one for each part of the data, None without features


def open_features(recipe: Recipe, data: TrainingData) -> Features:
    """Open the files of ``--image-features``."""
    features = [ImageFeatureFile(part.image_features) if part.image_features else None for part in data.parts]
    files = [file for file in features if file is not None]
    if files and recipe.fine_tune_image_encoder:
        raise ValueError("fine_tune_image_encoder needs images, but --image-features gives their features")
    if len(regions := {file.rows - 1 for file in files}) > 1:
        raise ValueError(f"the image-feature files have different numbers of regions: {sorted(regions)}")
    return features


def foreign_feature_size(recipe: Recipe, data: TrainingData, features: Features) -> int | None:
    """Return C of ready features from an encoder other than the recipe's, which the model then omits; else None."""
    files = [file for file in features if file is not None]
    foreign = [file for file in files if file.encoder != recipe.image_encoder]
    if not foreign:
        return None
    if recipe.image_encoder is not None:  # smner-cache-images has that encoder, so the recipe is wrong
        for file in foreign:
            if "fingerprint" in file.metadata:
                raise ValueError(f"{file.path}: features of {file.encoder}, not of {recipe.image_encoder}")
    unencoded = [part.name for part, file in zip(data.parts, features, strict=True) if file is None and part.images()]
    if unencoded:
        raise ValueError(
            f"the images of {', '.join(unencoded)} would not be used, since other sources have ready features of "
            f"another encoder than the recipe's; give --image-features for all of them"
        )
    sizes = {file.feature_size for file in files}
    if len(sizes) > 1:
        raise ValueError(f"the image-feature files have different widths: {sorted(sizes)}")
    paths = ", ".join(str(file.path) for file in foreign)
    join_processes().print(
        f"another image encoder than the recipe's made {paths}: the checkpoint will have no image encoder and read "
        f"ready features instead of images"
    )
    return sizes.pop()


def frozen_encoder(recipe: Recipe, network: SMNER, processor: SMNERProcessor) -> FrozenImageEncoder | None:
    """Return the network's image encoder if it is frozen."""
    if network.image_encoder is None or recipe.fine_tune_image_encoder:
        return None
    return FrozenImageEncoder(str(recipe.image_encoder), network.image_encoder.eval(), processor.image_settings)


def check(data: TrainingData, features: Features, encoder: FrozenImageEncoder | None) -> None:
    """Check the images before any slow step.

    Raises:
        ValueError: ready features are not the encoder's, or two images have the same id.
    """
    if encoder is None:
        return
    for part, file in zip(data.parts, features, strict=True):
        if file is None:
            by_id(part.images())
        else:
            file.check(encoder)


def encode(
    recipe: Recipe,
    data: TrainingData,
    features: Features,
    encoder: FrozenImageEncoder | None,
    processor: SMNERProcessor,
    run: Path,
) -> tuple[TrainingData, Features]:
    """Encode each image once, or only decode it when fine-tuning, and drop those that cannot be read."""
    encoded = list(features)
    parts = []
    for i, part in enumerate(data.parts):
        unreadable: list[Path] = []
        if recipe.fine_tune_image_encoder:
            unreadable = on_main_process(partial(_unreadable, part, processor))
        elif encoder is not None and features[i] is None and part.images():
            path = run / f"image-features-{part.name}.safetensors"
            unreadable = on_main_process(partial(cache_images, part.images(), path, encoder))
            encoded[i] = ImageFeatureFile(path) if path.is_file() else None
        parts.append(part.without(unreadable))
    return replace(data, parts=parts), encoded


def _unreadable(part: Part, processor: SMNERProcessor) -> list[Path]:
    found = []
    for image in part.images():
        try:
            processor.decode_image(image)
        except (InvalidPost, OSError):
            found.append(image)
    return found


def report(train: Mapping[str, PostDataset], valid: Mapping[str, PostDataset], run: Path) -> None:
    """Print how many images training can and cannot use, and list the latter."""
    file = run / "unusable-images.tsv"
    list_unusable_images(file, [*train.items(), *valid.items()])
    for name, dataset in train.items():
        found = [dataset.unusable_image(index) for index in range(len(dataset))]
        reasons = Counter(image.reason for image in found if image is not None)
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        unusable = f"; not used: {counts}, listed in {file}" if counts else ""
        print(f"{name}: {dataset.images()} training posts have an image{unusable}")
