"""``smner-recognize``: prints the entities of one post as JSON, or recognizes a file of posts."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from transformers.utils import logging

from model.errors import SMNERError
from model.post_files import answer, recognize_file
from model.recognizer import Recognizer


def arguments() -> argparse.ArgumentParser:
    """The command-line arguments of ``smner-recognize``."""
    parser = argparse.ArgumentParser("smner-recognize", description="Recognize named entities in posts.")
    parser.add_argument("text", nargs="?", help="the post's text")
    parser.add_argument("--image", type=Path, metavar="FILE", help="the post's photo")
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="folder, or name of a checkpoint that comes along (default: smner-compact)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--input", type=Path, metavar="FILE", help="posts to recognize, one JSON object per line")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write the answers to --input")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; a caller's mistake prints one line to standard error and exits with status 2."""
    parser = arguments()
    options = parser.parse_args(argv)
    if (options.text is None) == (options.input is None):
        parser.error("give either a text or --input")
    if (options.input is None) != (options.output is None):
        parser.error("--input and --output go together")
    if options.input is not None and options.image is not None:
        parser.error("--image goes with a text; with --input, each line names its own photo")
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # our errors name what does not fit
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # for terminals that are not UTF-8
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
