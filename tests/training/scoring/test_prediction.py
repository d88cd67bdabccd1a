import pytest
import torch

from model import SMNER, Recognizer, SMNERProcessor
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost, TypedWords
from training.scoring.prediction import predict
from training.scoring.scores import Scores, score

TEXTS = ["Kawhi Leonard won it", "hi", "Game of Thrones in St . Louis", "@ NBA # Raptors 2019 final"]


def post(words: str, *entities: tuple[int, int, str]) -> LabeledPost:
    return LabeledPost(words, tuple(words.split()), tuple(TypedWords(*entity) for entity in entities))


@pytest.fixture
def collator(smner: SMNER, processor: SMNERProcessor) -> Collator:
    return Collator(processor, smner.config.label2id, smner.config.max_span_width)


def test_predictions_are_the_recognizers(recognizer: Recognizer, processor: SMNERProcessor, collator: Collator) -> None:
    """In the order of the posts, although batches are sorted by length."""
    dataset = PostDataset([post(text) for text in TEXTS], processor)
    predicted = predict(recognizer.model, dataset, collator, batch_size=2)
    for text, own in zip(TEXTS, predicted, strict=True):
        words = text.split()
        ours = [(" ".join(words[entity.start : entity.end + 1]), entity.type) for entity in own]
        assert ours == [(entity.word, entity.entity_group) for entity in recognizer.recognize(text)]
    assert sum(map(len, predicted)) >= 4


def test_gold_beyond_max_span_width_is_missed(smner: SMNER, processor: SMNERProcessor, collator: Collator) -> None:
    """Five words, and the network looks at four: support counts the entity, but nothing can find it."""
    with torch.no_grad():
        for parameter in smner.classifier.parameters():
            parameter.zero_()
        parameter.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0, 0.0]))  # the last bias: every span is a PER
    dataset = PostDataset([post("a b c d e", (0, 4, "PER")), post("a b", (0, 0, "PER"), (1, 1, "PER"))], processor)
    scores = score(dataset.posts, predict(smner, dataset, collator))
    assert scores == Scores(precision=2 / 7, recall=2 / 3, f1=4 / 10, support=3)


@pytest.mark.parametrize("training", [True, False])
def test_predicting_keeps_the_mode_and_draws_nothing(
    smner: SMNER, processor: SMNERProcessor, collator: Collator, training: bool
) -> None:
    dataset = PostDataset([post(text) for text in TEXTS], processor)
    smner.train(training)
    first = predict(smner, dataset, collator)
    assert smner.training == training
    assert predict(smner, dataset, collator) == first


def test_no_posts_have_no_predictions(smner: SMNER, processor: SMNERProcessor, collator: Collator) -> None:
    assert predict(smner, PostDataset([], processor), collator) == []
