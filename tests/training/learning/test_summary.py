import shlex
from pathlib import Path

import pytest

from training.data.sources import DataSource
from training.learning.run import RunResult, ValidScores
from training.learning.summary import summary
from training.scoring.scores import Scores

VALID = {"eight": ValidScores(Scores(1, 0.5, 0.75, 16), {"PER": Scores(1, 1, 1, 8), "VEHICLE": Scores(0, 0, 0, 8)})}


@pytest.fixture
def result(tmp_path: Path) -> RunResult:
    return RunResult(VALID, best_epoch=7, epochs=12, checkpoint=tmp_path / "my run")


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.partition("next:\n")[2].splitlines()]


def test_scores_by_type_stand_in_a_table(result: RunResult, source: DataSource) -> None:
    lines = summary(result, [source]).splitlines()
    assert "best epoch: 7 of 12" in lines
    first = lines.index("eight valid        F1  entities")
    assert lines[first + 1 : first + 4] == [
        "all            0.7500        16",
        "PER            1.0000         8",
        "VEHICLE        0.0000         8",
    ]
    assert f"checkpoint: {result.checkpoint}" in lines


def test_the_next_commands_can_be_pasted(result: RunResult, source: DataSource) -> None:
    checkpoint = ["--checkpoint", str(result.checkpoint)]  # with a blank in it
    data = ["--data", str(source.path), "--split", "valid", "--images", str(source.images)]
    assert commands(summary(result, [source])) == [
        ["smner-evaluate", *checkpoint, *data],
        ["smner-serve", *checkpoint],
    ]


def test_a_test_split_is_measured_first(result: RunResult, source: DataSource) -> None:
    (source.path / "train.txt").rename(source.path / "test.txt")
    features = DataSource(source.path, image_features=Path("f.safetensors"))
    (evaluate, _) = commands(summary(result, [features]))
    assert evaluate[-4:] == ["--split", "test", "--image-features", "f.safetensors"]


def test_a_split_in_two_files_is_passed_over(result: RunResult, source: DataSource) -> None:
    """It cannot be read, and a run of hours must not end in an error about it."""
    (source.path / "test.txt").touch()
    (source.path / "test.jsonl").touch()
    (evaluate, _) = commands(summary(result, [source]))
    assert "valid" in evaluate


def test_without_valid_the_last_epoch_is_named(result: RunResult, source: DataSource) -> None:
    """And the folder to measure on is the reader's."""
    (source.path / "valid.txt").unlink()
    text = summary(RunResult({}, 0.5, 0.5, result.checkpoint), [source])
    assert "epochs: 0.5; the last was kept, since there is no valid split" in text
    assert commands(text)[0][-4:] == ["--data", "DIR", "--split", "test"]
