"""The table of results: a file of JSON lines, one trained cell each."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

from tests.benchmarks.quality.files import fingerprint, locked, replace_file


class Result(TypedDict):
    """A system trained with one seed, and what it scored.

    Attributes:
        comparison, system, seed, title: which cell of which table it is, and the title of its row.
        settings: the recipe's name and overrides, as the command takes them.
        scores: by valid split: precision, recall, F1 and support, ``by_type`` and for ``seen`` and ``unseen`` mentions.
        f1_by_epoch: mean F1 over the valid splits.
        parameters: of the network.
        seconds: of training and evaluation.
        recipe: all keys but the seed, before the system's own ``changes``.
        data: checksums and counts of the sources, and the teacher's recipe.
        code, machine: commit, hardware and versions.
    """

    comparison: str
    system: str
    seed: int
    title: str
    settings: str
    scores: dict[str, dict[str, Any]]
    f1_by_epoch: list[float]
    parameters: int
    seconds: float
    recipe: dict[str, Any]
    changes: dict[str, Any]
    data: dict[str, Any]
    code: str | None
    machine: dict[str, Any]


def cell_key(
    comparison: str, system: str, seed: int, recipe: dict[str, Any], changes: dict[str, Any], data: dict[str, Any]
) -> str:
    """What identifies a cell; code and machine do not, so a kept cell is not trained again when they change."""
    return fingerprint([comparison, system, seed, recipe, changes, data])


class ResultFile:
    """Results in a file, one a line, sorted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Result]:
        """The results by :func:`cell_key`; none without a file."""
        lines = self.path.read_text("utf-8").splitlines() if self.path.is_file() else []
        return _by_key(json.loads(line) for line in lines)

    def add(self, *results: Result) -> None:
        """Add results, or replace those of the same cells."""
        with locked(self.path.parent):
            every = self.read() | _by_key(results)
            lines = sorted(json.dumps(result, ensure_ascii=False) + "\n" for result in every.values())
            replace_file(self.path, "".join(lines))


def _by_key(results: Iterable[Result]) -> dict[str, Result]:
    return {
        cell_key(own["comparison"], own["system"], own["seed"], own["recipe"], own["changes"], own["data"]): own
        for own in results
    }
