"""Tensors that are written in shards, so that a killed run loses at most one shard."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor


class TensorShards:
    """The shards of a file of tensors, such as image features, in the folder ``FILE.parts`` until they can be merged.

    Each file gets its name once it is complete. Writing holds one shard in memory, merging all features once: of a
    1.7 GB file, the largest documented one, a peak of 1.7 GB was measured (and twice that on disk).

    Args:
        ids: of all images, or of whatever the rows belong to.
        metadata: of the file. Shards that an interrupted run left are kept if it had the same ids, metadata and size.
        size: images in a shard.
    """

    def __init__(self, output: Path, ids: Sequence[str], metadata: dict[str, str], *, size: int) -> None:
        self._output = output
        self._metadata = metadata
        self._folder = output.with_name(f"{output.name}.parts")
        chunks = [list(ids[first : first + size]) for first in range(0, len(ids), size)]
        self._shards = {self._folder / f"{number:06}.safetensors": chunk for number, chunk in enumerate(chunks)}

    @property
    def paths(self) -> list[Path]:
        """All shards, written or not, in the order of the ids."""
        return list(self._shards)

    def begin(self) -> list[tuple[Path, list[str]]]:
        """Find the shards that still have to be written, each with its ids; remove shards of other images."""
        contents = self._contents
        expected = json.dumps({"shards": list(self._shards.values()), "metadata": self._metadata})
        if not contents.is_file() or contents.read_text("utf-8") != expected:
            self.discard()
            self._folder.mkdir(parents=True)
            self._partial.write_text(expected, "utf-8")
            self._partial.replace(contents)
        return [(shard, ids) for shard, ids in self._shards.items() if _names(shard) is None]

    def write(self, shard: Path, names: Sequence[str], features: Tensor | None) -> None:
        """Write a shard's rows, such as the features (n, 1 + m, C) float16 of n images; None if none could be read.

        Raises:
            OSError: it cannot be written.
        """
        self._save({} if features is None else {"features": features}, shard, {"names": json.dumps(names)})

    def merge(self) -> list[str]:
        """Write the file, if any image could be read, and remove the shards; returns the ids in the file.

        Raises:
            OSError: it cannot be written; the shards remain.
        """
        names = [_names(shard) or [] for shard in self._shards]
        merged = [name for own in names for name in own]
        parts = (load_file(shard)["features"] for shard, own in zip(self._shards, names, strict=True) if own)
        features: Tensor | None = None
        first = 0
        for part in parts:
            if features is None:
                features = part.new_empty(len(merged), *part.shape[1:])
            features[first : first + len(part)] = part
            first += len(part)
        if features is not None:
            self._save({"features": features}, self._output, {**self._metadata, "image_ids": json.dumps(merged)})
        self.discard()
        return merged

    def discard(self) -> None:
        """Remove all shards."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _contents(self) -> Path:
        return self._folder / "contents.json"

    @property
    def _partial(self) -> Path:
        return self._folder / "partial"

    def _save(self, tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        try:
            save_file(tensors, self._partial, metadata)
        except SafetensorError as error:
            raise OSError(f"{path}: cannot be written ({error})") from error
        # safetensors makes files private; this one gets the mode of any other file of this user
        shutil.copymode(self._contents, self._partial)
        self._partial.replace(path)


def _names(shard: Path) -> list[str] | None:
    """The ids in a shard; None if it is missing or, after a power failure, unreadable."""
    try:
        with safe_open(shard, "pt") as opened:
            return [str(name) for name in json.loads(opened.metadata()["names"])]
    except (OSError, SafetensorError):
        return None
