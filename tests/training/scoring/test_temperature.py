import math

import pytest
import torch

from model import SMNER, Recognizer, SMNERProcessor
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost, TypedWords
from training.data.sources import DataSource
from training.learning.run import RunResult
from training.scoring.calibration import calibration
from training.scoring.prediction import predict, predict_scored
from training.scoring.temperature import fit_temperature, likeliest_temperature


def entities(*, logit: float, right: int, of: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``of`` entities with logits 0 and ``logit``, of which ``right`` are right."""
    return torch.tensor([[0.0, logit]]).expand(of, 2), torch.arange(of) < right


@pytest.mark.parametrize(
    ("logit", "right", "of", "temperature"),
    [
        (4, 7500, 10000, 4 / math.log(3)),  # too sure: 1 / (1 + exp(−4/T)) = 3/4
        (1, 9000, 10000, 1 / math.log(9)),  # not sure enough: 1 / (1 + exp(−1/T)) = 9/10
        (4, 4, 4, 4 / math.log(5)),  # four right ones do not make a score of 1: Platt's target is 5/6
    ],
)
def test_scores_become_the_fraction_right(logit: float, right: int, of: int, temperature: float) -> None:
    fitted = likeliest_temperature(*entities(logit=logit, right=right, of=of))
    assert fitted == pytest.approx(temperature, rel=0.01)


def test_without_entities_temperature_is_one() -> None:
    assert likeliest_temperature(torch.zeros(0, 5), torch.zeros(0, dtype=torch.bool)) == 1


def always(smner: SMNER, *, logit: float) -> None:
    """Make every span a PER with this logit, all others 0."""
    with torch.no_grad():
        for parameter in smner.classifier.parameters():
            parameter.zero_()
        parameter.copy_(torch.tensor([0.0, logit, -99.0, -99.0, -99.0]))  # the last bias


@pytest.mark.parametrize("training", [True, False])
def test_temperature_is_fitted_to_found_entities(smner: SMNER, processor: SMNERProcessor, training: bool) -> None:
    """In each of 300 posts both words are taken for PER, and one is right; a logit of 2.2 is a score of 0.9."""
    always(smner, logit=2.2)
    posts = [LabeledPost(str(i), ("a", "b"), (TypedWords(0, 0, "PER"),)) for i in range(300)]
    dataset = PostDataset(posts, processor)
    collator = Collator(processor, smner.config.label2id, smner.config.max_span_width)
    before = calibration(posts, predict_scored(smner, dataset, collator))
    smner.train(training)
    smner.config.score_temperature = fit_temperature(smner, [dataset], collator)
    assert smner.training == training
    after = calibration(posts, predict_scored(smner, dataset, collator))
    assert before.ece == pytest.approx(0.4, abs=0.01)
    assert after.ece is not None
    assert after.ece < 0.15  # the widest temperature searched, 4, leaves 0.634 where 0.5 is right
    assert smner.config.score_temperature == 4
    assert predict(smner, dataset, collator)[0] == (TypedWords(0, 0, "PER"), TypedWords(1, 1, "PER"))


def test_a_checkpoint_has_its_runs_fitted_temperature(
    overfitted: tuple[RunResult, DataSource],
) -> None:
    """The run knows its sixteen entities by heart, but its scores are far too low."""
    result, source = overfitted
    recognizer = Recognizer.from_pretrained(result.checkpoint, device="cpu")
    config = recognizer.model.config
    dataset = PostDataset(source.read("valid"), recognizer.processor, decode_images=True)
    collator = Collator(recognizer.processor, config.label2id, config.max_span_width)
    assert config.score_temperature < 1
    assert config.score_temperature == fit_temperature(recognizer.model, [dataset], collator)
