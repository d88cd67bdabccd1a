"""What several tests of runs use."""

from typing import Any

import pytest

import training.learning.run
from training.cards import card
from training.learning.trainer import SMNERTrainer
from training.scoring import speed


@pytest.fixture(autouse=True)
def quick_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model cards that draw nothing and time a single post: dozens of runs end with one."""
    monkeypatch.setattr(speed, "POSTS", 1)
    monkeypatch.setattr(speed, "REPEATS", 1)
    monkeypatch.setattr(card, "as_png", lambda _: b"")


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
