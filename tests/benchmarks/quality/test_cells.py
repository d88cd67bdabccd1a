import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.quality.cells import Cell
from tests.benchmarks.quality.command import main
from tests.benchmarks.quality.data import QualityData
from tests.benchmarks.quality.systems import SYSTEMS
from tests.service.conftest import eventually
from training.data.sources import DataSource
from training.learning.trainer import SMNERTrainer
from training.recipes.recipe import Recipe

PEER = "token-classification"
ROOT = Path(__file__).parents[3]
Command = Callable[..., int]


@pytest.fixture
def cell(recipe: Recipe, data: QualityData, tmp_path: Path) -> Callable[..., Cell]:
    def make(name: str = PEER, seed: int = 0, **changes: Any) -> Cell:
        (made,) = Cell.all({name: SYSTEMS[name]}, [seed], recipe.model_copy(update=changes), data, tmp_path / "cells")
        return made

    return make


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_trained_and_measured(name: str, cell: Callable[..., Cell]) -> None:
    own = cell(name, seed=3, epochs=1)
    assert own.result() is None
    result = own.run()
    assert own.result() == json.loads(json.dumps(result))
    assert (result["system"], result["seed"], result["recipe"]["seed"]) == (name, 3, 3)
    scores = result["scores"]["eight"]
    assert scores.keys() == {"precision", "recall", "f1", "support", "by_type", "seen", "unseen"}
    assert (scores["support"], scores["by_type"]["PER"]["support"], scores["seen"]["support"]) == (16, 8, 16)
    assert len(result["f1_by_epoch"]) == 1
    assert [path.name for path in own.folder.iterdir()] == [own.file.name]  # no checkpoints are left


def test_the_same_cell_gives_the_same_figures(cell: Callable[..., Cell]) -> None:
    first = cell(epochs=4).run()
    assert first["f1_by_epoch"] == cell(epochs=4).run()["f1_by_epoch"]
    assert first["scores"] == cell(epochs=4).run()["scores"]


def test_results_of_other_settings_are_not_found(cell: Callable[..., Cell], data: QualityData) -> None:
    """Another recipe, seed, system, checksum or teacher is another cell."""
    others = [cell(), cell(seed=1), cell("bert-crf"), cell(head_learning_rate=1e-3), cell(epochs=3)]
    for key in ("teacher", "sources"):
        changed = QualityData(
            data.parts, data.features, data.gold, data.types, {**data.description, key: "another"}, data.seconds
        )
        others.append(Cell(PEER, SYSTEMS[PEER], others[0].recipe, changed, others[0].folder))
    assert len({other.file for other in others}) == 7
    assert cell().file == cell().file


class Killed(BaseException):
    """What ends a command from outside."""


@pytest.fixture
def options(recipe: Recipe, source: DataSource, tmp_path: Path) -> list[str]:
    """The command's for the eight posts, two systems and two seeds."""
    settings = recipe.model_dump(mode="json", exclude_none=True)
    file = tmp_path / "tiny.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()), "utf-8")
    own = {"--work": "work", "--cells": "cells", "--results": "RESULTS.md"}
    places = [part for option, name in own.items() for part in (option, str(tmp_path / name))]
    systems = ["--systems", PEER, "bert-crf", "--seeds", "0", "1"]
    return ["--recipe", str(file), "--data", str(source.path), *places, *systems, "--set", "epochs=1"]


@pytest.fixture
def command(options: list[str]) -> Command:
    """The command with them."""
    return lambda *more: main([*options, *more])


def test_a_killed_command_goes_on_where_it_was(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, begun = SMNERTrainer.train, []

    def killed_in_the_third(trainer: SMNERTrainer, *given: Any, **more: Any) -> Any:
        begun.append((type(trainer.model.tag_model).__name__, trainer.recipe.seed))
        if len(begun) == 3:
            raise Killed
        return train(trainer, *given, **more)

    monkeypatch.setattr(SMNERTrainer, "train", killed_in_the_third)
    with pytest.raises(Killed):
        command()
    table = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert "| Token classification | 1 |" in table
    assert {"Token classification, seed 1", "BERT-CRF, seed 1"} <= set(table.replace(".", ";").split("; "))
    first = ["IndependentTags", "LinearChainCRF", "IndependentTags"]
    assert begun == [(first[0], 0), (first[1], 0), (first[2], 1)]

    assert command() == 0
    assert begun[3:] == [("IndependentTags", 1), ("LinearChainCRF", 1)]
    assert "| Token classification | 2 |" in (tmp_path / "RESULTS.md").read_text("utf-8")

    assert command() == 0
    assert len(begun) == 5  # everything was there
    assert command("head_learning_rate=0.001") == 0
    assert len(begun) == 9  # nothing of the changed recipe was


def test_two_cells_at_once_give_what_one_after_the_other_does(
    command: Command, options: list[str], tmp_path: Path
) -> None:
    """As users start it: processes do not find functions of a module that is run."""

    def figures(folder: Path) -> dict[str, Any]:
        results = {path.name: json.loads(path.read_text("utf-8")) for path in folder.iterdir()}
        return {name: (result["scores"], result["f1_by_epoch"]) for name, result in results.items()}

    assert command("--cells", str(tmp_path / "one")) == 0
    module = [sys.executable, "-m", "tests.benchmarks.quality", *options]
    subprocess.run([*module, "--jobs", "2", "--cells", str(tmp_path / "two")], check=True, cwd=ROOT)
    assert len(figures(tmp_path / "one")) == 4
    assert figures(tmp_path / "one") == figures(tmp_path / "two")


def test_settings_are_added_to_those_of_the_comparison(options: list[str], tmp_path: Path) -> None:
    """The ideas are compared without R-Drop and over two epochs; here over one, and with another learning rate."""
    recipe, cells = Path(options[options.index("--recipe") + 1]), tmp_path / "cells"
    text = recipe.read_text("utf-8")
    recipe.write_text(text.replace("consistency_weight = 0.0", "consistency_weight = 0.5"), "utf-8")
    assert recipe.read_text("utf-8") != text
    ideas = ["--compare", "ideas", "--systems", "as-it-is", "--seeds", "0"]
    assert main([*options, *ideas, "--set", "head_learning_rate=0.002"]) == 0
    (result,) = (json.loads(path.read_text("utf-8")) for path in cells.iterdir())
    own = result["recipe"]
    assert (own["epochs"], own["consistency_weight"], own["head_learning_rate"]) == (1, 0, 0.002)


def test_when_one_of_the_cells_that_are_trained_at_once_fails_the_others_are_ended(
    options: list[str], tmp_path: Path
) -> None:
    """Here all fail, since there is a file where their folder should be; the queue is not worked off."""
    (tmp_path / "cells").touch()
    module = [sys.executable, "-m", "tests.benchmarks.quality", *options, "--seeds", *map(str, range(40))]
    done = subprocess.run(
        [*module, "--jobs", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "RuntimeError: Token classification, seed" in done.stderr
    assert done.stdout.count("…") < 10


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_processes_that_train_cells_end_with_the_command(
    options: list[str], tmp_path: Path, signal_: signal.Signals
) -> None:
    module = [sys.executable, "-m", "tests.benchmarks.quality", *options, "--seeds", *map(str, range(40))]
    log = tmp_path / "log"
    with log.open("w") as writer:
        command = subprocess.Popen([*module, "--jobs", "2"], cwd=ROOT, stdout=writer, stderr=writer)
    eventually(lambda: log.read_text("utf-8").count("…") >= 3, seconds=90)
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text("utf-8").split()
    assert len(children) >= 2
    command.send_signal(signal_)
    command.wait(30)
    eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children), seconds=30)


def test_a_number_of_processes_that_is_none_is_refused_at_once(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*options, "--jobs", "0"])
    assert "--jobs: at least 1, not 0" in capsys.readouterr().err
