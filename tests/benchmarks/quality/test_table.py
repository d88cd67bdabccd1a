from typing import Any

from tests.benchmarks.quality.comparisons import COMPARISONS
from tests.benchmarks.quality.results import Result
from tests.benchmarks.quality.table import document, scores_table, spread, verdict

BASELINE = "token-classification"
PEERS = COMPARISONS["systems"]
TITLES = {BASELINE: "Token classification", "smner": "SMNER", "bert-crf": "BERT-CRF", "deleted": "Deleted"}


def scores(f1: float, support: int = 10) -> dict[str, Any]:
    return {"precision": f1 + 0.1, "recall": f1 - 0.1, "f1": f1, "support": support}


def result(system: str, seed: int, f1: float, *others: float, **facts: Any) -> Result:
    kinds = {"PER": scores(f1 + 0.02, 7), "LOC": scores(f1 - 0.02, 3)}
    whole = {**scores(f1), "by_type": kinds, "seen": scores(f1 + 0.05, 6), "unseen": scores(f1 - 0.05, 4)}
    parts = {"t17": whole, **{f"part {index}": {**whole, "f1": other} for index, other in enumerate(others)}}
    versions = {"python": "3", "torch": "2", "transformers": "5"}
    source = {"name": "t17", "train_sha256": "ab", "valid_sha256": None, "posts": 8, "gold": 6, "images": 4}
    own: Result = {
        "comparison": "systems",
        "system": system,
        "seed": seed,
        "title": TITLES[system],
        "settings": "tiny --set epochs=3",
        "scores": parts,
        "f1_by_epoch": [0.7, 0.8, 0.75],
        "parameters": 22_900_000,
        "seconds": 90,
        "recipe": {"epochs": 3},
        "changes": {},
        "data": {"teacher": None, "sources": [source]},
        "code": "abc",
        "machine": {"date": "2026-11-27T03", "cores": 2, "processor": "Abacus", "versions": versions},
    }
    return {**own, **facts}  # type: ignore[typeddict-item]


def test_spread_is_mean_and_sample_deviation() -> None:
    """1, 2, 3 and 6: mean 3, squared distances 4 + 1 + 0 + 9 = 14, over three 4.667, its root 2.160."""
    assert spread([1, 2, 3, 6]) == "3.00 ± 2.16"
    assert spread([84.126]) == "84.13"
    assert spread([]) == "–"


def test_scores_table_by_hand() -> None:
    """Token classification 80, 82, 84: 82 ± 2. SMNER with seeds 0 and 2 is 3 and 1 above: 2 ± 1.41."""
    results = [result(BASELINE, seed, f1) for seed, f1 in enumerate((0.80, 0.82, 0.84))]
    results += [result("smner", 0, 0.83), result("smner", 2, 0.85), result("bert-crf", 3, 0.9)]
    header, _, tokens, smner, crf = scores_table(results, "t17", BASELINE).splitlines()
    assert header == "| system | seeds | P | R | F1 | Δ | PER (7) | LOC (3) | seen (6) | unseen (4) |"
    assert tokens.split(" | ")[1:] == [
        "3", "92.00 ± 2.00", "72.00 ± 2.00", "82.00 ± 2.00", "–",
        "84.00 ± 2.00", "80.00 ± 2.00", "87.00 ± 2.00", "77.00 ± 2.00 |",
    ]  # fmt: skip
    assert smner.split(" | ")[1:6] == ["2", "94.00 ± 1.41", "74.00 ± 1.41", "84.00 ± 1.41", "2.00 ± 1.41"]
    assert crf == "| BERT-CRF | 1 | 100.00 | 80.00 | 90.00 | – | 92.00 | 88.00 | 95.00 | 85.00 |"  # no such baseline


def test_verdict_is_the_best_mean_over_the_splits() -> None:
    """BERT-CRF gains 3 and loses 1, mean 1; SMNER gains 1 and 2."""
    results = [result(BASELINE, 0, 0.8, 0.7), result("bert-crf", 0, 0.83, 0.69), result("smner", 0, 0.81, 0.72)]
    assert verdict(results, BASELINE) == "“SMNER” is best, +1.00 on t17, +2.00 on part 0"
    assert verdict(results[:1], BASELINE) == "nothing to compare yet"


def test_document_without_results_lists_what_is_missing() -> None:
    text = document(PEERS, [], missing=["SMNER, seed 0", "SMNER, seed 1"])
    assert text.startswith("# SMNER and its peers\n")
    assert text.endswith("\n**Not there yet:** SMNER, seed 0; SMNER, seed 1.\n")


def test_document_describes_data_and_training() -> None:
    """The second epoch of three was the best; 90 and 150 seconds are 1.5 and 2.5 minutes."""
    text = document(PEERS, [result("smner", 0, 0.8), result("smner", 1, 0.8, seconds=150, code="def")])
    assert "| t17 | 8 | 6 | 4 | `ab` | – |" in text
    assert "\n    make quality OPTIONS='--compare systems --recipe tiny --set epochs=3 --seeds 0 1'\n" in text
    assert "| SMNER | 22.9 | 2 of 3, 2 of 3 | 2.00 ± 0.71 |" in text
    assert [line for line in text.splitlines() if "Abacus" in line] == [
        "- 2 cores of Abacus; python 3, torch 2, transformers 5; code abc",
        "- 2 cores of Abacus; python 3, torch 2, transformers 5; code def",
    ]
    assert "Not there yet" not in text


def test_other_recipes_get_sections_newest_first() -> None:
    later = {"machine": {**result("smner", 0, 0.8)["machine"], "date": "2026-12-01T03"}, "recipe": {"epochs": 4}}
    text = document(PEERS, [result("smner", 0, 0.8), result(BASELINE, 0, 0.7), result("smner", 0, 0.9, **later)])
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## 2026-12-01: nothing to compare yet",
        "## 2026-11-27: “SMNER” is best, +10.00 on t17",
    ]


def test_rows_survive_the_code_of_their_system() -> None:
    """They follow the current systems, which are in code order."""
    text = document(PEERS, [result(name, 0, 0.8) for name in ("deleted", "smner", BASELINE)])
    table = [line.split(" | ")[0] for line in text.partition("### Data")[0].splitlines() if line.startswith("| ")]
    assert table[2:] == ["| Token classification", "| SMNER", "| Deleted"]
