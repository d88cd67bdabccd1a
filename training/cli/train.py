"""``smner-train``: trains by a recipe and writes a checkpoint."""

import argparse
import os
import signal
from pathlib import Path

from pydantic import ValidationError

from training.cli.arguments import add_data_arguments, add_texts_argument, data_sources
from training.cli.command import command
from training.learning.distributed import join_processes
from training.learning.run import train
from training.learning.summary import summary
from training.recipes.recipe import Recipe, parse_override, recipe_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recipe", help=f"a recipe's name ({', '.join(recipe_names())}) or a .toml file")
    add_data_arguments(parser, required=True)
    add_texts_argument(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the run's checkpoint")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--resume", action="store_true", help="continue the interrupted run in --output")


@command("smner-train", "Train SMNER by a recipe.", add_arguments, advice="the same command with --resume continues it")
def main(options: argparse.Namespace) -> None:
    """Train, and print a summary."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an orchestrator's Ctrl-C
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    say = join_processes().print
    try:
        recipe = Recipe.load(options.recipe, dict(map(parse_override, options.set)))
        sources = data_sources(options)
        result = train(recipe, sources, options.output, resume=options.resume)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValueError(f"recipe {options.recipe}: {faults}") from error
    say(summary(result, sources))
    join_processes().destroy_process_group()
