from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn
from transformers import AutoModelForTokenClassification

from model import SMNER, SMNERProcessor
from tests.benchmarks.quality.taggers import TagCollator, TagObjective, WordTagger, bio_tags, read_tags, word_mask
from training.data.dataset import PostDataset
from training.data.posts import LabeledPost, TypedWords
from training.learning.objective import symmetric_divergence

POSTS = [
    LabeledPost("1", ("Ann", "Lee", "saw", "Rome", "Oslo"), tuple(
        TypedWords(*entity) for entity in [(0, 1, "PER"), (3, 3, "LOC"), (4, 4, "LOC")]
    )),
    LabeledPost("2", ("Hi", "Bob"), (TypedWords(1, 1, "PER"),)),
]  # fmt: skip


def test_labels_are_bio_tags(processor: SMNERProcessor) -> None:
    """A B- separates entities that touch."""
    tags = bio_tags(["PER", "LOC"])
    assert tags == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    dataset = PostDataset(POSTS, processor)
    batch = TagCollator(processor, tags)([dataset[0], dataset[1]])
    assert batch["labels"].tolist() == [[1, 2, 0, 3, 3], [0, 1, 0, 0, 0]]
    assert word_mask(batch).tolist() == [[True] * 5, [True, True, False, False, False]]


def test_loss_is_hugging_faces_on_first_sub_tokens(built: tuple[SMNER, SMNERProcessor]) -> None:
    tagger, processor = WordTagger.like(built[0], crf=False).eval(), built[1]
    network: Any = AutoModelForTokenClassification.from_config(tagger.text_encoder.config)
    network.bert, network.classifier = tagger.text_encoder, tagger.head[1]
    dataset = PostDataset(POSTS, processor)
    batch = TagCollator(processor, tagger.tags)([dataset[0], dataset[1]])
    theirs = torch.full_like(batch["input_ids"], -100)
    for row in range(2):
        for word, start in enumerate(dataset.texts[row].word_starts):
            theirs[row, start] = batch["labels"][row, word]
    assert (theirs != -100).sum() == 7 < batch["attention_mask"].sum()  # words have several sub-tokens
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    expected = network.eval()(**inputs, labels=theirs).loss
    own = tagger.tag_model.loss(tagger(**batch), batch["labels"], word_mask(batch))
    torch.testing.assert_close(own, expected)


def test_tags_are_read_as_conlleval_does(built: tuple[SMNER, SMNERProcessor]) -> None:
    """An I- without a B- starts an entity; only first sub-tokens count."""
    tagger, processor = WordTagger.like(built[0], crf=False).eval(), built[1]
    dataset = PostDataset(POSTS, processor)
    batch = TagCollator(processor, tagger.tags).inputs([dataset[0], dataset[1]])
    wanted = [["I-PER", "I-PER", "O", "B-LOC", "I-LOC"], ["O", "I-LOC"]]
    ids = {tag: index for index, tag in enumerate(tagger.tags)}

    def say(_: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*batch["input_ids"].shape, len(ids))
        logits[..., ids["B-PER"]] = 1.0  # on all other sub-tokens
        for row, tags in enumerate(wanted):
            for word, tag in enumerate(tags):
                logits[row, dataset.texts[row].word_starts[word], ids[tag]] = 2.0
        return logits

    tagger.head.forward = say  # type: ignore[method-assign]
    assert read_tags(tagger, batch) == [
        (TypedWords(0, 1, "PER"), TypedWords(3, 4, "LOC")),
        (TypedWords(1, 1, "LOC"),),
    ]


@pytest.mark.parametrize("crf", [False, True])
def test_consistency_adds_divergence_of_two_passes(crf: bool, built: tuple[SMNER, SMNERProcessor]) -> None:
    """The mean of the two losses, plus twice the divergence of the two distributions over each word's tags."""
    tagger, dataset = WordTagger.like(built[0], crf=crf), PostDataset(POSTS, built[1])
    tag_model = tagger.tag_model
    for parameter in tag_model.parameters():
        nn.init.normal_(parameter)
    batch = TagCollator(built[1], tagger.tags)([dataset[0], dataset[1]])
    one, two = torch.randn(2, 2, 5, 5)
    tagger.forward = Mock(side_effect=[one, two])  # type: ignore[method-assign]
    losses = TagObjective(tagger, 2.0)(batch)
    tags, mask = batch["labels"], word_mask(batch)
    divergence = symmetric_divergence(tag_model.log_marginals(one, mask), tag_model.log_marginals(two, mask), mask)
    mean = (tag_model.loss(one, tags, mask) + tag_model.loss(two, tags, mask)) / 2
    assert divergence > 0.1
    torch.testing.assert_close(losses.spans, mean)
    torch.testing.assert_close(losses.total, mean + 2 * divergence)
