import pytest

from model import SMNER, SMNERProcessor
from training.cards import quality
from training.cards.quality import CASINGS, calibration_of, measure_quality
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost, TypedWords
from training.scoring.scores import ScoredEntity, ScoredPredictions

PER, LOC = TypedWords(0, 0, "PER"), TypedWords(2, 2, "LOC")


@pytest.fixture
def split(processor: SMNERProcessor) -> PostDataset:
    return PostDataset([LabeledPost("1", ("Anna", "visits", "Rome"), (PER, LOC))], processor)


def test_each_casing_is_measured_by_type(
    split: PostDataset, smner: SMNER, processor: SMNERProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that needs a capital to find a place."""

    def predict(_: SMNER, read: PostDataset, *__: object, **___: object) -> ScoredPredictions:
        entities = (PER, LOC) if read.posts[0].words[2] == "Rome" else (PER,)
        return [tuple(ScoredEntity(entity, 0.9) for entity in entities)]

    monkeypatch.setattr(quality, "predict_scored", predict)
    measured = measure_quality(smner, Collator(processor, {}, 4), {"t": split}, ["PER", "LOC"])["t"]
    assert [measured.overall[casing].f1 for casing in CASINGS] == [1, pytest.approx(2 / 3), pytest.approx(2 / 3)]
    assert [measured.by_type["LOC"][casing].f1 for casing in CASINGS] == [1, 0, 0]
    assert [measured.by_type["PER"][casing].f1 for casing in CASINGS] == [1, 1, 1]
    together = calibration_of({"t": measured, "again": measured})
    assert together is not None
    assert [(each.count, each.accuracy) for each in together.bins] == [(4, 1)]


def test_a_recased_dataset_keeps_all_but_the_words(split: PostDataset) -> None:
    lower, upper = split.recased("lower"), split.recased("upper")
    assert [each.posts[0].words for each in (lower, upper)] == [("anna", "visits", "rome"), ("ANNA", "VISITS", "ROME")]
    assert lower.posts[0].entities == split.posts[0].entities
    assert upper.texts[0].morphs != lower.texts[0].morphs
