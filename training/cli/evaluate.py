"""``smner-evaluate``: measures a checkpoint on a split and reports as a table and as JSON."""

import argparse
import json
from pathlib import Path
from typing import get_args

from training.cli.arguments import add_evaluation_arguments, recognizer_and_source
from training.cli.command import command
from training.data.posts import Casing
from training.scoring.report import evaluate, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_evaluation_arguments(parser)
    parser.add_argument(
        "--casing", choices=get_args(Casing), help="read the posts in small letters or in capitals, not as written"
    )
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="where to write the report")


@command("smner-evaluate", "Measure a checkpoint on a split.", add_arguments)
def main(options: argparse.Namespace) -> None:
    """Measure, print the table and write the report."""
    if options.report is not None and not options.report.parent.is_dir():  # before minutes of measuring
        raise NotADirectoryError(f"{options.report}: there is no such folder")
    recognizer, source = recognizer_and_source(options)
    report = evaluate(recognizer, source, options.split, casing=options.casing)
    print(table(report))
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
