import math

import pytest
import torch
from torch import nn

from model.modeling.classifier import SpanClassifier


@pytest.fixture
def classifier() -> SpanClassifier:
    return SpanClassifier(8, labels=5, dropout=0.5)


def test_every_span_gets_a_logit_for_each_label(classifier: SpanClassifier) -> None:
    assert classifier(torch.randn(2, 7, 8)).shape == (2, 7, 5)


def test_classifier_is_an_mlp_of_two_layers(classifier: SpanClassifier) -> None:
    first, second = (layer for layer in classifier.layers if isinstance(layer, nn.Linear))
    assert (first.in_features, first.out_features, second.out_features) == (8, 8, 5)
    spans = torch.randn(2, 3, 8)
    torch.testing.assert_close(classifier.eval()(spans), second(first(spans).relu()))


def test_dropout_acts_in_training_only(classifier: SpanClassifier) -> None:
    spans = torch.randn(1, 3, 8)
    assert not torch.equal(classifier(spans), classifier(spans))
    classifier.eval()
    assert torch.equal(classifier(spans), classifier(spans))


def test_shifting_no_entity_changes_only_its_logit() -> None:
    """By ln 2, which undoes a weight of 1/2."""
    classifier = SpanClassifier(8, labels=5, dropout=0.0)
    spans = torch.randn(3, 8)
    before = classifier(spans)
    classifier.shift_no_entity(math.log(2))
    expected = before + torch.tensor([math.log(2), 0, 0, 0, 0])
    torch.testing.assert_close(classifier(spans), expected)
