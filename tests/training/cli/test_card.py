import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from model import Recognizer
from model.checkpoint import verify_checkpoint
from training.cards.record import RECORD_FILE
from training.cli.card import main
from training.data.sources import DataSource
from training.learning.run import RunResult


@pytest.fixture
def checkpoint(overfitted: tuple[RunResult, DataSource], tmp_path: Path) -> Path:
    return shutil.copytree(overfitted[0].checkpoint, tmp_path / "copy", ignore=shutil.ignore_patterns("run"))


def test_a_rewritten_card_keeps_all_but_the_speed(
    checkpoint: Path, source: DataSource, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (checkpoint / "README.md").read_text("utf-8")
    picture = (checkpoint / "reliability.png").read_bytes()
    assert main([str(checkpoint), "--data", str(source.path), "--images", str(source.images)]) == 0
    after = (checkpoint / "README.md").read_text("utf-8")
    assert _without_speed(after) == _without_speed(before)
    assert (checkpoint / "reliability.png").read_bytes() == picture
    assert capsys.readouterr().out == f"revision {verify_checkpoint(checkpoint)}\n"
    Recognizer.from_pretrained(checkpoint, device="cpu")


def _without_speed(card: str) -> list[str]:
    return [re.sub(r"[\d.]+ (MB|ms|a second)", r"\1", line) for line in card.splitlines()]


def test_remarks_are_kept_until_there_are_others(checkpoint: Path, source: DataSource) -> None:
    data = ["--data", str(source.path)]
    for options, remarks in (
        (["--remark", "First.", "--remark", "Second."], "First.\nSecond.\n"),
        ([], "First.\nSecond.\n"),
        (["--remark", "Third."], "Third.\n"),
    ):
        assert main([str(checkpoint), *data, *options]) == 0
        assert f"{remarks}\n## Limits" in ModelCard.load(checkpoint / "README.md").text


@pytest.mark.parametrize(("lost", "problem"), [(RECORD_FILE, "training.json: cannot be read"), (None, "no valid.txt")])
def test_a_mistake_is_one_line(
    checkpoint: Path, source: DataSource, capsys: pytest.CaptureFixture[str], lost: str | None, problem: str
) -> None:
    if lost is not None:
        (checkpoint / lost).unlink()
    (source.path / "valid.txt").unlink()
    assert main([str(checkpoint), "--data", str(source.path)]) == 2
    assert problem in capsys.readouterr().err
