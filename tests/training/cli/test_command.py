import argparse
import signal
from collections.abc import Callable, Sequence

import pytest

from model.errors import InvalidCheckpoint
from training.cli import cache_images, evaluate, figures, train
from training.cli.command import command


def run(work: Callable[[argparse.Namespace], None]) -> int:
    return command("smner-some", "Does something.", lambda _: None)(work)([])


@pytest.mark.parametrize("kind", [ValueError, OSError, ImportError, InvalidCheckpoint])
def test_a_mistake_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str], kind: type[Exception]) -> None:
    def work(_: argparse.Namespace) -> None:
        raise kind("two\n  lines")

    assert run(work) == 2
    assert capsys.readouterr().err == "smner-some: two lines\n"


def test_a_bug_keeps_its_traceback() -> None:
    def work(_: argparse.Namespace) -> None:
        raise AssertionError

    with pytest.raises(AssertionError):
        run(work)
    assert run(lambda _: None) == 0


DATA = ["--data", ".", "--split", "valid"]


@pytest.mark.parametrize(
    ("main", "work", "options", "said"),
    [
        (train.main, "training.cli.train.train", ["compact", "--data", ".", "--output", "run"],
         "smner-train: interrupted; the same command with --resume continues it"),
        (evaluate.main, "training.cli.evaluate.recognizer_and_source", DATA, "smner-evaluate: interrupted"),
        (figures.main, "training.cli.figures.recognizer_and_source", [*DATA, "--output", "figures"],
         "smner-figures: interrupted"),
        (cache_images.main, "training.cli.cache_images.images_in",
         ["--images", ".", "--output", "f", "--encoder", "timm:test_efficientnet", "--weights", "none"],
         "smner-cache-images: interrupted; the same command continues"),
    ],
)  # fmt: skip
def test_ctrl_c_says_how_to_continue(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    main: Callable[[Sequence[str]], int],
    work: str,
    options: list[str],
    said: str,
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    monkeypatch.setattr(work, lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert main(options) == 130
    assert capsys.readouterr().err == f"{said}\n"
