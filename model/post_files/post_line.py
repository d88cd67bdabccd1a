"""One line to one post: a JSON object with ``text`` or ``tokens``, and optional ``id`` and ``image``."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

from model.post_files.input_lines import MAX_LINE_BYTES, Line
from model.post_files.post_fields import BrokenPost, OpenPhoto, attempt, read_id, read_post
from model.posts import Post
from model.recognizer import Recognizer

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


class _Fields(dict[str, Any]):
    """A JSON object, and what is wrong with it although its ``id`` can be read."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs) if len(self) < len(pairs) else {}
        repeated = [key for key in _KEYS if counts.get(key, 0) > 1]
        self.problem = f'"{repeated[0]}" is given twice' if repeated else ""


def prepare_line(recognizer: Recognizer, line: Line, open_photo: OpenPhoto) -> PreparedLine:
    """Parse a line, tokenize its text and decode its photo.

    Raises:
        StoreUnavailable: the photos cannot be read now; nothing else is raised.
    """
    fields = attempt(partial(_parse, line.content))
    if isinstance(fields, str):
        return PreparedLine(line.number, line.digest, None, fields)
    post = attempt(partial(_read_fields, recognizer, fields, open_photo))
    return PreparedLine(line.number, line.digest, fields.get("id"), post)


def _parse(content: bytes | None) -> _Fields:
    """The fields, with an ``id`` that can be repeated."""
    if content is None:
        raise BrokenPost(f"the line has more than {MAX_LINE_BYTES} bytes")
    constants: list[str] = []
    try:
        fields = json.loads(content.decode(), object_pairs_hook=_Fields, parse_constant=constants.append)
    except RecursionError as error:
        raise BrokenPost("not JSON that can be read: nested too deeply") from error
    except ValueError as error:
        raise BrokenPost(f"not JSON: {error}") from error
    if not isinstance(fields, _Fields):
        raise BrokenPost("not a JSON object")
    if constants:
        fields.problem = f"not JSON: {constants[0]} is no JSON number"
    read_id(fields)
    return fields


def _read_fields(recognizer: Recognizer, fields: _Fields, open_photo: OpenPhoto) -> Post:
    if fields.problem:
        raise BrokenPost(fields.problem)
    return read_post(recognizer, fields, open_photo)
