"""The comparison with GLiNER, as far as it goes without GLiNER."""

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks.serving.direct import Direct
from tests.benchmarks.serving.gliner import Gliner, compare_gliner
from tests.benchmarks.serving.peers import gliner_texts
from tests.benchmarks.serving.report import Report


def gliner(python: Path | None) -> Gliner:
    return Gliner(python=python, tokenizer=Path("tokenizer"), device=torch.device("cpu"), threads=2)


def interpreter(folder: Path, script: str) -> Path:
    """A program that takes the place of Python."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    file.chmod(0o755)
    return file


class Listener:
    """A model that only keeps what it is asked."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def inference(self, texts: Sequence[str], *_: Any, **__: Any) -> None:
        self.batches.append(list(texts))


def test_interpreter_without_gliner_is_said(tmp_path: Path) -> None:
    assert gliner(None).missing() == "no --gliner PYTHON"
    assert gliner(Path(sys.executable)).missing() == f"{sys.executable} has no package gliner"
    assert gliner(tmp_path / "none").missing() == f"{tmp_path / 'none'}: No such file or directory"


def test_comparison_without_gliner_leaves_a_note() -> None:
    report = Report({})
    with Direct(Path("checkpoint"), "cpu", threads=1, posts=[]) as direct:  # loads nothing before it is asked
        compare_gliner(report, direct, gliner(None), [], seconds=1.0, rounds=1)
    assert report.notes == ["GLiNER: left out, no --gliner PYTHON; tests/benchmarks/README.md says how to install it"]
    assert not report.rows


def test_interpreter_with_gliner_lacks_nothing(tmp_path: Path) -> None:
    assert gliner(interpreter(tmp_path, "exit 0")).missing() is None


def test_texts_go_in_and_figures_come_out(tmp_path: Path) -> None:
    script = (
        f"""cat > {tmp_path}/texts; echo "$@" > {tmp_path}/arguments; echo noise; echo '{{"lone_seconds": [0.5]}}'"""
    )
    assert gliner(interpreter(tmp_path, script)).measure(["Kawhi", "Łódź\n2"], 1.5) == {"lone_seconds": [0.5]}
    with (tmp_path / "texts").open(encoding="utf-8") as lines:
        assert gliner_texts.read_texts(lines) == ["Kawhi", "Łódź\n2"]
    arguments = (tmp_path / "arguments").read_text("utf-8").split()
    isolated, program, *flags = arguments
    assert (isolated, Path(program).name) == ("-I", "gliner_texts.py")
    read = gliner_texts.parser().parse_args(flags)
    assert (read.threads, read.batches, read.seconds, read.batch_sizes) == (2, 2, 1.5, [4, 8, 16, 32])


def test_failure_shows_what_was_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"gliner_texts.py exited with 3: no such network"):
        gliner(interpreter(tmp_path, "echo no such network >&2; exit 3")).measure([], 1.0)


def test_texts_start_over_after_the_last() -> None:
    assert list(islice(gliner_texts.turned(["a", "b", "c"], 2), 5)) == ["c", "a", "b", "c", "a"]


def test_each_thread_starts_with_other_texts() -> None:
    model = Listener()
    threads = torch.get_num_threads()
    assert gliner_texts.rate(model, list("abcde"), 2, 0.0, threads=threads, batches=2) > 0
    # a batch to warm up and one to measure, from the first text on and from the fourth
    assert sorted(model.batches) == [["a", "b"], ["a", "b"], ["c", "d"], ["d", "e"]]
