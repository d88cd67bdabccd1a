"""What can be wrong with a dataset.

DatasetError (a ValueError)
  InvalidLine      a line that is not UTF-8, not a token and its tag, or not a JSON post
  UnusablePost     a post with too many sub-tokens, or with unknown entity types
  UnusableSplit    two files for one split, no tags, or unknown entity types
"""

from pathlib import Path


class DatasetError(ValueError):
    """Base of the errors, each with the file or folder, the line if one is at fault, and the ``value`` found there.

    ``path`` is None if several sources together are at fault, or a post that was not read from a file.
    """

    def __init__(self, path: Path | None, line: int | None, message: str, value: object) -> None:
        place = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(f"{place}{message}")
        self.path = path
        self.line = line
        self.value = value


class InvalidLine(DatasetError):
    """A line that is not UTF-8, not a token and its tag, or not a JSON post."""


class UnusablePost(DatasetError):
    """A post with more sub-tokens than the text encoder reads, or with entity types that training does not have."""


class UnusableSplit(DatasetError):
    """A split that has two files, that has no tags, or whose entity types the checkpoint does not know."""
