"""Measures how good SMNER is against its peers and its own ablations (the paper's table 4), all trained alike; or what
each idea in its recipe is worth.

Every system with every seed is a cell, trained once: a command that was interrupted resumes with the cell it was at.
Results and tables go to --work; --keep also adds the results to the repository's and rewrites the tables in docs/lab.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.quality.cells import Cell, Setting
from tests.benchmarks.quality.comparisons import COMPARISONS
from tests.benchmarks.quality.data import prepare
from tests.benchmarks.quality.files import locked, replace_file
from tests.benchmarks.quality.jobs import train
from tests.benchmarks.quality.results import Result, ResultFile
from tests.benchmarks.quality.table import document
from tests.benchmarks.serving.posts import SHARED
from training.cli.arguments import add_data_arguments, data_sources
from training.data.sources import DataSource
from training.recipes.recipe import Recipe, parse_override

KEPT = ResultFile(Path(__file__).with_name("results.jsonl"))
DOCUMENTS = Path(__file__).parents[3] / "docs" / "lab"

_DEFAULT_DATA = ("twitter2015", "twitter2017", "posts/posts.jsonl")


def main(argv: Sequence[str] | None = None) -> int:
    """Train the cells that have no result yet, and write the tables."""
    parser = _parser()
    options = parser.parse_args(argv)
    comparison = COMPARISONS[options.compare]
    if unknown := set(options.systems or ()) - set(comparison.systems):
        parser.error(f"--systems: no {', '.join(sorted(unknown))} among {', '.join(comparison.systems)}")
    if options.jobs < 1:
        parser.error(f"--jobs: at least 1, not {options.jobs}")
    if options.tables:
        _write_documents()
        return 0
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    setting = _setting(options)
    cells = Cell.all(comparison.systems, options.seeds, setting)
    chosen = [cell for cell in cells if not options.systems or cell.name in options.systems]
    tables = options.work / comparison.document

    def write() -> dict[str, Result]:
        found = KEPT.read() | setting.results.read()
        known = {cell.key: found[cell.key] for cell in cells if cell.key in found}
        missing = [cell.title for cell in cells if cell.key not in known]
        with locked(tables.parent):
            replace_file(tables, document(comparison, list(known.values()), missing=missing))
        if options.keep:
            KEPT.add(*(known[cell.key] for cell in chosen if cell.key in known))
            _write_documents()
        return known

    known = write()
    waiting = [cell for cell in chosen if cell.key not in known]
    print(f"{len(chosen) - len(waiting)} of {len(chosen)} cells are there", flush=True)
    began = time.perf_counter()
    for trained, result in enumerate(train(waiting, options.jobs), 1):
        scores = "  ".join(f"{part}: F1 {100 * own['f1']:.2f}" for part, own in result["scores"].items())
        minutes = (time.perf_counter() - began) / 60 / trained * (len(waiting) - trained)
        left = f"; about {minutes:.0f} minutes to go" if trained >= options.jobs else ""
        print(f"[{trained}/{len(waiting)}] {result['title']}, seed {result['seed']}: {scores}{left}", flush=True)
        write()
    print(f"written to {DOCUMENTS if options.keep else tables}")
    return 0


def _setting(options: argparse.Namespace) -> Setting:
    given = [*COMPARISONS[options.compare].settings, *options.set]
    overrides = {setting.partition("=")[0]: setting for setting in given}.values()  # the last of each key
    recipe = Recipe.load(options.recipe, dict(map(parse_override, overrides)))
    sources = data_sources(options) or [DataSource(SHARED / name) for name in _DEFAULT_DATA]
    settings = " ".join([options.recipe, *(["--set", *overrides] if overrides else [])])
    return Setting(options.compare, settings, recipe, prepare(recipe, sources, options.work), options.work)


def _write_documents() -> None:
    """The tables of everything that is kept."""
    with locked(DOCUMENTS):
        kept = KEPT.read().values()
        for name, comparison in COMPARISONS.items():
            own = [result for result in kept if result["comparison"] == name]
            replace_file(DOCUMENTS / comparison.document, document(comparison, own))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.quality", description=__doc__)
    add = parser.add_argument
    add("--compare", choices=COMPARISONS, default="systems", help="what to compare (%(default)s)")
    add("--recipe", default="compact", help="a recipe's name or a .toml file (%(default)s)")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change the recipe, e.g. epochs=2")
    add_data_arguments(parser, required=False)
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of each system %(default)s")
    names = "; ".join(", ".join(comparison.systems) for comparison in COMPARISONS.values())
    add("--systems", nargs="+", metavar="NAME", help=f"train only these (of {names})")
    add("--jobs", type=int, default=1, help="cells trained at once, for a GPU that one does not fill (%(default)s)")
    add("--work", type=Path, default=Path("runs/quality"), help="results, tables, teacher and features (%(default)s)")
    add("--keep", action="store_true", help="keep the results in the repository and rewrite docs/lab")
    add("--tables", action="store_true", help="only rewrite docs/lab from the results that are kept")
    return parser
