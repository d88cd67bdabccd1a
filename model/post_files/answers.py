"""The answers to a file of posts, in JSON lines, each with what identifies its post."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import regex

from model.entities import Entity
from model.post_files.post_line import PreparedLine
from model.posts import Post

_KEYS = (
    ["id", "line", "text", "entities", "image_used", "digest"],
    ["id", "line", "error", "digest"],
)
_BEGINNING = regex.compile(rb'\{"id": (?:"(?:[^"\\]|\\.)*"|[^",\s]+), "line": \d+, "(?:text|error)": ".*', regex.DOTALL)


@dataclass(frozen=True, slots=True)
class EarlierAnswer:
    """What an answer says of its post: the number and the digest of its line, and whether it could not be read."""

    line: int
    digest: str
    failed: bool


def answer(post: Post, entities: Sequence[Entity]) -> dict[str, Any]:
    """JSON-ready values: a post's entities and the text that their offsets refer to."""
    found = [{key: value for key, value in asdict(entity).items() if value is not None} for entity in entities]
    return {"text": post.source, "entities": found, "image_used": post.has_image}


def answer_line(line: PreparedLine, entities: Sequence[Entity]) -> bytes:
    """The answer to one line; ``entities`` are those of its post, if it has one."""
    content = {"error": line.post} if isinstance(line.post, str) else answer(line.post, entities)
    record = {"id": line.id, "line": line.number, **content, "digest": line.digest}
    # JSON may hold a lone surrogate, which is escaped as JSON would
    return (json.dumps(record, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def read_answer(line: bytes) -> EarlierAnswer | None:
    """Read what :func:`answer_line` wrote; None if it is anything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or list(record) not in _KEYS:
        return None
    return EarlierAnswer(record["line"], record["digest"], "error" in record)


def begins_an_answer(beginning: bytes) -> bool:
    """Whether the first bytes of a file, or of a line that was cut off, can be those of an answer.

    A line that is whole JSON was not cut off: it must be an answer, of which only the line feed is missing.
    """
    first, *others = beginning.split(b"\n", maxsplit=1)
    if not others and not _BEGINNING.fullmatch(first, partial=True):
        return False
    return read_answer(first) is not None or not (others or _is_json(first))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    except RecursionError:
        return True  # as far as it was read, and too deep for an answer
    return True
