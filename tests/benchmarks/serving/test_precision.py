from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from PIL import Image

from model import Recognizer
from model.device import allow_tf32
from tests.benchmarks.serving.precision import Outcome


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Restore what is the whole process's."""
    backends = torch.backends
    before = backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    yield
    backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision = before  # type: ignore[attr-defined]


def test_float32_is_measured_without_tf32(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recognizers share a process, whose last one had allowed TF32, so that it was compared with itself."""
    seen = []
    run = recognizer.run

    def observed(posts: object) -> object:
        seen.append(torch.backends.cuda.matmul.fp32_precision)
        return run(posts)  # type: ignore[arg-type]

    monkeypatch.setattr(recognizer, "run", observed)
    outcomes = [Outcome(recognizer, nullcontext, tf32=allowed) for allowed in (False, True)]
    allow_tf32(allowed=True)
    posts = [recognizer.prepare("Kawhi Leonard", Image.new("RGB", (8, 8)))]
    for outcome in (*outcomes, *outcomes):
        outcome.answer(posts)
    assert seen == ["ieee", "tf32", "ieee", "tf32"]
