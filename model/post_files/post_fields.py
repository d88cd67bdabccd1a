"""The fields of a post, in a line or in a row of a table: ``text`` or ``tokens``, optional ``id`` and ``image``."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from model.errors import StoreUnavailable
from model.posts import Post
from model.preprocessing.images import ImageSource
from model.recognizer import Recognizer

MAX_IMAGE_BYTES = 2**28  # PNG stores 50 megapixels of 32 bits uncompressed in less
OpenPhoto = Callable[[str], ImageSource]  # by the name that the post gives

Result = TypeVar("Result")


class BrokenPost(ValueError):
    """What is wrong with a post."""


def attempt(read: Callable[[], Result]) -> Result | str:
    """What ``read`` returns, or the sentence that says why it cannot; raises only if all posts would fare the same."""
    try:
        return read()
    except StoreUnavailable:
        raise
    except (ValueError, OSError) as error:
        return _one_line(str(error))
    except Exception as error:  # noqa: BLE001 one post must not end a run of millions
        return f"cannot be read: {_one_line(repr(error))}"


def read_id(fields: Mapping[str, Any]) -> object:
    """The post's id, None if it has none.

    Raises:
        BrokenPost: it could not be repeated in JSON.
    """
    id_ = fields.get("id")
    if not isinstance(id_, str | int | float | None) or (isinstance(id_, float) and not math.isfinite(id_)):
        raise BrokenPost('"id" is neither a string nor a number')
    return id_


def read_post(recognizer: Recognizer, fields: Mapping[str, Any], open_photo: OpenPhoto) -> Post:
    """Tokenize the text and decode the photo, which ``fields`` hold or name.

    Raises:
        ValueError, OSError: the message says what is wrong with the post.
        StoreUnavailable: the photos cannot be read now.
    """
    return recognizer.prepare(_read_text(fields), _read_photo(fields, open_photo))


def photo_file(folder: Path, name: str) -> Path:
    """The photo's path; the recognizer refuses that of a pipe or a device, and would read a file of any size.

    Raises:
        OSError, ValueError: there is no such file, or it is too large.
    """
    path = folder / name
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no photo {path}") from error
    if size > MAX_IMAGE_BYTES:
        raise BrokenPost(f"the photo {path} has {size} bytes, at most {MAX_IMAGE_BYTES} are read")
    return path


def _read_text(fields: Mapping[str, Any]) -> str:
    text, tokens = fields.get("text"), fields.get("tokens")
    if not text and isinstance(tokens, list) and all(isinstance(token, str) for token in tokens):
        text = " ".join(tokens)
    if not isinstance(text, str):
        raise BrokenPost('needs "text", a string, or "tokens", a list of strings')
    if not text.strip():
        raise BrokenPost("the text is empty")
    return text


def _read_photo(fields: Mapping[str, Any], open_photo: OpenPhoto) -> ImageSource | None:
    image = fields.get("image")
    if image is None or (isinstance(image, str | bytes) and not image):
        return None
    if isinstance(image, bytes):
        return image
    if not isinstance(image, str):
        raise BrokenPost('"image" is not a path')
    return open_photo(image)


def _one_line(message: str) -> str:
    return " ".join(message.split())
