"""Killed runs and full disks: resuming yields the same bytes, and the last good checkpoint survives."""

import functools
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainerState

import training.learning.run
from model.checkpoint import WEIGHTS_FILE, verify_checkpoint
from tests.conftest import Start
from training.cli.train import main
from training.data.sources import DataSource
from training.features.shards import FeatureShards
from training.learning.run import train
from training.learning.run_folder import last_checkpoint
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use as many threads as the killed children: sums divided differently differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def four_epochs(recipe: Recipe) -> Recipe:
    """Two steps and a checkpoint each, with every source of randomness."""
    return recipe.model_copy(update={"epochs": 4, "image_dropout": 0.3})


@pytest.fixture
def source(source: DataSource) -> DataSource:
    """Without a valid split, so that the last epoch is kept."""
    (source.path / "valid.txt").unlink()
    return source


@pytest.fixture(scope="module")
def expected(
    four_epochs: Recipe, write_dataset: Callable[[Path], DataSource], tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    """The weights of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    source = write_dataset(folder / "eight")
    (source.path / "valid.txt").unlink()
    return weights(train(four_epochs, [source], folder / "run").checkpoint)


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
    "photos are encoded": (FeatureShards, "merge", die),
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
def test_a_run_killed_while(
    start: Start, four_epochs: Recipe, source: DataSource, expected: bytes, tmp_path: Path, moment: str
) -> None:
    """… ends with the same bytes."""

    def doomed() -> None:
        setattr(*MOMENTS[moment])
        train(four_epochs, [source], tmp_path / "run")

    child = start(doomed)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not (tmp_path / "run" / "SHA256SUMS").exists()
    assert weights(train(four_epochs, [source], tmp_path / "run", resume=True).checkpoint) == expected


def test_run_killed_repeatedly_ends_with_same_bytes(
    start: Start, four_epochs: Recipe, source: DataSource, expected: bytes, tmp_path: Path
) -> None:
    """Kill at random moments of a whole run's duration, so that most fall within a run."""
    go_on = functools.partial(train, four_epochs, [source], tmp_path / "run", resume=True)
    begin = time.monotonic()
    train(four_epochs, [source], tmp_path / "timed")
    whole, moments = time.monotonic() - begin, []
    for _ in range(3):
        child = start(go_on)
        moments.append(random.uniform(0, whole))
        child.join(moments[-1])
        child.kill()
        child.join()
    assert weights(go_on().checkpoint) == expected, f"killed after {moments} s"


def test_resuming_a_finished_run_trains_no_step(
    four_epochs: Recipe, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer checks max_steps and patience only after a step, so it used to train one more."""
    stopped = four_epochs.model_copy(update={"max_steps": 3})
    before = weights(train(stopped, [source], tmp_path / "run").checkpoint)
    monkeypatch.setattr(SMNERTrainer, "compute_loss", lambda *_, **__: pytest.fail("another step"))
    assert weights(train(stopped, [source], tmp_path / "run", resume=True).checkpoint) == before


def test_full_disk_keeps_the_previous_checkpoint(
    start: Start, four_epochs: Recipe, source: DataSource, expected: bytes, tmp_path: Path
) -> None:
    """Files cannot grow beyond 20 kB after the first checkpoint."""
    assert len(expected) > 20_000
    keys = four_epochs.model_dump(exclude_none=True).items()
    (tmp_path / "four.toml").write_text("".join(f"{key} = {_toml(value)}\n" for key, value in keys), "utf-8")
    command = [str(tmp_path / "four.toml"), "--data", str(source.path), "--images", str(source.images)]
    command += ["--output", str(tmp_path / "run")]

    class Fill(TrainerCallback):
        def on_save(self, *_: Any, **__: Any) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    class Filling(SMNERTrainer):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            self.add_callback(Fill())

    def work() -> None:
        vars(training.learning.run)["SMNERTrainer"] = Filling
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
    assert weights(tmp_path / "run") == expected


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def test_sigterm_ends_a_run_like_ctrl_c(
    source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    monkeypatch.setattr("training.cli.train.train", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert main(["compact", "--data", str(source.path), "--output", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "smner-train: interrupted; the same command with --resume continues it\n"


def test_incomplete_checkpoints_are_removed(tmp_path: Path) -> None:
    for step, content in ((2, WHOLE), (4, WHOLE), (6, WHOLE[:-1]), (8, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if content is not None:
            (folder / "trainer_state.json").write_text(content, "utf-8")
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert (found.checkpoint, found.finished, found.best) == (
        str(tmp_path / "checkpoint-4"),
        False,
        str(tmp_path / "b"),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4"]


WHOLE = json.dumps(
    {"best_model_checkpoint": "b", "stateful_callbacks": {"TrainerControl": {"args": {"should_training_stop": False}}}}
)


def test_without_checkpoints_nothing_is_resumed(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None
