import json
from dataclasses import replace
from typing import Any

import pytest

from tests.benchmarks.quality.cells import Cell, Setting
from tests.benchmarks.quality.systems import SYSTEMS

PEER = "token-classification"


def cell(setting: Setting, name: str = PEER, seed: int = 0, **changes: Any) -> Cell:
    changed = replace(setting, recipe=setting.recipe.model_copy(update=changes))
    return Cell(name, SYSTEMS[name], seed, changed)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_trained_and_measured(name: str, setting: Setting) -> None:
    own = cell(setting, name, seed=3, epochs=1)
    assert setting.results.read() == {}
    result = own.run()
    assert setting.results.read() == {own.key: json.loads(json.dumps(result))}
    assert (result["system"], result["title"], result["seed"]) == (name, SYSTEMS[name].title, 3)
    scores = result["scores"]["eight"]
    assert scores.keys() == {"precision", "recall", "f1", "support", "by_type", "seen", "unseen"}
    assert (scores["support"], scores["by_type"]["PER"]["support"], scores["seen"]["support"]) == (16, 8, 16)
    assert len(result["f1_by_epoch"]) == 1
    assert [path for path in setting.work.rglob("*") if path.is_file()] == [setting.results.path]  # no checkpoints


def test_same_cell_gives_same_scores(setting: Setting) -> None:
    first, again = (cell(setting, epochs=4).run() for _ in range(2))
    assert first["f1_by_epoch"] == again["f1_by_epoch"]
    assert first["scores"] == again["scores"]


def test_key_covers_everything_that_scores_depend_on(setting: Setting) -> None:
    """Another recipe, seed, system, comparison, teacher or checksum makes another cell."""
    own = cell(setting)
    others = [own, cell(setting, seed=1), cell(setting, "bert-crf")]
    others += [cell(setting, head_learning_rate=1e-3), cell(setting, epochs=3)]
    for key in ("teacher", "sources"):
        data = replace(setting.data, description={**setting.data.description, key: "another"})
        others.append(replace(own, setting=replace(setting, data=data)))
    others.append(replace(own, setting=replace(setting, comparison="ideas")))
    others.append(replace(own, system=replace(SYSTEMS[PEER], changes={"max_pooling": True})))
    assert len({other.key for other in others}) == 9
    assert cell(setting).key == own.key
