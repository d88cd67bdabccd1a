"""What several tests of runs use."""

from typing import Any

import pytest

import training.learning.run
from training.learning.trainer import SMNERTrainer


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[SMNERTrainer]:
    """The trainers of the runs of this test, in their order."""
    made: list[SMNERTrainer] = []

    class Kept(SMNERTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(training.learning.run, "SMNERTrainer", Kept)
    return made
