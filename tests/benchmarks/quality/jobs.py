"""Trains cells, one after another or several at once."""

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context, parent_process

from tests.benchmarks.quality.cells import Cell
from tests.benchmarks.quality.results import Result


def train(cells: Sequence[Cell], jobs: int) -> Iterator[Result]:
    """Train the cells in ``jobs`` processes, or in this one if that is 1; yields results as they come.

    Raises:
        RuntimeError: a cell failed; the message names it, and the others are stopped.
    """
    if jobs == 1:
        yield from map(_run, cells)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_watch_parent) as processes:
        running = {processes.submit(_run, cell): cell for cell in cells}
        try:
            for done in as_completed(running):
                yield _result(done, running[done])
        except BaseException:  # Ctrl-C too: otherwise the pool would work off its queue first
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


def _watch_parent() -> None:
    """End this process when its parent ends, even if that is killed."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
