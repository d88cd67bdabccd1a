"""What each precision changes in the answers, and what it saves on a CPU.

    python -m tests.benchmarks.serving.precision --posts DATA/posts/posts.jsonl [--device cuda] [--checkpoint NAME]

Answers 500 posts with photos in batches of 8 in each precision in turn and compares their entities with float32's.
Prints milliseconds a post for the photo and for the rest: processor time of one core, or on CUDA waiting time. Without
a GPU, the precisions of GPUs are emulated on the CPU, whose times then mean nothing: TF32 by rounding the factors of
every product to ten bits of mantissa, float16 by PyTorch's own.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model import Entity, Post, Recognizer
from model.device import Precision, allow_tf32, choose_arithmetic, choose_device

_POSTS = 500
_BATCH = 8
_EMULATED = ("tf32", "float16")


class RoundedFactors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Rounds the factors of matrix products and convolutions as TF32 does; sums stay float32."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm", "convolution") or "scaled_dot_product" in name:
            args = tuple(_to_tf32(arg) if isinstance(arg, Tensor) and arg.is_floating_point() else arg for arg in args)
        return func(*args, **(kwargs or {}))


def _to_tf32(factor: Tensor) -> Tensor:
    bits = factor.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@dataclass
class Outcome:
    """Answers of one precision; ``tf32`` is whether it lets CUDA use TF32."""

    recognizer: Recognizer
    emulation: Callable[[], AbstractContextManager[Any]]
    tf32: bool = False
    milliseconds: list[float] = field(default_factory=lambda: [0.0, 0.0])  # photos, the rest
    answers: list[list[Entity]] = field(default_factory=list)

    def answer(self, posts: Sequence[Post]) -> None:
        """Answer a batch."""
        allow_tf32(allowed=self.tf32)  # in the whole process, for which the recognizer loaded last has decided
        pixels = [post.pixels for post in posts if post.pixels is not None]
        with self.emulation():
            started = self._clock()
            features = self.recognizer.encode_images(pixels)
            encoded = self._clock()
            known = [replace(post, image_features=own) for post, own in zip(posts, features, strict=True)]
            self.answers += self.recognizer.run(known)
        self.milliseconds[0] += 1000 * (encoded - started)
        self.milliseconds[1] += 1000 * (self._clock() - encoded)

    def _clock(self) -> float:
        if self.recognizer.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def read(recognizer: Recognizer, path: Path) -> list[Post]:
    """The first posts with a photo."""
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()[:_POSTS]]
    texts = [record.get("text") or " ".join(record["tokens"]) for record in records]
    return [
        recognizer.prepare(text, path.parent / record["image"]) for text, record in zip(texts, records, strict=True)
    ]


def outcome(precision: Precision, device: torch.device, checkpoint: str | None) -> Outcome | None:
    """A recognizer of that precision, natively or emulated; None where it is neither."""
    load = partial(Recognizer.from_pretrained, checkpoint, device=str(device))
    try:
        arithmetic = choose_arithmetic(precision, device)
    except ValueError:
        if device.type != "cpu" or precision not in _EMULATED:
            return None
        exact = load(precision="float32")
        if precision == "tf32":
            return Outcome(exact, RoundedFactors)
        exact.model = exact.model.with_encoders_in(text=torch.float16, images=torch.float16)
        return Outcome(exact, nullcontext)
    return Outcome(load(precision=precision), nullcontext, tf32=arithmetic.tf32)


def differences(exact: Sequence[list[Entity]], other: Sequence[list[Entity]]) -> tuple[int, float]:
    """How many posts have other entities, and the largest difference of a score in the others."""
    changed, largest = 0, 0.0
    for ours, theirs in zip(exact, other, strict=True):
        if [(e.start, e.end, e.entity_group) for e in ours] != [(e.start, e.end, e.entity_group) for e in theirs]:
            changed += 1
        else:
            largest = max([largest, *(abs(a.score - b.score) for a, b in zip(ours, theirs, strict=True))])
    return changed, largest


def batches(posts: Sequence[Post]) -> Iterator[Sequence[Post]]:
    """Whole ones."""
    for first in range(0, len(posts) - _BATCH + 1, _BATCH):
        yield posts[first : first + _BATCH]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpoint")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = choose_device(options.device)
    precisions: Sequence[Precision] = sorted(get_args(Precision), key="float32".__ne__)  # it comes first
    outcomes = {name: found for name in precisions if (found := outcome(name, device, options.checkpoint))}
    posts = read(outcomes["float32"].recognizer, options.posts)
    for own in outcomes.values():
        own.answer(posts[:_BATCH])  # the first batch of a size plans
        own.answers, own.milliseconds = [], [0.0, 0.0]
    for batch in batches(posts):
        for own in outcomes.values():
            own.answer(batch)
    exact = outcomes["float32"].answers
    print(f"{len(exact)} posts with {sum(map(len, exact))} entities, {device}")
    print("| precision | ms a photo | ms a text | posts changed | scores move by at most |")
    print("| --- | --- | --- | --- | --- |")
    for name, own in outcomes.items():
        emulated = device.type == "cpu" and name in _EMULATED
        times = ["emulated"] * 2 if emulated else [f"{value / len(exact):.2f}" for value in own.milliseconds]
        changed, largest = differences(exact, own.answers)
        print(f"| {name} | {' | '.join(times)} | {changed} | {largest:.4f} |")


if __name__ == "__main__":
    main()
