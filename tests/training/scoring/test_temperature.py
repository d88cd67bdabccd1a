import math

import pytest
import torch

from model import SMNER, Recognizer, SMNERProcessor
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabelledPost, TypedWords
from training.data.sources import DataSource
from training.learning.run import RunResult
from training.scoring.calibration import calibration
from training.scoring.evaluation import predict, predict_scored
from training.scoring.temperature import fit_temperature, likeliest_temperature


def entities(*, logit: float, right: int, of: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``of`` entities with logits 0 and ``logit``, of which ``right`` are right."""
    return torch.tensor([[0.0, logit]]).expand(of, 2), torch.arange(of) < right


def test_scores_become_the_share_that_is_right() -> None:
    """All have logit 4, score 0.982; three quarters are right: 1 / (1 + exp(−4/T)) = 3/4 at T = 4 / ln 3."""
    assert likeliest_temperature(*entities(logit=4, right=7500, of=10000)) == pytest.approx(4 / math.log(3), rel=0.01)


def test_scores_that_are_too_low_are_raised() -> None:
    """Logit 1 and nine tenths right: T = 1 / ln 9."""
    assert likeliest_temperature(*entities(logit=1, right=9000, of=10000)) == pytest.approx(1 / math.log(9), rel=0.01)


def test_four_entities_that_are_all_right_do_not_make_scores_of_one() -> None:
    """Platt's target is 5/6, so T = 4 / ln 5."""
    assert likeliest_temperature(*entities(logit=4, right=4, of=4)) == pytest.approx(4 / math.log(5), rel=0.01)


def test_without_entities_scores_are_left_as_they_are() -> None:
    assert likeliest_temperature(torch.zeros(0, 5), torch.zeros(0, dtype=torch.bool)) == 1


def always(smner: SMNER, *, logit: float) -> None:
    """Make every span a PER with this logit, all others 0."""
    with torch.no_grad():
        for parameter in smner.classifier.parameters():
            parameter.zero_()
        parameter.copy_(torch.tensor([0.0, logit, -99.0, -99.0, -99.0]))  # the last bias


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_calibrated_on_the_entities_that_it_finds(
    smner: SMNER, processor: SMNERProcessor, training: bool
) -> None:
    """Each of 300 posts of two words is taken for two PER, one of them right; a logit of 2.2 scores 0.9."""
    always(smner, logit=2.2)
    posts = [LabelledPost(str(i), ("a", "b"), (TypedWords(0, 0, "PER"),)) for i in range(300)]
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


def test_a_run_leaves_the_temperature_of_its_valid_splits_in_the_checkpoint(
    overfitted: tuple[RunResult, DataSource],
) -> None:
    """The run knows its sixteen entities by heart but is far from sure of them: the scores have to rise."""
    result, source = overfitted
    recognizer = Recognizer.from_pretrained(result.checkpoint, device="cpu")
    config = recognizer.model.config
    dataset = PostDataset(source.read("valid"), recognizer.processor, decode_images=True)
    collator = Collator(recognizer.processor, config.label2id, config.max_span_width)
    assert config.score_temperature < 1
    assert config.score_temperature == fit_temperature(recognizer.model, [dataset], collator)
