"""What a user would pick instead: texts through GLiNER's network, ``python -m tests.benchmarks.serving.gliner PYTHON``.

Compares posts per second and the time of a lone post with ``recognize_batch`` and ``recognize``, in turns, on the same
texts, with the same threads and batches at once. GLiNER needs a transformers older than ours, so PYTHON is an
interpreter of its own; tests/benchmarks/README.md says how to make it. It runs ``peers/gliner_texts.py``, which says
what stands for the real weights and vocabulary.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from model.checkpoint import checkpoint_folder
from model.device import choose_device
from service.app import concurrent_batches
from service.settings import Settings
from tests.benchmarks.serving.direct import Direct
from tests.benchmarks.serving.posts import Post, load_posts
from tests.benchmarks.serving.report import Report

_PROGRAM = Path(__file__).parent / "peers" / "gliner_texts.py"
_LIMIT_SECONDS = 1800.0
_SHOWN_CHARACTERS = 4000  # of what it said before it failed
_FINDS_GLINER = "import importlib.util, sys; sys.exit(importlib.util.find_spec('gliner') is None)"
_OURS, _GLINER = "recognize_batch, texts", "GLiNER, texts"
_BATCH_SIZES = (4, 8, 16, 32)
_LONE_POSTS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Gliner:
    """GLiNER in a Python of its own.

    Attributes:
        python: its interpreter, if there is one.
        tokenizer: folder of a checkpoint whose tokenizer it uses.
        threads: of torch's operations.
    """

    python: Path | None
    tokenizer: Path
    device: torch.device
    threads: int

    def missing(self) -> str | None:
        """What it lacks to run."""
        if self.python is None:
            return "no --gliner PYTHON"
        try:
            found = subprocess.run([self.python, "-I", "-c", _FINDS_GLINER], check=False).returncode == 0
        except OSError as error:
            return f"{self.python}: {error.strerror}"
        return None if found else f"{self.python} has no package gliner"

    def measure(self, texts: Sequence[str], seconds: float) -> dict[str, Any]:
        """Run it once, and return what it prints."""
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        ended = subprocess.run(
            self._command(seconds), input=lines, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
        )
        if ended.returncode:
            raise RuntimeError(f"{_PROGRAM.name} exited with {ended.returncode}: {ended.stderr[-_SHOWN_CHARACTERS:]}")
        answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return answer

    def _command(self, seconds: float) -> list[str]:
        batches = concurrent_batches(self.threads, on_cpu=self.device.type == "cpu")
        flags = {"tokenizer": self.tokenizer, "device": self.device, "threads": self.threads, "batches": batches}
        flags |= {"seconds": seconds, "lone": _LONE_POSTS}
        given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        # -I: it sees neither this project nor the packages that PYTHONPATH names
        return [str(self.python), "-I", str(_PROGRAM), *given, "--batch-sizes", *map(str, _BATCH_SIZES)]


def compare_gliner(
    report: Report, direct: Direct, gliner: Gliner, posts: Sequence[Post], *, seconds: float, rounds: int
) -> None:
    """Measure both in turns; adds rows, and the ratios as figures."""
    if lacking := gliner.missing():
        report.notes.append(f"GLiNER: left out, {lacking}; tests/benchmarks/README.md says how to install it")
        return
    lone, theirs, texts = [], [], [post.text for post in posts]
    for _ in range(rounds):
        for size in _BATCH_SIZES:
            _row(report, _OURS, size).append(direct.rate(size, seconds, images=False))
        lone += direct.lone([number % len(posts) for number in range(_LONE_POSTS)], images=False)
        answer = gliner.measure(texts, seconds)
        for size in _BATCH_SIZES:
            _row(report, _GLINER, size).append(answer["posts_per_second"][str(size)])
        theirs += answer["lone_seconds"]
    best, gliners_best = (max(median(_row(report, name, size)) for size in _BATCH_SIZES) for name in (_OURS, _GLINER))
    report.figure("recognize_batch of texts ÷ GLiNER's posts/s", best / gliners_best)
    report.figure("GLiNER, ms of a lone text (median)", 1000 * median(theirs))
    report.figure("recognize of a text ÷ GLiNER's time", median(lone) / median(theirs))
    versions = ", ".join(f"{name} {number}" for name, number in answer["versions"].items())
    report.notes.append(f"GLiNER: {answer['parameters'] / 1e6:.0f} million random weights, {versions}")


def _row(report: Report, name: str, size: int) -> list[float]:
    return report.row(name, f"batches of {size}").rates


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.serving.gliner", description=__doc__)
    parser.add_argument("python", type=Path, help="interpreter that has gliner")
    parser.add_argument("--posts", type=int, default=200, help="distinct posts (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each row is measured (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="how often (%(default)s)")
    options = parser.parse_args()
    checkpoint, device, threads = checkpoint_folder().resolve(), choose_device("auto"), Settings().model_threads
    gliner = Gliner(python=options.python, tokenizer=checkpoint, device=device, threads=threads)
    posts, report = load_posts(options.posts).posts, Report({})
    with Direct(checkpoint, str(device), threads=threads, posts=posts) as direct:
        compare_gliner(report, direct, gliner, posts, seconds=options.seconds, rounds=options.rounds)
    print(report.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
