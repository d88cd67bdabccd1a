"""``smner-evaluate``: measures a checkpoint on a split and reports as a table, as JSON and as a page of mistakes."""

import argparse
import json
from pathlib import Path
from typing import get_args

from training.cli.arguments import add_evaluation_arguments, recognizer_and_source
from training.cli.command import command
from training.data.posts import Casing
from training.figures.mistakes_page import mistakes_page
from training.scoring.report import report_on, run_on_split, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_evaluation_arguments(parser)
    parser.add_argument(
        "--casing", choices=get_args(Casing), help="read the posts in small letters or in capitals, not as written"
    )
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="where to write the report")
    parser.add_argument(
        "--errors", type=Path, metavar="FILE.html", help="where to write the mistakes, to be read in a browser"
    )


@command("smner-evaluate", "Measure a checkpoint on a split.", add_arguments)
def main(options: argparse.Namespace) -> None:
    """Measure, print the table and write the files."""
    for file in (options.report, options.errors):  # before minutes of measuring
        if file is not None and not file.parent.is_dir():
            raise NotADirectoryError(f"{file}: there is no such folder")
    recognizer, source = recognizer_and_source(options)
    outcome = run_on_split(recognizer, source, options.split, casing=options.casing)
    report = report_on(outcome, recognizer, source, options.split)
    print(table(report))
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    if options.errors is not None:
        title = f"Mistakes of {recognizer.name} on {source.name} {options.split}"
        options.errors.write_text(mistakes_page(title, outcome.posts, outcome.predicted), "utf-8")
