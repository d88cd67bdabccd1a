"""Image-feature files: the output of a frozen image encoder, read by row.

Format: safetensors with ``features`` (N, 1 + m, C) float16 or float32, row 0 the global vector; optionally ``mask``
(N, 1 + m) bool, True where a row is real; metadata ``image_ids``, a JSON list of N ids, and ``encoder``.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from training.features.image_encoder import FrozenImageEncoder


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """An image's features (1 + m, C), and which rows are real (1 + m,); None if all are."""

    features: Tensor
    mask: Tensor | None


class ImageFeatureFile:
    """A memory-mapped image-feature file; a row is read when it is asked for.

    Raises:
        ValueError: the file does not have the format above.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            opened: Any = safe_open(path, "pt")
        except SafetensorError as error:
            raise ValueError(f"{path}: not an image-feature file: {error}") from error
        self.metadata: dict[str, str] = opened.metadata() or {}
        keys = set(opened.keys())
        if "features" not in keys or "image_ids" not in self.metadata:
            raise ValueError(f"{path}: not an image-feature file: it needs features and the metadata image_ids")
        self._features = opened.get_slice("features")
        self._mask = opened.get_slice("mask") if "mask" in keys else None
        self.encoder = self.metadata.get("encoder", "")
        self._rows = {name: row for row, name in enumerate(_ids(path, self.metadata["image_ids"]))}
        shape = self._features.get_shape()
        if len(shape) != 3 or shape[0] != len(self._rows):
            raise ValueError(f"{path}: features {tuple(shape)} do not fit {len(self._rows)} distinct image ids")
        if self._mask is not None and list(self._mask.get_shape()) != list(shape[:2]):
            raise ValueError(f"{path}: the mask {tuple(self._mask.get_shape())} does not fit features {tuple(shape)}")
        self.rows, self.feature_size = int(shape[1]), int(shape[2])

    def check(self, encoder: FrozenImageEncoder) -> None:
        """Check that ``encoder`` made the features; a file without a fingerprint, another program's, is trusted.

        Raises:
            ValueError: it did not; the message says what differs.
        """
        stored, current = self.metadata.get("fingerprint"), encoder.fingerprint()
        if self.encoder != encoder.name:
            raise ValueError(f"{self.path}: features of {self.encoder or 'an unnamed encoder'}, not of {encoder.name}")
        if self.feature_size != encoder.network.feature_size:
            raise ValueError(
                f"{self.path}: features are {self.feature_size} wide, those of {encoder.name} "
                f"{encoder.network.feature_size}"
            )
        if stored is None or stored == current:
            return
        before, now = json.loads(stored), json.loads(current)
        differences = [f"{key} {before.get(key)}, not {now[key]}" for key in now if before.get(key) != now[key]]
        raise ValueError(
            f"{self.path}: made by {self.encoder} with other weights or photo settings ({'; '.join(differences)}); "
            f"make it again with smner-cache-images"
        )

    def __contains__(self, image_id: str | None) -> bool:
        return image_id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, image_id: str) -> ImageFeatures:
        row = self._rows[image_id]
        mask = None if self._mask is None else self._mask[row : row + 1][0]
        return ImageFeatures(self._features[row : row + 1][0], mask)


def image_id(path: Path) -> str:
    """The id that an image's features are stored under: its file name without the suffix."""
    return path.stem


def _ids(path: Path, listed: str) -> list[str]:
    try:
        return [str(name) for name in json.loads(listed)]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected image_ids to be a JSON list, found {listed[:80]!r}") from error
