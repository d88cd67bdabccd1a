"""Image-feature files written batch by batch: memory stays that of one batch, and a killed run goes on where it was.

safetensors' own writer wants all tensors at once. Here the rows go into ``FILE.part`` behind room for the header, the
ids into ``FILE.journal``; when all are there the header is written and the file gets its name.
Format: https://huggingface.co/docs/safetensors#format
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

_LENGTH_BYTES = 8  # of the header, little-endian, in front of it
_MOST = 10**15  # no shape or offset has more digits


class ImageFeatureWriter:
    """Takes the features of photos in the order of ``ids``, broken photos among them.

    Args:
        ids: of all photos.
        metadata: of the file; what an interrupted writer left is gone on with if it had the same and the same ids.
    """

    def __init__(self, output: Path, ids: Sequence[str], metadata: dict[str, str]) -> None:
        self._output = output
        self._ids = ids
        self._metadata = metadata
        self._part = output.with_name(f"{output.name}.part")
        self._journal = output.with_name(f"{output.name}.journal")
        self.names: list[str] = []
        self.broken: list[str] = []
        self._shape: list[int] = []
        self._room = len(self._header(list(ids), [_MOST, _MOST]))  # for the longest header there may be
        output.parent.mkdir(parents=True, exist_ok=True)
        if not self._go_on():
            self.names, self.broken, self._shape = [], [], []
            self._part.write_bytes(bytes(self._room))
            self._journal.write_text(json.dumps(self._key()) + "\n", "utf-8")

    @property
    def done(self) -> int:
        """How many photos have been dealt with."""
        return len(self.names) + len(self.broken)

    def add(self, names: Sequence[str], broken: Sequence[str], features: Tensor | None) -> None:
        """Take the next photos: the features of those that could be read, (n, 1 + m, C) float16, and the others."""
        if features is not None:
            with self._part.open("ab") as file:
                file.write(features.contiguous().numpy().tobytes())
                file.flush()
                os.fsync(file.fileno())  # the journal must not speak of what is not there
        shape = self._shape if features is None else list(features.shape[1:])
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"names": list(names), "broken": list(broken), "shape": shape}) + "\n")
        self._shape = shape
        self.names += names
        self.broken += broken

    def finish(self) -> None:
        """Make the file what it is called."""
        with self._part.open("r+b") as file:
            file.write(self._header(self.names, self._shape).ljust(self._room))
            file.seek(0)
            file.write((self._room - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES, "little"))
            file.flush()
            os.fsync(file.fileno())
        self._part.replace(self._output)
        self._journal.unlink()

    def discard(self) -> None:
        """Take away what was begun."""
        self._part.unlink()
        self._journal.unlink()

    def _key(self) -> dict[str, Any]:
        return {"ids": list(self._ids), "metadata": self._metadata}

    def _go_on(self) -> bool:
        """Take over an interrupted writer's work, up to the last photos that are in both of its files."""
        try:
            lines = self._journal.read_text("utf-8").splitlines(keepends=True)
            if json.loads(lines[0]) != self._key():
                return False
            batches = [json.loads(line) for line in lines[1:] if line.endswith("\n")]
            size = self._part.stat().st_size
        except (OSError, ValueError, LookupError):
            return False
        for batch in batches:
            self.names += batch["names"]
            self.broken += batch["broken"]
            self._shape = batch["shape"]
        whole = self._room + self._bytes(self.names, self._shape)
        if size < whole:
            return False
        os.truncate(self._part, whole)
        self._journal.write_text("".join(line for line in lines if line.endswith("\n")), "utf-8")
        return True

    @staticmethod
    def _bytes(names: Sequence[str], shape: Sequence[int]) -> int:
        rows, channels = shape or (0, 0)
        return 2 * len(names) * rows * channels  # float16

    def _header(self, names: Sequence[str], shape: Sequence[int]) -> bytes:
        """The header of a file with these rows, and room for its length before it."""
        header = {
            "__metadata__": {**self._metadata, "image_ids": json.dumps(names)},
            "features": {
                "dtype": "F16",
                "shape": [len(names), *shape],
                "data_offsets": [0, self._bytes(names, shape)],
            },
        }
        content = bytes(_LENGTH_BYTES) + json.dumps(header).encode()
        return content.ljust(-(-len(content) // 8) * 8)  # tensors begin at a multiple of eight
