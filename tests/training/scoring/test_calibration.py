import pytest

from training.data.posts import LabeledPost, TypedWords
from training.scoring.calibration import Bin, Calibration, calibration
from training.scoring.scores import ScoredEntity, ScoredPredictions

PER, LOC = TypedWords(0, 1, "PER"), TypedWords(3, 3, "LOC")
POST = LabeledPost("1", ("Ann", "Lee", "in", "Rome"), (PER, LOC))


def found(*scored: tuple[TypedWords, float]) -> tuple[ScoredEntity, ...]:
    return tuple(ScoredEntity(*each) for each in scored)


def test_the_error_by_hand() -> None:
    """Two bins: (0, 0.5] has 0.4 right; (0.5, 1] has 0.6 wrong in type, 0.8 right and 1.0 wrong at the end.

    Mean scores 0.4 and 0.8, accuracies 1 and 1/3: ECE = 1/4 · 0.6 + 3/4 · (0.8 − 1/3) = 0.15 + 0.35.
    """
    wrong_type, wrong_end = PER._replace(type="ORG"), PER._replace(end=0)
    predicted: ScoredPredictions = [found((PER, 0.4), (LOC, 0.8)), found((wrong_type, 0.6), (wrong_end, 1.0))]
    answer = calibration([POST, POST], predicted, bins=2)
    assert answer.ece == pytest.approx(0.5)
    low, high = answer.bins
    assert low == Bin(0, 0.5, count=1, score=0.4, accuracy=1)
    assert (high.low, high.high, high.count) == (0.5, 1, 3)
    assert (high.score, high.accuracy) == pytest.approx((0.8, 1 / 3))


def test_errors_of_different_bins_do_not_cancel() -> None:
    """0.2 too low in one bin and 0.2 too high in the other make an error of 0.2, although the mean score is right."""
    wrong = LOC._replace(type="PER")
    predicted = [found((PER, 0.8)), found((wrong, 0.2))]
    assert calibration([POST, POST], predicted, bins=2).ece == pytest.approx(0.2)
    assert calibration([POST, POST], predicted, bins=1).ece == pytest.approx(0)


@pytest.mark.parametrize(("score", "low"), [(0.1, 0.0), (0.3, 0.2), (0.7, 0.6), (0.700001, 0.7), (1.0, 0.9)])
def test_an_edge_belongs_to_the_bin_below(score: float, low: float) -> None:
    (only,) = calibration([POST], [found((PER, score))]).bins
    assert only.low == low


def test_without_predictions_the_error_is_none() -> None:
    assert calibration([POST], [()]) == Calibration(None, [])


def test_missed_entities_do_not_count() -> None:
    assert calibration([POST], [found((PER, 1.0))]).ece == 0
