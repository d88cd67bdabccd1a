"""``smner-recognize``: shows the entities of one post, or recognizes a file of posts."""

import argparse
import gc
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import get_args

from transformers.utils import logging

from model.bulk.addresses import names_a_folder
from model.device import Precision
from model.display.attention_figure import PANEL, check_figure_path, draw_attention, save_figure
from model.display.marked_text import escape_json, harmless
from model.display.terminal import show
from model.entities import Entity
from model.errors import SMNERError
from model.post_files.answers import answer
from model.post_files.input_lines import check_source
from model.post_files.recognition import recognize_file
from model.posts import Post
from model.preprocessing.images import read_thumbnail
from model.recognizer import Recognizer

_EPILOG = """\
On a terminal the text is shown with its entities marked: in color, or in brackets if NO_COLOR is set or TERM is dumb.
In a pipe or a file, and with --json, the answer is JSON.

--input has one JSON object per line: {"text": ...} or {"tokens": [...]}, and optionally "id" and "image", a path that
is relative to the file (with a pipe, to the current folder). It may be gzipped, a pipe, or - for standard input.

With --output FOLDER, --input is a pattern like 'FOLDER/*.parquet', a folder, or a store's address like s3://BUCKET/POSTS:
Parquet or JSON lines (.jsonl, .ndjson; .gz, .zst), each answered in a file of its own that appears when it is complete.
When all are there, _SUMMARY.json is written. docs/bulk.md has the details; it needs the extra smner[bulk].

--output FILE gets one JSON object per line, in the order of the posts:
  {"id": ..., "line": N, "text": ..., "entities": [...], "image_used": ..., "digest": ...}
  {"id": ..., "line": N, "error": ..., "digest": ...}   for a post that cannot be read
It is gzipped if its name ends in .gz, and may be a pipe, or - for standard output. If the file has answers already, the
run goes on after them; "line" and "digest" tell that these are answers to the same posts.

exit status:
  0    every post has been answered
  1    some posts have an error instead
  2    nothing could be done, the run had to stop, or a folder's file could not be answered; one line says why
  130  interrupted; the same command goes on
  141  nobody reads the output any more
"""


def arguments() -> argparse.ArgumentParser:
    """The command-line arguments of ``smner-recognize``."""
    parser = argparse.ArgumentParser(
        "smner-recognize",
        description="Recognize named entities in posts.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("text", nargs="?", help="the post's text")
    parser.add_argument("--image", type=Path, metavar="FILE", help="the post's photo")
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="PICTURE",
        help="draw where in the photo each entity looked, to a .png or .pdf file; needs --image",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on a terminal, too")
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="folder, or name of a checkpoint that comes along (default: smner-compact)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps, ... (default: auto)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=get_args(Precision),
        help="auto is float32, but tf32 on CUDA and bfloat16 for photos on a CPU that has it",
    )
    parser.add_argument("--input", metavar="FILE", help="posts to recognize, one JSON object per line; or a folder")
    parser.add_argument("--output", metavar="FILE", help="where to write the answers to --input; or a folder")
    folders = parser.add_argument_group("whole folders")
    folders.add_argument("--images", metavar="FOLDER", help="where the photos' paths start from (default: their file)")
    folders.add_argument("--shard", metavar="K/N", help="answer one of N shares of the files; K is 0 to N - 1")
    folders.add_argument(
        "--ray", metavar="ADDRESS", help="on a Ray cluster: local starts one here, auto finds one, or HOST:PORT"
    )
    folders.add_argument(
        "--actors",
        type=_count,
        metavar="N",
        help="how many work at once on Ray (default: one per GPU; without GPUs, one per four cores)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; a mistake prints one line to standard error."""
    options = _parse(argv)
    gc.freeze()  # what compiling patterns left has finalizers, and Python ignores an interruption in those
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # our errors name what does not fit
    try:
        return _recognize_text(options) if options.input is None else _recognize_posts(options)
    except BrokenPipeError:  # as of a program that SIGPIPE ends
        _discard_output()
        return 141
    except (SMNERError, OSError, ValueError, RuntimeError) as error:
        _report(str(error))
        return 2
    except KeyboardInterrupt:
        _report("interrupted" if options.input is None else "interrupted; the same command goes on")
        return 130


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = arguments()
    options = parser.parse_args(argv)
    if (options.text is None) == (options.input is None):
        parser.error("give either a text or --input")
    if (options.input is None) != (options.output is None):
        parser.error("--input and --output go together")
    if "" in (options.input, options.output):  # as of a variable that is not set; pathlib takes it for this folder
        parser.error("--input and --output must not be empty")
    of_a_text = {"--image": options.image, "--explain": options.explain, "--json": options.json or None}
    if options.input is not None and (given := _given(of_a_text)):
        parser.error(f"{given} goes with a text; with --input, each post names its own photo and is answered as JSON")
    of_folders = {
        "--images": options.images,
        "--shard": options.shard,
        "--ray": options.ray,
        "--actors": options.actors,
    }
    if (options.input is None or not _names_a_folder(options)) and (given := _given(of_folders)):
        parser.error(f"{given} goes with whole folders: --output FOLDER/")
    if options.actors is not None and options.ray is None:
        parser.error("--actors goes with --ray")
    return options


def _given(options: Mapping[str, object]) -> str | None:
    return next((name for name, value in options.items() if value is not None), None)


def _names_a_folder(options: argparse.Namespace) -> bool:
    return names_a_folder(options.input, options.output)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of 1 or more")
    return int(text)


def _recognize_text(options: argparse.Namespace) -> int:
    if sys.stdout is None:
        raise OSError("standard output is closed")
    if options.explain is not None:
        _check_explainable(options)
    recognizer = _load(options)
    post = recognizer.prepare(options.text, options.image)
    if options.explain is not None:
        entities = _explain(recognizer, post, options)
    else:
        (entities,) = recognizer.run([post])
    _print(post, entities, as_json=options.json or not sys.stdout.isatty())
    return 0


def _check_explainable(options: argparse.Namespace) -> None:
    """Before the slow loading."""
    if options.image is None:
        raise ValueError("--explain draws on the post's photo: name it with --image")
    check_figure_path(options.explain)
    if options.explain.exists() and options.image.exists() and options.explain.samefile(options.image):
        raise FileExistsError(f"{options.explain}: is the photo itself; choose another name for the picture")


def _explain(recognizer: Recognizer, post: Post, options: argparse.Namespace) -> list[Entity]:
    if not recognizer.model.config.use_cma:
        raise ValueError(f"--explain: {recognizer.name} was trained without cross-modal attention and looks nowhere")
    (entities,) = recognizer.run([post], explain=True)
    photo = read_thumbnail(options.image, side=PANEL)
    save_figure(draw_attention(post.source, entities, photo), options.explain)
    return [replace(entity, attention=None, scores=None) for entity in entities]


def _print(post: Post, entities: Sequence[Entity], *, as_json: bool) -> None:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for terminals that are not UTF-8
    if as_json:
        print(escape_json(json.dumps(answer(post, entities), ensure_ascii=False, indent=2)), flush=True)
    else:
        show(post.source, entities, has_image=post.has_image)


def _recognize_posts(options: argparse.Namespace) -> int:
    return _recognize_folder(options) if _names_a_folder(options) else _recognize_file(options)


def _recognize_folder(options: argparse.Namespace) -> int:
    try:
        from model.bulk.command import recognize_folder
    except ImportError as error:
        raise ValueError(f"whole folders need the extra smner[bulk]: {error}") from error
    outcome = recognize_folder(options, _report)
    _report(str(outcome))
    return 2 if outcome.errors else 1 if outcome.counts.failed else 0


def _recognize_file(options: argparse.Namespace) -> int:
    check_source(options.input)
    tally = recognize_file(_load(options), options.input, options.output)
    _report(str(tally))
    return 1 if tally.failed else 0


def _load(options: argparse.Namespace) -> Recognizer:
    return Recognizer.from_pretrained(options.checkpoint, device=options.device, precision=options.precision)


def _discard_output() -> None:
    """Keep Python from writing what is left when it exits, into the same broken pipe."""
    if isinstance(sys.stdout, TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(message: str) -> None:
    print(f"smner-recognize: {harmless(' '.join(message.split()))}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
