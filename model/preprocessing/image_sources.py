"""What a caller may give as an image, and the bytes in it."""

import errno
import os
import stat
from pathlib import Path
from typing import Protocol

from PIL import Image

from model.argument_checks import is_file, type_name


class BinaryFile(Protocol):
    """A file opened for reading bytes: anything with their ``read``."""

    def read(self) -> bytes:
        """Everything from the current position to the end."""
        ...


ImageSource = Image.Image | bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryFile


def image_content(source: ImageSource) -> Image.Image | bytes:
    """A PIL image as it is, the bytes of anything else.

    Raises:
        TypeError: ``source`` is none of these, or a file that was opened as text; the message names its type.
        OSError: the path cannot be read, or is not that of a regular file.
    """
    if isinstance(source, bytes | Image.Image):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return _file_content(Path(source))
    if is_file(source):
        return _checked(source.read(), type(source).__name__)
    raise TypeError(
        f"expected a photo as a PIL image, bytes, a path or a file opened for reading bytes, found {type_name(source)}"
    )


def _file_content(path: Path) -> bytes:
    """Refuses a folder by name, and a pipe or device, which might never end."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.read_bytes()


def _checked(content: object, file: str) -> bytes:
    if isinstance(content, str):
        raise TypeError(f'expected a photo\'s file to be opened for reading bytes ("rb"), found one of text ({file})')
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"expected bytes from the photo's file ({file}), found {type_name(content)}")
    return bytes(content)
