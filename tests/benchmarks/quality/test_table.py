import json
from pathlib import Path
from typing import Any

from tests.benchmarks.quality.cells import Cell
from tests.benchmarks.quality.data import QualityData, write_whole
from tests.benchmarks.quality.systems import BASELINE, SYSTEMS
from tests.benchmarks.quality.table import document, scores_table, spread
from training.recipes.recipe import Recipe

TITLES = {"token-classification": "Token classification", "smner": "SMNER", "bert-crf": "BERT-CRF"}


def scores(f1: float, support: int = 10) -> dict[str, Any]:
    return {"precision": f1 + 0.1, "recall": f1 - 0.1, "f1": f1, "support": support}


def result(system: str, seed: int, f1: float) -> dict[str, Any]:
    kinds = {"PER": scores(f1 + 0.02, 7), "LOC": scores(f1 - 0.02, 3)}
    whole = {**scores(f1), "by_type": kinds, "seen": scores(f1 + 0.05, 6), "unseen": scores(f1 - 0.05, 4)}
    return {"system": system, "seed": seed, "scores": {"t17": whole}}


def test_a_spread_is_the_mean_and_the_sample_deviation() -> None:
    """1, 2, 3 and 6: mean 3, squared distances 4 + 1 + 0 + 9 = 14, over three 4.667, its root 2.160."""
    assert spread([1, 2, 3, 6]) == "3.00 ± 2.16"
    assert spread([84.126]) == "84.13"
    assert spread([]) == "–"


def test_the_table_by_hand() -> None:
    """Token classification 80, 82, 84: 82 ± 2. SMNER with seeds 0 and 2 is 3 and 1 above: 2 ± 1.41."""
    results = [result("token-classification", seed, f1) for seed, f1 in enumerate((0.80, 0.82, 0.84))]
    results += [result("smner", 0, 0.83), result("smner", 2, 0.85)]
    header, _, tokens, smner, crf = scores_table(results, TITLES, "t17", ["PER", "LOC"], baseline=BASELINE).splitlines()
    assert header == "| system | seeds | P | R | F1 | Δ | PER (7) | LOC (3) | seen (6) | unseen (4) |"
    assert tokens.split(" | ")[1:] == [
        "3", "92.00 ± 2.00", "72.00 ± 2.00", "82.00 ± 2.00", "–",
        "84.00 ± 2.00", "80.00 ± 2.00", "87.00 ± 2.00", "77.00 ± 2.00 |",
    ]  # fmt: skip
    assert smner.split(" | ")[1:6] == ["2", "94.00 ± 1.41", "74.00 ± 1.41", "84.00 ± 1.41", "2.00 ± 1.41"]
    assert crf == f"| BERT-CRF | 0 |{' – |' * 8}"


def test_without_any_result_the_table_is_there_and_says_what_is_missing(
    data: QualityData, recipe: Recipe, tmp_path: Path
) -> None:
    cells = Cell.all(SYSTEMS, [0, 1], recipe, data, tmp_path)
    text = document(cells, head="# Peers", baseline=BASELINE, command="make quality", recipe="`tiny`")
    assert f"**Not there yet:** {'; '.join(cell.title for cell in cells)}." in text
    assert "\n    make quality\n" in text
    assert f"| eight | 8 | 8 | 4 | `{data.parts[0].checksums['train']}` |" in text


def test_the_run_and_its_versions_stand_below(data: QualityData, recipe: Recipe, tmp_path: Path) -> None:
    """The second epoch of three was the best; 90 and 150 seconds are 1.5 and 2.5 minutes."""
    cells = Cell.all({"smner": SYSTEMS["smner"]}, [0, 1], recipe, data, tmp_path)
    machine = {"cores": 2, "processor": "Abacus", "versions": {"python": "3", "torch": "2", "transformers": "5"}}
    for cell, seconds, code in zip(cells, (90, 150), ("abc", "def"), strict=True):
        own = result("smner", cell.recipe.seed, 0.8)
        own["scores"]["eight"] = own["scores"].pop("t17")
        facts = {"f1_by_epoch": [0.7, 0.8, 0.75], "parameters": 22_900_000, "seconds": seconds, "code": code}
        write_whole(cell.file, json.dumps({**own, **facts, "machine": machine}))
    text = document(cells, head="# Peers", baseline="smner", command="make quality", recipe="`tiny`")
    assert "| SMNER | 22.9 | 2 of 3, 2 of 3 | 2.00 ± 0.71 |" in text
    assert [line for line in text.splitlines() if "Abacus" in line] == [
        "- 2 cores of Abacus; python 3, torch 2, transformers 5; code abc",
        "- 2 cores of Abacus; python 3, torch 2, transformers 5; code def",
    ]
    assert "Not there yet" not in text
