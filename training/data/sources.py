"""What ``--data`` names: a dataset with its splits, and where its images are."""

from dataclasses import dataclass
from pathlib import Path

from model.checkpoint import file_sha256
from training.data.errors import UnusableSplit
from training.data.posts import LabeledPost
from training.data.readers import read_posts, read_texts

_VALID_NAMES = ("valid", "dev", "val", "validation")  # all mean the same split
_SPLITS = ("train", *_VALID_NAMES, "test")


@dataclass(frozen=True, slots=True)
class DataSource:
    """A dataset folder with ``SPLIT.txt`` or ``SPLIT.jsonl`` files, or a single such file of training data.

    The split ``valid`` may also be called ``dev``, ``val`` or ``validation``.

    With ``texts`` it is a file of training posts whose texts alone are read (:func:`training.data.readers.read_texts`).

    Images come from the folder ``images``, or ready features from the file ``image_features``; without either, a JSON
    line may still name its own image.
    """

    path: Path
    images: Path | None = None
    image_features: Path | None = None
    texts: bool = False

    def __post_init__(self) -> None:
        """Refuse a mistyped folder, which would silently mean posts without images."""
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such file or folder")
        if self.texts and not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: not a file of texts")
        if self.images is not None and not self.images.is_dir():
            raise NotADirectoryError(f"{self.images}: no such folder of photos")

    @property
    def name(self) -> str:
        """The name of the source in reports: its folder's, or its file's unless that is called after a split."""
        path = self.path.resolve()
        if path.is_file() and path.stem not in _SPLITS:
            return path.stem
        return path.parent.name if path.is_file() else path.name

    def file(self, split: str) -> Path | None:
        """The file of ``split``, None if there is none; raises UnusableSplit if there are two."""
        if self.path.is_file():
            return self.path if split == "train" else None
        files = [path for name in _file_names(split) if (path := self.path / name).is_file()]
        if len(files) > 1:
            message = f"both {files[0].name} and {files[1].name}; only one of them would be read"
            raise UnusableSplit(self.path, None, message, files)
        return files[0] if files else None

    def read(self, split: str) -> list[LabeledPost]:
        """Read the posts of ``split``; raises FileNotFoundError if there is no such split."""
        path = self.file(split)
        if path is None:
            raise FileNotFoundError(f"{self.path}: no {' or '.join(_file_names(split))}")
        return read_texts(path) if self.texts else read_posts(path, self.images)

    def checksum(self, split: str) -> str | None:
        """SHA-256 of the split's file, None without one."""
        path = self.file(split)
        return None if path is None else file_sha256(path)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file that training reads, except images, by what it is for."""
        splits = {split: digest for split in ("train", "valid") if (digest := self.checksum(split)) is not None}
        features = {"image features": file_sha256(self.image_features)} if self.image_features is not None else {}
        return splits | features


def _file_names(split: str) -> list[str]:
    names = _VALID_NAMES if split in _VALID_NAMES else (split,)
    return [f"{name}{suffix}" for name in names for suffix in (".txt", ".jsonl")]
