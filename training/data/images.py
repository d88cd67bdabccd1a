"""Finding the image files that posts name."""

import errno
from pathlib import Path

from model.preprocessing.images import IMAGE_SUFFIXES


def find_image(images: Path | None, name: str) -> Path | None:
    """The file in the folder ``images`` that is called ``name`` plus an image suffix in lower or upper case."""
    if images is None:
        return None
    suffixes = (*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES))
    return first_file(*(images / f"{name}{suffix}" for suffix in suffixes))


def first_file(*paths: Path) -> Path | None:
    """The first of ``paths`` that is a file; a name too long for any file is not."""
    for path in paths:
        try:
            if path.is_file():
                return path
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
    return None
