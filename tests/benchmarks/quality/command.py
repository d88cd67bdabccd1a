"""How good SMNER is, against its peers and its own ablations (the paper's table 4), all trained in the same way; or
what each idea to make it better is worth.

Every system with every seed is a cell. A cell's result is kept, so the command can be killed and goes on with the cell
that it was at; the table is written anew after each.
"""

import argparse
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

from tests.benchmarks.quality import ideas, systems
from tests.benchmarks.quality.cells import Cell, Result
from tests.benchmarks.quality.data import prepare, write_whole
from tests.benchmarks.quality.systems import System
from tests.benchmarks.quality.table import document
from tests.benchmarks.serving.posts import SHARED
from training.cli.train import add_data_arguments, data_sources
from training.data.sources import DataSource
from training.recipes.recipe import Recipe, parse_override

_SYSTEMS_HEAD = """\
# SMNER and its peers

All systems have the same text encoder and tokenizer, posts, order, epochs, learning rates and choice of the epoch (mean
F1 on the valid splits); what differs stands in `tests/benchmarks/quality/systems.py`."""

_IDEAS_HEAD = """\
# What each idea is worth

A text-only span classifier on the posts that people have tagged, each idea alone against the same seed without it; they
stand in `tests/benchmarks/quality/ideas.py`. The first rows take away what the recipe has, the others add what it has
not."""

_DEFAULT_DATA = ("twitter2015", "twitter2017", "posts/posts.jsonl")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared with what, with which settings unless others are given, and where the table goes."""

    systems: dict[str, System]
    baseline: str
    settings: list[str]
    results: Path
    head: str


COMPARISONS = {
    "systems": Comparison(systems.SYSTEMS, systems.BASELINE, [], Path("docs/lab/results.md"), _SYSTEMS_HEAD),
    "ideas": Comparison(
        ideas.IDEAS, ideas.BASELINE, ["epochs=2", "consistency_weight=0"], Path("docs/lab/ideas.md"), _IDEAS_HEAD
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is not there yet, write the table."""
    given = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    options = parser.parse_args(given)
    comparison = COMPARISONS[options.compare]
    if unknown := set(options.systems or ()) - set(comparison.systems):
        parser.error(f"--systems: no {', '.join(sorted(unknown))} among {', '.join(comparison.systems)}")
    if options.jobs < 1:
        parser.error(f"--jobs: at least 1, not {options.jobs}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    settings = [*comparison.settings, *options.set]
    cells = _cells(options)
    chosen = [cell for cell in cells if not options.systems or cell.name in options.systems]
    results = options.results or comparison.results

    def write() -> None:
        text = document(
            cells,
            head=comparison.head,
            baseline=comparison.baseline,
            command=_command(given),
            recipe=f"`{' '.join([options.recipe, *settings])}`",
        )
        write_whole(results, text)

    write()
    waiting = [cell for cell in chosen if cell.result() is None]
    print(f"{len(chosen) - len(waiting)} of {len(chosen)} cells are there", flush=True)
    began = time.perf_counter()
    for trained, result in enumerate(_trained(waiting, given, options.jobs), 1):
        title = comparison.systems[result["system"]].title
        scores = "  ".join(f"{part}: F1 {100 * own['f1']:.2f}" for part, own in result["scores"].items())
        minutes = (time.perf_counter() - began) / 60 / trained * (len(waiting) - trained)
        left = f"; about {minutes:.0f} minutes to go" if trained >= options.jobs else ""
        print(f"[{trained}/{len(waiting)}] {title}, seed {result['seed']}: {scores}{left}", flush=True)
        write()
    print(f"written to {results}")
    return 0


def _cells(options: argparse.Namespace) -> list[Cell]:
    """All cells of the comparison that was asked for; what they have in common is made first, where it is not there."""
    comparison = COMPARISONS[options.compare]
    recipe = Recipe.load(options.recipe, dict(map(parse_override, [*comparison.settings, *options.set])))
    sources = data_sources(options) or [DataSource(SHARED / name) for name in _DEFAULT_DATA]
    data = prepare(recipe, sources, options.work)
    return Cell.all(comparison.systems, options.seeds, recipe, data, options.cells)


def _trained(cells: list[Cell], given: list[str], jobs: int) -> Iterator[Result]:
    """Train cells in as many processes as ``jobs``, or in this one; results as they come.

    Raises:
        RuntimeError: a cell failed, it says which; the others are ended.
    """
    if jobs == 1:
        yield from map(_run, cells)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_read_again, initargs=(given,)) as processes:
        running = {processes.submit(_run_file, cell.file): cell for cell in cells}
        try:
            for done in as_completed(running):
                yield _result(done, running[done])
        except BaseException:  # Ctrl-C too: without this the queue would be worked off first
            processes.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.terminate()
            raise


def _result(done: Future[Result], cell: Cell) -> Result:
    try:
        return done.result()
    except Exception as error:
        raise RuntimeError(f"{cell.title}: {type(error).__name__}: {error}") from error


def _run(cell: Cell) -> Result:
    print(f"{cell.title} …", flush=True)
    return cell.run()


_CELLS: dict[Path, Cell] = {}  # of a process of the pool: cells hold functions, which cannot be sent to it


def _read_again(given: list[str]) -> None:
    """Begin a process of the pool, which ends with the command however that ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _CELLS.update((cell.file, cell) for cell in _cells(_parser().parse_args(given)))


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _run_file(file: Path) -> Result:
    return _run(_CELLS[file])


def _command(given: list[str]) -> str:
    return "make quality" + (f" OPTIONS={shlex.quote(shlex.join(given))}" if given else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.quality", description=__doc__)
    add = parser.add_argument
    add("--compare", choices=COMPARISONS, default="systems", help="what (%(default)s)")
    add("--recipe", default="compact", help="a recipe's name or a .toml file (%(default)s)")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change the recipe, as epochs=2")
    add_data_arguments(parser, required=False)
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of each system %(default)s")
    names = ", ".join(name for comparison in COMPARISONS.values() for name in comparison.systems)
    add("--systems", nargs="+", metavar="NAME", help=f"those of {names} that are trained, all if not given")
    add(
        "--jobs",
        type=int,
        default=1,
        help="cells that are trained at once, for GPUs that one does not fill (%(default)s)",
    )
    add("--work", type=Path, default=Path("runs/quality"), help="for the teacher and the photos (%(default)s)")
    add("--cells", type=Path, default=Path("training/results"), help="where results are kept (%(default)s)")
    add("--results", type=Path, help="where the table goes (docs/lab/results.md, docs/lab/ideas.md)")
    return parser
