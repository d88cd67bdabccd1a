"""``smner-recognize``: entities of one post, or of a file of posts, as JSON."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers.utils import logging

from model.entities import Entity
from model.errors import SMNERError
from model.recognizer import Post, Recognizer

_BATCH = 16
_BEGINNING = b'{"id": '  # of each answer in a file


def entity_to_dict(entity: Entity) -> dict[str, Any]:
    """An entity as JSON-ready values; without attention where it was not asked for."""
    return {key: value for key, value in asdict(entity).items() if value is not None}


def answer(post: Post, entities: Sequence[Entity]) -> dict[str, Any]:
    """A post's entities, with the text that their offsets count in."""
    found = [entity_to_dict(entity) for entity in entities]
    return {"text": post.source, "entities": found, "image_used": post.has_image}


def recognize_file(recognizer: Recognizer, source: Path, output: Path) -> None:
    """Recognise every post of a JSON-lines file and append one line for each to ``output``.

    A line of ``source`` is an object with ``text`` (or ``tokens``, joined by blanks) and perhaps ``id`` and ``image``,
    a path relative to the file. Posts that ``output`` already answers are passed over, so an interrupted run goes on
    where it stopped. A post that cannot be read gets an ``error`` instead of ``entities``.

    Raises:
        FileExistsError: ``output`` holds something else than answers, which would be lost.
    """
    with source.open("rb") as lines:
        total = sum(1 for line in lines if line.strip())
    done = _answered(output)
    with (
        source.open("rb") as lines,
        output.open("a", encoding="utf-8", errors="backslashreplace") as answers,  # a lone surrogate is valid JSON
        tqdm(total=total, initial=done, unit="post", desc="recognising") as progress,
    ):
        remaining = islice((line for line in lines if line.strip()), done, None)
        while group := list(islice(remaining, _BATCH)):
            for line in _answers(recognizer, group, source.parent):
                answers.write(json.dumps(line, ensure_ascii=False) + "\n")
            answers.flush()
            progress.update(len(group))


def _answered(output: Path) -> int:
    """How many answers ``output`` holds; a line cut off by an interruption is removed."""
    if not output.exists():
        return 0
    *whole, cut_off = output.read_bytes().split(b"\n")
    if not all(map(_is_answer, whole)) or not cut_off.startswith(_BEGINNING[: len(cut_off)]):
        raise FileExistsError(f"{output} is there and does not hold answers to go on from: choose another name")
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
    prepared = [_prepare(recognizer, line, folder) for line in lines]
    found = iter(recognizer.run([post for _, post in prepared if isinstance(post, Post)]))
    for name, post in prepared:
        if isinstance(post, Post):
            yield {"id": name, **answer(post, next(found))}
        else:
            yield {"id": name, "error": post}


def _prepare(recognizer: Recognizer, line: bytes, folder: Path) -> tuple[object, Post | str]:
    """The post's id, and the post or what is wrong with it."""
    try:
        record = json.loads(line)
    except ValueError as error:
        return None, f"not JSON: {error}"
    if not isinstance(record, dict):
        return None, "not a JSON object"
    tokens = record.get("tokens")
    text = " ".join(map(str, tokens)) if isinstance(tokens, list) and not record.get("text") else record.get("text")
    name, image = record.get("id"), record.get("image")
    if not isinstance(text, str):
        return name, 'neither "text", a string, nor "tokens", a list'
    if not isinstance(image, str | None):
        return name, '"image" is not a path'
    try:
        return name, recognizer.prepare(text, folder / image if image else None)
    except (ValueError, OSError) as error:
        return name, str(error)


def arguments() -> argparse.ArgumentParser:
    """The command line of ``smner-recognize``."""
    parser = argparse.ArgumentParser("smner-recognize", description="Recognise named entities in posts.")
    parser.add_argument("text", nargs="?", help="the post's text")
    parser.add_argument("--image", type=Path, metavar="FILE", help="the post's photo")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="checkpoint folder; the embedded one if not given"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--input", type=Path, metavar="FILE", help="posts, a JSON object a line")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the answers to --input go")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; a mistake of the caller is one line on standard error and exit status 2."""
    parser = arguments()
    options = parser.parse_args(argv)
    if (options.text is None) == (options.input is None):
        parser.error("give either a text or --input")
    if (options.input is None) != (options.output is None):
        parser.error("--input and --output go together")
    if options.input is not None and options.image is not None:
        parser.error("with --input, each line names its own photo; --image goes with a text")
    logging.disable_progress_bar()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # the same for a terminal's encoding
    try:
        recognizer = Recognizer.from_pretrained(options.checkpoint, device=options.device)
        if options.input is not None:
            recognize_file(recognizer, options.input, options.output)
        else:
            post = recognizer.prepare(options.text, options.image)
            print(json.dumps(answer(post, recognizer.run([post])[0]), ensure_ascii=False, indent=2))
    except (SMNERError, OSError, ValueError) as error:
        print(f"smner-recognize: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("smner-recognize: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
