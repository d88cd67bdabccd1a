"""Two processes against one with the same global batch: the weights are the same but for the order of sums."""

import functools
import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.run as torchrun
from safetensors.torch import load_file
from transformers import set_seed

from model.checkpoint import verify_checkpoint
from model.modeling.bottleneck import Gaussian
from model.weights import WEIGHTS_FILE
from tests.conftest import Start
from tests.training.learning.tiny_runs import small, write_recipe
from training.data.sources import DataSource
from training.learning.network import build
from training.learning.run import train
from training.recipes.recipe import Recipe

Together = Callable[[Callable[[int], object]], None]


@pytest.fixture
def twelve(source: DataSource) -> DataSource:
    """Twelve posts, 0, 2, 4, 6, 8 and 10 with a photo.

    In batches of four the last one has two posts with a photo and two without, and each kind in a process of its own.
    """
    assert source.images is not None
    posts = (source.path / "train.txt").read_text("utf-8").split("\n\n")
    more = [post.replace(f"IMGID:{i}\n", f"IMGID:{i + 8}\nwell\tO\n") for i, post in enumerate(posts[:4])]
    (source.path / "train.txt").write_text("\n\n".join(post.strip("\n") for post in [*posts, *more]) + "\n", "utf-8")
    for i in (0, 2):
        shutil.copy(source.images / f"{i}.png", source.images / f"{i + 8}.png")
    return source


@pytest.fixture
def quiet(recipe: Recipe, text_encoder: Path, tmp_path: Path) -> Recipe:
    """Three epochs of three batches of four posts, with nothing random in a step."""
    folder = shutil.copytree(text_encoder, tmp_path / "text-encoder")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return small(
        recipe,
        text_encoder=str(folder),
        image_dropout=0.0,
        epochs=3,
        patience=0,
        cmib_weight=1.0,
        critic="cosine",
        cmib_beta=1e-4,
    )


@pytest.fixture
def noiseless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No dropout, and every z is its mean, in this process and those forked from it."""
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda _, given: given)
    monkeypatch.setattr(Gaussian, "sample", lambda posterior: posterior.mean)


def last_weights(output: Path) -> dict[str, torch.Tensor]:
    """Of the last epoch, whether it was the best or not."""
    weights = load_file(output / "run" / "checkpoints" / "checkpoint-9" / WEIGHTS_FILE)
    return {name.removeprefix("network."): tensor for name, tensor in weights.items()}


def assert_same_run(recipe: Recipe, one: Path, two: Path) -> None:
    first, second = last_weights(one), last_weights(two)
    set_seed(recipe.seed)
    before = build(recipe, ["PER", "LOC"])[0].state_dict()
    assert max(float((first[name] - before[name]).abs().max()) for name in first) > 1e-2
    torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-4)


def test_torchrun_with_two_processes_equals_one(
    quiet: Recipe, twelve: DataSource, noiseless: None, start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """torchrun forks its workers here, which saves importing everything twice."""
    half = write_recipe(small(quiet, batch_size=2), tmp_path / "half.toml")
    command = ["--standalone", "--nproc-per-node", "2", "--start-method", "fork", "--run-path"]
    command += [str(files("training") / "__main__.py"), half, "--output", str(tmp_path / "two")]
    command += ["--data", str(twelve.path), "--images", str(twelve.images)]
    agent = start(functools.partial(torchrun.main, command))
    agent.join()
    said = capfd.readouterr()
    assert agent.exitcode == 0, said.err
    assert said.out.count("best epoch: ") == 1  # the main process alone speaks
    train(quiet, [twelve], tmp_path / "one")
    assert_same_run(quiet, tmp_path / "one", tmp_path / "two")
    verify_checkpoint(tmp_path / "two")


@pytest.mark.parametrize("changes", [{"consistency_weight": 1.0}, {"use_cmib": False}])
def test_two_processes_train_as_one_whatever_the_recipe(
    quiet: Recipe,
    twelve: DataSource,
    noiseless: None,
    together: Together,
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    changed = small(quiet, **changes)

    def work(_: int) -> None:
        train(small(changed, batch_size=2), [twelve], tmp_path / "two")

    together(work)
    train(changed, [twelve], tmp_path / "one")
    assert_same_run(quiet, tmp_path / "one", tmp_path / "two")


def test_dropped_images_and_noise_differ_between_processes(
    recipe: Recipe, twelve: DataSource, together: Together, tmp_path: Path
) -> None:
    def work(rank: int) -> None:
        train(small(recipe, batch_size=2, max_steps=1), [twelve], tmp_path / "two")
        torch.save(torch.rand(4), tmp_path / str(rank))

    together(work)
    assert not torch.equal(torch.load(tmp_path / "0"), torch.load(tmp_path / "1"))


def test_main_process_error_ends_the_others(
    recipe: Recipe, twelve: DataSource, together: Together, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("data", "utf-8")

    def work(_: int) -> None:
        with pytest.raises((FileExistsError, ValueError), match="run is not empty"):
            train(recipe, [twelve], tmp_path / "run")

    together(work)
