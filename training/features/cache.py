"""Caching image features: a folder of images is encoded once and kept as an image-feature file."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from model.checkpoint import file_sha256
from model.errors import InvalidPost
from model.preprocessing.images import IMAGE_SUFFIXES, read_image
from training.features.image_encoder import FrozenImageEncoder
from training.features.image_features import ImageFeatureFile, image_id
from training.features.shards import TensorShards


def images_in(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def by_id(images: Iterable[Path]) -> dict[str, Path]:
    """Images by their ids; raises ValueError if two of them share one."""
    named: dict[str, Path] = {}
    for path in images:
        other = named.setdefault(image_id(path), path)
        if other != path:
            raise ValueError(f"{other} and {path} have the same name, so their features cannot be told apart")
    return named


def images_sha256(images: Iterable[Path]) -> str:
    """SHA-256 of names and contents, which changes when an image is added, removed or replaced.

    Sizes and times would not do: an image may be replaced by one of the same size, and copying a folder changes times.
    """
    contents: dict[str, str | None] = {}
    for path in images:
        contents[path.name] = None
        with suppress(OSError):
            contents[path.name] = file_sha256(path)
    return hashlib.sha256(json.dumps(sorted(contents.items())).encode()).hexdigest()


def cache_images(
    images: Iterable[Path], output: Path, encoder: FrozenImageEncoder, *, batch_size: int = 32, shard_size: int = 256
) -> list[Path]:
    """Encode images once and write an image-feature file in half precision.

    What an earlier call with the same encoder and images finished, a file or shards of one, is not encoded again.

    Returns:
        The images that could not be read. They are left out; if none could be read, no file is written.

    Raises:
        ValueError: two images have the same name.
        FileExistsError: ``output`` exists and was not written by this function.
        OSError: the file cannot be written; finished shards remain for the next call.
    """
    named = by_id(images)
    digest = images_sha256(named.values())
    metadata = {"encoder": encoder.name, "fingerprint": encoder.fingerprint(), "images": digest}
    shards = TensorShards(output, list(named), metadata, size=shard_size)
    if output.exists() and (finished := _finished(output, metadata)) is not None:
        shards.discard()  # in case the last call was killed before it could
        return [path for name, path in named.items() if name not in finished]
    missing = shards.begin()
    done = len(named) - sum(len(names) for _, names in missing)
    with tqdm(total=len(named), initial=done, desc="encoding photos", unit="photo") as progress:
        for shard, names in missing:
            readable: list[str] = []
            features: list[Tensor] = []
            for first in range(0, len(names), batch_size):
                batch = names[first : first + batch_size]
                read = ((name, _try_read(named[name], encoder.image_settings.size)) for name in batch)
                pixels = {name: image for name, image in read if image is not None}
                if pixels:
                    features.append(encoder.encode(torch.stack(list(pixels.values()))))
                readable += pixels
                progress.update(len(batch))
            shards.write(shard, readable, torch.cat(features) if features else None)
    cached = set(shards.merge())
    return [path for name, path in named.items() if name not in cached]


def _finished(output: Path, metadata: dict[str, str]) -> ImageFeatureFile | None:
    """The existing file if it is of the same encoder and images; raises FileExistsError unless we wrote it."""
    try:
        file = ImageFeatureFile(output)
    except (ValueError, OSError) as error:
        raise FileExistsError(f"{output} exists and is not an image-feature file: choose another name") from error
    if "fingerprint" not in file.metadata:
        raise FileExistsError(f"{output} exists and was made by another program: choose another name")
    return file if file.metadata.items() >= metadata.items() else None


def _try_read(path: Path, size: int) -> Tensor | None:
    try:
        return read_image(path, size=size)
    except (InvalidPost, OSError):
        return None
