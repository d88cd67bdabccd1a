"""Image-feature files: the frozen image encoder's output, computed once.

Format: safetensors with ``features`` (N, 1 + m, C) float16 or float32, row 0 the global vector, optionally ``mask``
(N, 1 + m) bool, True where a row is real; metadata ``image_ids``, a JSON list of N ids, and ``encoder``.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from model.errors import InvalidPost
from model.photos import read_photo
from training.encoders import FrozenImageEncoder
from training.posts import PHOTO_SUFFIXES


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """One photo's features (1 + m, C) and which rows are real (1 + m,), all of them if None."""

    features: Tensor
    mask: Tensor | None


class ImageFeatureFile:
    """An image-feature file, memory-mapped: rows are read when asked for."""

    def __init__(self, path: Path) -> None:
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
        self._rows = {str(name): row for row, name in enumerate(json.loads(metadata["image_ids"]))}
        shape = self._features.get_shape()
        if len(shape) != 3 or shape[0] != len(self._rows):
            raise ValueError(f"{path}: features {tuple(shape)} do not fit {len(self._rows)} distinct image ids")
        if self._mask is not None and list(self._mask.get_shape()) != list(shape[:2]):
            raise ValueError(f"{path}: the mask {tuple(self._mask.get_shape())} does not fit features {tuple(shape)}")
        self.feature_size = int(shape[2])

    def __contains__(self, image_id: str | None) -> bool:
        return image_id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, image_id: str) -> ImageFeatures:
        row = self._rows[image_id]
        mask = None if self._mask is None else self._mask[row : row + 1][0]
        return ImageFeatures(self._features[row : row + 1][0], mask)


def photo_id(path: Path) -> str:
    """The id under which a photo's features are stored: its file name without the suffix."""
    return path.stem


def cache_images(
    photos: Iterable[Path],
    output: Path,
    encoder: FrozenImageEncoder,
    *,
    batch_size: int = 32,
) -> list[Path]:
    """Encode photos once and write them as an image-feature file in half precision.

    Returns:
        The files that could not be read; they are left out.

    Raises:
        ValueError: two files have the same name, or none can be read.
    """
    by_id: dict[str, Path] = {}
    for path in photos:
        other = by_id.setdefault(photo_id(path), path)
        if other != path:
            raise ValueError(f"{other} and {path} have the same name, so their features cannot be told apart")
    unique = list(by_id.values())
    names: list[str] = []
    encoded: list[Tensor] = []
    broken: list[Path] = []
    with tqdm(total=len(unique), desc="encoding photos", unit="photo") as progress:
        for first in range(0, len(unique), batch_size):
            batch = unique[first : first + batch_size]
            good = {
                photo_id(path): photo for path in batch if (photo := _try_read(path, encoder.photos.size)) is not None
            }
            broken += [path for path in batch if photo_id(path) not in good]
            if good:
                names += good
                encoded.append(encoder.encode(torch.stack(list(good.values()))))
            progress.update(len(batch))
    if not encoded:
        raise ValueError(f"none of {len(unique)} photos could be read")
    output.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"image_ids": json.dumps(names), "encoder": encoder.name, "fingerprint": encoder.fingerprint()}
    partial = output.with_suffix(".part")
    save_file({"features": torch.cat(encoded)}, partial, metadata)
    os.replace(partial, output)
    return broken


def _try_read(path: Path, size: int) -> Tensor | None:
    try:
        return read_photo(path, size=size)
    except (InvalidPost, OSError):
        return None


def photos_in(folder: Path) -> list[Path]:
    """The photo files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
