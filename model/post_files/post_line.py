"""One line to one post: a JSON object with ``text`` or ``tokens``, and optional ``id`` and ``image``."""

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.post_files.input_lines import MAX_LINE_BYTES, Line
from model.posts import Post
from model.recognizer import Recognizer

MAX_IMAGE_BYTES = 2**28  # PNG stores 50 megapixels of 32 bits uncompressed in less
_KEYS = ("id", "text", "tokens", "image")


@dataclass(frozen=True, slots=True)
class PreparedLine:
    """A post ready for the network, or the sentence that says why there is none.

    Attributes:
        number, digest: identify the line.
        id: the post's own, to be repeated in the answer; None if it has none or the line cannot be read.
    """

    number: int
    digest: str
    id: object
    post: Post | str


class _BrokenLine(ValueError):
    """What is wrong with a line."""


class _Fields(dict[str, Any]):
    """A JSON object, and what is wrong with it although its ``id`` can be read."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs) if len(self) < len(pairs) else {}
        repeated = [key for key in _KEYS if counts.get(key, 0) > 1]
        self.problem = f'"{repeated[0]}" is given twice' if repeated else ""


def prepare_line(recognizer: Recognizer, line: Line, folder: Path) -> PreparedLine:
    """Parse a line, tokenize its text and decode its photo, whose path is relative to ``folder``; never raises."""
    id_: object = None
    post: Post | str
    try:
        fields = _parse(line.content)
        id_ = _read_id(fields)
        post = recognizer.prepare(_read_text(fields), _image_path(fields, folder))
    except (ValueError, OSError) as error:
        post = _one_line(str(error))
    except Exception as error:  # noqa: BLE001 one post must not end a run of millions
        post = f"cannot be read: {_one_line(repr(error))}"
    return PreparedLine(line.number, line.digest, id_, post)


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _parse(content: bytes | None) -> _Fields:
    if content is None:
        raise _BrokenLine(f"the line has more than {MAX_LINE_BYTES} bytes")
    constants: list[str] = []
    try:
        fields = json.loads(content.decode(), object_pairs_hook=_Fields, parse_constant=constants.append)
    except RecursionError as error:
        raise _BrokenLine("not JSON that can be read: nested too deeply") from error
    except ValueError as error:
        raise _BrokenLine(f"not JSON: {error}") from error
    if not isinstance(fields, _Fields):
        raise _BrokenLine("not a JSON object")
    if constants:
        fields.problem = f"not JSON: {constants[0]} is no JSON number"
    return fields


def _read_id(fields: _Fields) -> object:
    id_ = fields.get("id")
    if not isinstance(id_, str | int | float | None) or (isinstance(id_, float) and not math.isfinite(id_)):
        raise _BrokenLine('"id" is neither a string nor a number')
    return id_


def _read_text(fields: _Fields) -> str:
    if fields.problem:
        raise _BrokenLine(fields.problem)
    text, tokens = fields.get("text"), fields.get("tokens")
    if not text and isinstance(tokens, list) and all(isinstance(token, str) for token in tokens):
        text = " ".join(tokens)
    if not isinstance(text, str):
        raise _BrokenLine('needs "text", a string, or "tokens", a list of strings')
    if not text.strip():
        raise _BrokenLine("the text is empty")
    return text


def _image_path(fields: _Fields, folder: Path) -> Path | None:
    """The photo's path; the recognizer refuses that of a pipe or a device, and would read a file of any size.

    Raises:
        OSError, ValueError: there is no such file, or it is too large.
    """
    name = fields.get("image")
    if name is None or name == "":
        return None
    if not isinstance(name, str):
        raise _BrokenLine('"image" is not a path')
    path = folder / name
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no photo {path}") from error
    if size > MAX_IMAGE_BYTES:
        raise _BrokenLine(f"the photo {path} has {size} bytes, at most {MAX_IMAGE_BYTES} are read")
    return path
