"""Killed runs and full disks: resuming yields the same bytes, and the last good checkpoint survives."""

import functools
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from transformers import TrainerCallback, TrainerState

import training.learning.run
from model.checkpoint import verify_checkpoint
from model.weights import WEIGHTS_FILE
from tests.conftest import Start
from tests.training.learning.tiny_runs import small, trainer_with, write_recipe
from training.cli.train import main
from training.data.sources import DataSource
from training.features.shards import TensorShards
from training.learning.run import train
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe


@pytest.fixture(scope="module")
def three_epochs(recipe: Recipe) -> Recipe:
    """Two steps and a checkpoint each, with every source of randomness."""
    return small(recipe, epochs=3, image_dropout=0.3)


@pytest.fixture
def source(source: DataSource) -> DataSource:
    """Without a valid split, so that the last epoch is kept."""
    (source.path / "valid.txt").unlink()
    return source


class Whole(NamedTuple):
    """The weights of an uninterrupted run, and how long it took."""

    weights: bytes
    seconds: float


@pytest.fixture(scope="module")
def whole(
    three_epochs: Recipe, write_dataset: Callable[[Path], DataSource], tmp_path_factory: pytest.TempPathFactory
) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    source = write_dataset(folder / "eight")
    (source.path / "valid.txt").unlink()
    begin = time.monotonic()
    result = train(three_epochs, [source], folder / "run")
    return Whole(weights(result.checkpoint), time.monotonic() - begin)


def weights(checkpoint: Path) -> bytes:
    verify_checkpoint(checkpoint)
    return (checkpoint / WEIGHTS_FILE).read_bytes()


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_the_second_time(before: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Call ``before`` once, then die."""
    calls: list[bool] = []

    def work(*given: Any, **more: Any) -> Any:
        calls.append(True)
        if len(calls) == 2:
            die()
        return before(*given, **more) if before else None

    return work


def half_a_state(state: TrainerState, path: str) -> None:
    """Truncate Trainer's last file, then die."""
    if path.endswith("checkpoint-4/trainer_state.json"):
        Path(path).write_text('{"global_step": 4, "stateful_callbacks"', "utf-8")
        die()
    whole_state(state, path)


def half_of_the_files(path: Path, target: Path) -> Path:
    """Move all files of the final checkpoint into place but the last, then die."""
    if path.name == "SHA256SUMS":
        die()
    return whole_file(path, target)


whole_state, whole_file = TrainerState.save_to_json, Path.replace
MOMENTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "photos are encoded": (TensorShards, "merge", die),
    "the first step": (SMNERTrainer, "compute_loss", die),
    "the optimizer is saved": (
        SMNERTrainer,
        "_save_optimizer_and_scheduler",
        die_the_second_time(SMNERTrainer._save_optimizer_and_scheduler),
    ),
    "the trainer's state is written": (TrainerState, "save_to_json", half_a_state),
    "the last step is done": (training.learning.run, "save_checkpoint", die),
    "the checkpoint's files take their places": (Path, "replace", half_of_the_files),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_run_killed_while_resumes_to_same_bytes(
    start: Start, three_epochs: Recipe, source: DataSource, whole: Whole, tmp_path: Path, moment: str
) -> None:
    def doomed() -> None:
        setattr(*MOMENTS[moment])
        train(three_epochs, [source], tmp_path / "run")

    child = start(doomed)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not (tmp_path / "run" / "SHA256SUMS").exists()
    assert weights(train(three_epochs, [source], tmp_path / "run", resume=True).checkpoint) == whole.weights


def test_run_killed_repeatedly_ends_with_same_bytes(
    start: Start, three_epochs: Recipe, source: DataSource, whole: Whole, tmp_path: Path
) -> None:
    """Kill at random moments of a whole run's duration."""
    resume = functools.partial(train, three_epochs, [source], tmp_path / "run", resume=True)
    moments = [random.uniform(0, whole.seconds) for _ in range(3)]
    for moment in moments:
        child = start(resume)
        child.join(moment)
        child.kill()
        child.join()
    assert weights(resume().checkpoint) == whole.weights, f"killed after {moments} s"


def test_full_disk_keeps_the_previous_checkpoint(
    start: Start, three_epochs: Recipe, source: DataSource, whole: Whole, tmp_path: Path
) -> None:
    """Files cannot grow beyond 20 kB after the first checkpoint."""
    assert len(whole.weights) > 20_000
    command = [write_recipe(three_epochs, tmp_path / "three.toml"), "--output", str(tmp_path / "run")]
    command += ["--data", str(source.path), "--images", str(source.images)]

    class Fill(TrainerCallback):
        def on_save(self, *_: Any, **__: Any) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    def work() -> None:
        vars(training.learning.run)["SMNERTrainer"] = trainer_with(Fill())
        with (tmp_path / "stderr").open("w") as sys.stderr:
            status = main(command)
        (tmp_path / "status").write_text(str(status), "utf-8")

    start(work).join()
    assert (tmp_path / "status").read_text("utf-8") == "2"
    said = (tmp_path / "stderr").read_text("utf-8")
    (line,) = [line for line in said.splitlines() if "smner-train" in line]
    assert line.startswith(f"smner-train: {tmp_path / 'run'}")
    assert "checkpoint-4: could not be written" in line
    assert "--resume continues from the previous one" in line
    checkpoints = tmp_path / "run" / "run" / "checkpoints"
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-2"]
    assert main([*command, "--resume"]) == 0
    assert weights(tmp_path / "run") == whole.weights


def test_sigterm_ends_a_run_like_ctrl_c(
    source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    monkeypatch.setattr("training.cli.train.train", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert main(["compact", "--data", str(source.path), "--output", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "smner-train: interrupted; the same command with --resume continues it\n"
