"""Times both ways in turns, and reports their ratios."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from model.preprocessing.processor import Batch
from tests.benchmarks.serving.report import Figure, machine, table
from tests.benchmarks.training.ways import Way
from training.features.cache import cache_images
from training.features.image_encoder import FrozenImageEncoder
from training.learning.trainer import SMNERTrainer

OURS, AUTHORS = "this package", "the authors' way"
FORWARD, STEP, CACHE = "forward pass on ready features", "training step", "cache build"
EPOCHS = 10  # that share the cost of building the cache


@dataclass(slots=True)
class Cost:
    """Wall-clock and processor seconds of each round, for ``posts`` posts."""

    posts: int
    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def measure(self, work: Callable[[], Any]) -> None:
        """Time a round."""
        clock, processor = time.perf_counter(), time.process_time()
        work()
        self.clock.append(time.perf_counter() - clock)
        self.processor.append(time.process_time() - processor)

    def cells(self) -> list[str]:
        """Its cells in the table; the spread is (slowest round − fastest round) ÷ median."""
        spread = (max(self.clock) - min(self.clock)) / median(self.clock)
        each = [f"{1000 * median(seconds) / self.posts:.0f}" for seconds in (self.clock, self.processor)]
        return [*each, f"{spread:.0%}"]


def train_steps(trainer: SMNERTrainer, way: Way, sample: Sequence[Sequence[int]]) -> None:
    """Read batches and take the trainer's step on each."""
    for indices in sample:
        _train_step(trainer, way.batch(indices))


def _train_step(trainer: SMNERTrainer, batch: Batch) -> None:
    trainer.accelerator.backward(trainer.compute_loss(trainer.model.train(), batch))
    trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
    optimizer = trainer.create_optimizer()
    optimizer.step()
    optimizer.zero_grad()


@torch.inference_mode()
def forward(trainer: SMNERTrainer, batches: list[Batch]) -> list[torch.Tensor]:
    """Logits of the real spans."""
    trainer.model.eval()
    outputs = [trainer.network(**{key: value for key, value in batch.items() if key != "labels"}) for batch in batches]
    return [output.logits[output.spans.mask] for output in outputs]


def build_cache(images: list[Path], file: Path, encoder: FrozenImageEncoder) -> None:
    """Encode images into a new file."""
    file.unlink(missing_ok=True)
    cache_images(images, file, encoder)


@dataclass(slots=True)
class TrainingReport:
    """What a run measured; ``costs`` by measure and way, ``posts`` per epoch."""

    settings: dict[str, Any]
    posts: int
    costs: dict[tuple[str, str], Cost] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    difference: float = 0.0

    def ratios(self, kind: str, *, clock: bool = True) -> list[float]:
        """The authors' way ÷ this package, for each round."""
        ours, authors = (self._seconds(kind, way, clock=clock) for way in (OURS, AUTHORS))
        return [slow / fast for slow, fast in zip(authors, ours, strict=True)]

    def epoch_ratios(self, *, clock: bool = True) -> list[float]:
        """The same for a training epoch; this package's includes a tenth of building the cache."""
        ours, authors = (self._seconds(STEP, way, clock=clock) for way in (OURS, AUTHORS))
        cache = self._seconds(CACHE, OURS, clock=clock)
        return [slow / (fast + built / EPOCHS) for slow, fast, built in zip(authors, ours, cache, strict=True)]

    def _seconds(self, kind: str, way: str, *, clock: bool) -> list[float]:
        """Per post, in each round."""
        cost = self.costs[kind, way]
        return [seconds / cost.posts for seconds in (cost.clock if clock else cost.processor)]

    def figures(self) -> list[Figure]:
        """The two targets, and what they are made of."""
        names = (f"{FORWARD}, ×", f"training epoch, cache build over {EPOCHS} epochs, ×")
        figures = []
        for name, target, ratios in zip(names, (4.0, 5.0), (self._forward, self.epoch_ratios), strict=True):
            figures.append(Figure(name, median(ratios()), at_least=target))
            figures.append(Figure("  … lowest round", min(ratios())))
            figures.append(Figure("  … highest round", max(ratios())))
            figures.append(Figure("  … by processor seconds", median(ratios(clock=False))))
        figures.append(Figure("training step alone, ×", median(self.ratios(STEP))))
        return [*figures, Figure("largest difference between their logits", self.difference, at_most=1e-3)]

    def _forward(self, *, clock: bool = True) -> list[float]:
        return self.ratios(FORWARD, clock=clock)

    def text(self) -> str:
        """The tables; epochs are extrapolated from the measured steps."""
        rows = [["", "", "ms per post", "processor ms", "spread", "epoch s"]]
        for (kind, way), cost in self.costs.items():
            epoch = f"{median(cost.clock) / cost.posts * self.posts:.0f}" if kind != FORWARD else ""
            rows.append([kind, way, *cost.cells(), epoch])
        figures = [["figure", "value", "target", ""], *(figure.cells() for figure in self.figures())]
        return "\n".join(["", table(rows), "", table(figures), "", *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "machine": machine(),
            "settings": self.settings,
            "posts_an_epoch": self.posts,
            "rows": [
                {"what": kind, "way": way, "posts": cost.posts, "seconds": cost.clock, "processor": cost.processor}
                for (kind, way), cost in self.costs.items()
            ],
            "figures": [figure._asdict() for figure in self.figures()],
            "notes": self.notes,
        }
