from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.benchmarks.quality.command import KEPT
from tests.benchmarks.quality.results import Result, ResultFile


def make(system: str, seed: int = 0, **others: Any) -> Result:
    own: Any = {"comparison": "systems", "system": system, "seed": seed, "recipe": {}, "changes": {}, "data": {}}
    own |= others
    return own  # type: ignore[no-any-return]


def test_results_are_sorted_lines_one_a_cell(tmp_path: Path) -> None:
    file = ResultFile(tmp_path / "new" / "results.jsonl")
    assert file.read() == {}
    file.add(make("b"), make("a", 1), make("a", 0, seconds=1.0))
    file.add(make("a", 0, seconds=2.0, title="“é”"))
    assert [line.partition(', "recipe"')[0] for line in file.path.read_text("utf-8").splitlines()] == [
        f'{{"comparison": "systems", "system": "{system}", "seed": {seed}' for system, seed in ("a0", "a1", "b0")
    ]
    assert "“é”" in file.path.read_text("utf-8")
    assert [result.get("seconds") for result in file.read().values()] == [2.0, None, None]


def test_processes_do_not_lose_each_others_results(
    tmp_path: Path, start: Callable[[Callable[[], object]], BaseProcess]
) -> None:
    path = tmp_path / "results.jsonl"

    def add(system: str) -> None:
        for seed in range(25):
            ResultFile(path).add(make(system, seed))

    children = [start(lambda system=system: add(system)) for system in "abcd"]  # type: ignore[misc]
    for child in children:
        child.join(60)
    assert len(ResultFile(path).read()) == 100
    assert [own.name for own in tmp_path.iterdir()] == ["results.jsonl"]


def test_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    file = ResultFile(tmp_path / "results.jsonl")
    file.add(make("a"))
    before = file.path.read_text("utf-8")

    with patch("os.replace", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        file.add(make("b"))
    assert file.path.read_text("utf-8") == before
    file.add(make("b"))  # the lock was released
    assert len(file.read()) == 2


def test_kept_file_is_as_this_code_writes_it(tmp_path: Path) -> None:
    """Otherwise keeping the next result would change other lines too."""
    copy = ResultFile(tmp_path / "results.jsonl")
    copy.add(*KEPT.read().values())
    assert copy.path.read_bytes() == KEPT.path.read_bytes()
