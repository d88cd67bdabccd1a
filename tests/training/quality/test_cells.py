import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.quality.cells import Cell
from tests.benchmarks.quality.command import main
from tests.benchmarks.quality.data import QualityData
from tests.benchmarks.quality.systems import SYSTEMS
from training.recipe import Recipe
from training.sources import DataSource
from training.trainer import SMNERTrainer

PEER = "token-classification"
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
def command(recipe: Recipe, source: DataSource, tmp_path: Path) -> Command:
    """The command on the eight posts, for two systems and two seeds."""
    settings = recipe.model_dump(mode="json", exclude_none=True)
    file = tmp_path / "tiny.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()), "utf-8")
    places = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "RESULTS.md")]
    systems = ["--systems", PEER, "bert-crf", "--seeds", "0", "1"]
    fixed = ["--recipe", str(file), "--data", str(source.path), *places, *systems]
    return lambda *more: main([*fixed, "--set", "epochs=1", *more])


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


def test_two_cells_at_once_give_what_one_after_the_other_does(command: Command, tmp_path: Path) -> None:
    figures = []
    for jobs in ("1", "2"):
        cells = tmp_path / f"cells-{jobs}"
        assert command("--jobs", jobs, "--cells", str(cells)) == 0
        results = {path.name: json.loads(path.read_text("utf-8")) for path in cells.iterdir()}
        figures.append({name: (result["scores"], result["f1_by_epoch"]) for name, result in results.items()})
    assert len(figures[0]) == 4
    assert figures[0] == figures[1]
