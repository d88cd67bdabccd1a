"""``smner-train``: a recipe and data in, a checkpoint out."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tqdm import tqdm

from model.errors import SMNERError
from training.data.sources import DataSource
from training.learning.distributed import join_processes
from training.learning.run import train
from training.recipes.recipe import Recipe, parse_override


class _ImagesOfLastData(argparse.Action):
    """``--images`` and ``--image-features`` belong to the ``--data`` before them."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if not namespace.data:
            parser.error(f"{option} belongs behind the --data whose photos it names")
        if self.dest in namespace.data[-1]:
            parser.error(f"{option} is there twice for {namespace.data[-1]['path']}")
        namespace.data[-1][self.dest] = values


def add_data_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """``--data``, each with its own photos; see :func:`data_sources`."""
    parser.add_argument(
        "--data", type=lambda path: {"path": Path(path)}, action="append", required=required, metavar="DIR",
        help="folder with train and valid splits, or one .txt or .jsonl file to train on; may be repeated",
    )  # fmt: skip
    parser.add_argument("--images", type=Path, action=_ImagesOfLastData, help="photos of the last --data")
    parser.add_argument(
        "--image-features", type=Path, action=_ImagesOfLastData, help="ready image features of the last --data"
    )


def data_sources(options: argparse.Namespace) -> list[DataSource]:
    """What was given with ``--data``."""
    return [DataSource(**source) for source in options.data or ()]


def arguments() -> argparse.ArgumentParser:
    """The command line of ``smner-train``."""
    parser = argparse.ArgumentParser("smner-train", description="Train SMNER by a recipe.")
    parser.add_argument(
        "recipe",
        help="a recipe's name (paper-twitter2015, paper-twitter2017, smner-best, large, compact) or a .toml file",
    )
    add_data_arguments(parser, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder for the run and its checkpoint")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in --output")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; a mistake of the caller is one line on standard error and exit status 2."""
    options = arguments().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an orchestrator's Ctrl-C
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    say = join_processes().print
    try:
        recipe = Recipe.load(options.recipe, dict(map(parse_override, options.set)))
        sources = data_sources(options)
        result = train(recipe, sources, options.output, resume=options.resume)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        _complain(f"recipe {options.recipe}: {faults}")
        return 2
    except (SMNERError, ValueError, OSError, ImportError) as error:
        _complain(" ".join(str(error).split()))
        return 2
    except KeyboardInterrupt:
        _complain("interrupted; the same command with --resume goes on")
        return 130
    for name, f1 in result.f1.items():
        say(f"F1 on {name} valid: {f1:.4f}")
    say(f"checkpoint: {result.checkpoint}")
    join_processes().destroy_process_group()
    return 0


def _complain(message: str) -> None:
    tqdm.write(f"smner-train: {message}", file=sys.stderr)  # a progress bar may stand in that line


if __name__ == "__main__":
    sys.exit(main())
