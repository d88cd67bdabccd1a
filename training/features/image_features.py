"""Image-feature files: the frozen image encoder's output, computed once.

Format: safetensors with ``features`` (N, 1 + m, C) float16 or float32, row 0 the global vector, optionally ``mask``
(N, 1 + m) bool, True where a row is real; metadata ``image_ids``, a JSON list of N ids, and ``encoder``.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from model.checkpoint import file_sha256
from model.errors import InvalidPost
from model.preprocessing.images import read_image
from training.data.posts import IMAGE_SUFFIXES
from training.features.image_feature_writer import ImageFeatureWriter
from training.learning.encoders import FrozenImageEncoder


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """One photo's features (1 + m, C) and which rows are real (1 + m,), all of them if None."""

    features: Tensor
    mask: Tensor | None


class ImageFeatureFile:
    """An image-feature file, memory-mapped: rows are read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            opened: Any = safe_open(path, "pt")
        except SafetensorError as error:
            raise ValueError(f"{path}: not an image-feature file: {error}") from error
        metadata = opened.metadata() or {}
        keys = set(opened.keys())
        if "features" not in keys or "image_ids" not in metadata:
            raise ValueError(f"{path}: not an image-feature file: it needs features and the metadata image_ids")
        self._features = opened.get_slice("features")
        self._mask = opened.get_slice("mask") if "mask" in keys else None
        self.encoder = metadata.get("encoder", "")
        self.metadata = metadata
        self._rows = {name: row for row, name in enumerate(_ids(path, metadata["image_ids"]))}
        shape = self._features.get_shape()
        if len(shape) != 3 or shape[0] != len(self._rows):
            raise ValueError(f"{path}: features {tuple(shape)} do not fit {len(self._rows)} distinct image ids")
        if self._mask is not None and list(self._mask.get_shape()) != list(shape[:2]):
            raise ValueError(f"{path}: the mask {tuple(self._mask.get_shape())} does not fit features {tuple(shape)}")
        self.rows, self.feature_size = int(shape[1]), int(shape[2])

    def check(self, encoder: FrozenImageEncoder) -> None:
        """See that the features are what ``encoder`` would make; files of other programs do not say, and are believed.

        Raises:
            ValueError: they are not; the message says what differs.
        """
        stored, now = self.metadata.get("fingerprint"), encoder.fingerprint()
        if self.encoder != encoder.name:
            raise ValueError(
                f"{self.path}: features of {self.encoder or 'an encoder without a name'}, not of {encoder.name}"
            )
        if self.feature_size != encoder.network.feature_size:
            raise ValueError(
                f"{self.path}: features are {self.feature_size} wide, those of {encoder.name} "
                f"{encoder.network.feature_size}"
            )
        if stored is None or stored == now:
            return
        before, wanted = _parsed(stored), _parsed(now)
        differences = [
            f"{key} {before.get(key)}, not {value}" for key, value in wanted.items() if before.get(key) != value
        ]
        raise ValueError(
            f"{self.path}: made by {self.encoder} with other weights or photo settings ({'; '.join(differences)}); "
            f"make it anew with smner-cache-images"
        )

    def __contains__(self, image_id: str | None) -> bool:
        return image_id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, image_id: str) -> ImageFeatures:
        row = self._rows[image_id]
        mask = None if self._mask is None else self._mask[row : row + 1][0]
        return ImageFeatures(self._features[row : row + 1][0], mask)


def _ids(path: Path, listed: str) -> list[str]:
    try:
        return [str(name) for name in json.loads(listed)]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected image_ids to be a JSON list, found {listed[:80]!r}") from error


def _parsed(fingerprint: str) -> dict[str, Any]:
    try:
        return dict(json.loads(fingerprint))
    except (ValueError, TypeError):
        return {"weights": fingerprint}


def image_id(path: Path) -> str:
    """The id under which a photo's features are stored: its file name without the suffix."""
    return path.stem


def by_id(images: Iterable[Path]) -> dict[str, Path]:
    """The photos by their ids; raises ValueError where two have the same."""
    named: dict[str, Path] = {}
    for path in images:
        other = named.setdefault(image_id(path), path)
        if other != path:
            raise ValueError(f"{other} and {path} have the same name, so their features cannot be told apart")
    return named


def cache_images(
    images: Iterable[Path],
    output: Path,
    encoder: FrozenImageEncoder,
    *,
    batch_size: int = 32,
) -> list[Path]:
    """Encode photos once and write them as an image-feature file in half precision.

    What an earlier call finished, or began, with the same encoder and photos is not encoded again.

    Returns:
        The files that could not be read; they are left out, and if that is all of them there is no file.

    Raises:
        ValueError: two files have the same name.
        FileExistsError: ``output`` is there and is nothing that this function wrote.
        OSError: the file cannot be written; what was encoded so far is kept for the next time.
    """
    named = by_id(images)
    metadata = {
        "encoder": encoder.name,
        "fingerprint": encoder.fingerprint(),
        "photos": images_sha256(named.values()),
    }
    if output.exists() and (finished := _finished(output, metadata)) is not None:
        return [path for name, path in named.items() if name not in finished]
    ids = list(named)
    writer = ImageFeatureWriter(output, ids, metadata)
    with tqdm(total=len(ids), initial=writer.done, desc="encoding photos", unit="photo") as progress:
        while batch := ids[writer.done : writer.done + batch_size]:
            read = {name: _try_read(named[name], encoder.image_settings.size) for name in batch}
            good = {name: image for name, image in read.items() if image is not None}
            features = encoder.encode(torch.stack(list(good.values()))) if good else None
            writer.add(list(good), [name for name in batch if name not in good], features)
            progress.update(len(batch))
    if not writer.names:
        writer.discard()
        return list(named.values())
    writer.finish()
    return [named[name] for name in writer.broken]


def _finished(output: Path, metadata: dict[str, str]) -> ImageFeatureFile | None:
    """The file that an earlier call wrote, if it is of the same encoder and photos; nobody else's is written over."""
    try:
        file = ImageFeatureFile(output)
    except (ValueError, OSError) as error:
        raise FileExistsError(f"{output} is there and is no image-feature file: choose another name") from error
    if "fingerprint" not in file.metadata:
        raise FileExistsError(f"{output} is there and was made by another program: choose another name")
    return file if file.metadata.items() >= metadata.items() else None


def images_sha256(images: Iterable[Path]) -> str:
    """SHA-256 over names and contents, by which photos that were added, taken away or replaced are noticed.

    Not over sizes and times: a photo may be replaced by one as large, and a copied folder has new times.
    """

    def content(image: Path) -> str | None:
        try:
            return file_sha256(image)
        except OSError:
            return None

    contents = {path.name: content(path) for path in images}
    return hashlib.sha256(json.dumps(sorted(contents.items())).encode()).hexdigest()


def _try_read(path: Path, size: int) -> Tensor | None:
    try:
        return read_image(path, size=size)
    except (InvalidPost, OSError):
        return None


def images_in(folder: Path) -> list[Path]:
    """The photo files of a folder, by name; those in folders within it are not among them."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
