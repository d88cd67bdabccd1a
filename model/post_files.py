"""Files of posts, in JSON lines: recognize each post, append its answer, resume after an interruption."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.entities import Entity
from model.recognizer import Post, Recognizer

_ANSWER_PREFIX = b'{"id": '


def answer(post: Post, entities: Sequence[Entity]) -> dict[str, Any]:
    """JSON-ready values: a post's entities and the text that their offsets refer to."""
    found = [{key: value for key, value in asdict(entity).items() if value is not None} for entity in entities]
    return {"text": post.source, "entities": found, "image_used": post.has_image}


def recognize_file(recognizer: Recognizer, source: Path, output: Path) -> None:
    """Recognize every post of a JSON-lines file and append one answer per line to ``output``.

    A line of ``source`` is an object with ``text`` (or ``tokens``, joined by spaces) and optional ``id`` and ``image``,
    a path relative to the file. Posts already answered in ``output`` are skipped, so an interrupted run resumes. A post
    that cannot be read gets an ``error`` instead of ``entities``.

    Raises:
        FileExistsError: ``output`` holds something other than answers.
    """
    with source.open("rb") as lines:
        total = sum(1 for line in lines if line.strip())
    done = _count_answers(output)
    with (
        source.open("rb") as lines,
        output.open("a", encoding="utf-8", errors="backslashreplace") as answers,  # JSON may hold a lone surrogate
        tqdm(total=total, initial=done, unit="post", desc="recognizing") as progress,
    ):
        remaining = islice((line for line in lines if line.strip()), done, None)
        while batch := list(islice(remaining, recognizer.batch_size)):
            for line in _answers(recognizer, batch, source.parent):
                answers.write(json.dumps(line, ensure_ascii=False) + "\n")
            answers.flush()
            progress.update(len(batch))


def _count_answers(output: Path) -> int:
    """Count the answers in ``output``; remove a last line that an interruption cut off."""
    if not output.exists():
        return 0
    *whole, cut_off = output.read_bytes().split(b"\n")
    if not all(map(_is_answer, whole)) or not cut_off.startswith(_ANSWER_PREFIX[: len(cut_off)]):
        raise FileExistsError(f"{output} exists but does not hold answers to resume from; choose another name")
    if cut_off:
        with output.open("r+b") as file:
            file.truncate(output.stat().st_size - len(cut_off))
    return len(whole)


def _is_answer(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and record.keys() in ({"id", "error"}, {"id", "text", "entities", "image_used"})


def _answers(recognizer: Recognizer, lines: Sequence[bytes], folder: Path) -> Iterator[dict[str, Any]]:
    posts = [_read_post(recognizer, line, folder) for line in lines]
    found = iter(recognizer.run([post for _, post in posts if isinstance(post, Post)]))
    for id_, post in posts:
        yield {"id": id_, **(answer(post, next(found)) if isinstance(post, Post) else {"error": post})}


def _read_post(recognizer: Recognizer, line: bytes, folder: Path) -> tuple[object, Post | str]:
    """The post's id, and the post or what is wrong with it."""
    try:
        record = json.loads(line)
    except ValueError as error:
        return None, f"not JSON: {error}"
    if not isinstance(record, dict):
        return None, "not a JSON object"
    tokens = record.get("tokens")
    text = " ".join(map(str, tokens)) if isinstance(tokens, list) and not record.get("text") else record.get("text")
    id_, image = record.get("id"), record.get("image")
    if not isinstance(text, str):
        return id_, 'needs "text", a string, or "tokens", a list'
    if not isinstance(image, str | None):
        return id_, '"image" is not a path'
    try:
        return id_, recognizer.prepare(text, folder / image if image else None)
    except (ValueError, OSError) as error:
        return id_, str(error)
