from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from model import SMNER, SMNERProcessor
from tests.benchmarks.quality.taggers import TagCollator, TaggerTrainer, WordTagger, bio_tags, read_tags, word_mask
from training.data.dataset import PostDataset
from training.data.posts import LabelledPost, TypedWords
from training.learning.objective import symmetric_divergence
from training.recipes.recipe import Recipe

POSTS = [
    LabelledPost("1", ("Ann", "Lee", "saw", "Rome", "Oslo"), tuple(
        TypedWords(*entity) for entity in [(0, 1, "PER"), (3, 3, "LOC"), (4, 4, "LOC")]
    )),
    LabelledPost("2", ("Hi", "Bob"), (TypedWords(1, 1, "PER"),)),
]  # fmt: skip


def test_labels_are_the_bio_tags_of_the_entities(processor: SMNERProcessor) -> None:
    """Entities that touch are told apart by their B-."""
    tags = bio_tags(["PER", "LOC"])
    assert tags == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    dataset = PostDataset(POSTS, processor)
    batch = TagCollator(processor, tags)([dataset[0], dataset[1]])
    assert batch["labels"].tolist() == [[1, 2, 0, 3, 3], [0, 1, 0, 0, 0]]
    assert word_mask(batch).tolist() == [[True] * 5, [True, True, False, False, False]]


def test_the_loss_is_hugging_faces_own_with_labels_on_first_sub_tokens(built: tuple[SMNER, SMNERProcessor]) -> None:
    tagger, processor = WordTagger.like(built[0], crf=False).eval(), built[1]
    dataset = PostDataset(POSTS, processor)
    batch = TagCollator(processor, tagger.tags)([dataset[0], dataset[1]])
    theirs = torch.full_like(batch["input_ids"], -100)
    for row in range(2):
        for word, start in enumerate(dataset.texts[row].word_starts):
            theirs[row, start] = batch["labels"][row, word]
    assert (theirs != -100).sum() == 7 < batch["attention_mask"].sum()  # words are several sub-tokens
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    expected = tagger.network(**inputs, labels=theirs).loss
    own = tagger.tag_model.loss(tagger(**batch), batch["labels"], word_mask(batch))
    torch.testing.assert_close(own, expected)


def test_tags_are_read_as_conlleval_reads_them(built: tuple[SMNER, SMNERProcessor]) -> None:
    """An I- without its B- starts an entity; the words' first sub-tokens alone decide."""
    tagger, processor = WordTagger.like(built[0], crf=False).eval(), built[1]
    dataset = PostDataset(POSTS, processor)
    batch = TagCollator(processor, tagger.tags).inputs([dataset[0], dataset[1]])
    wanted = [["I-PER", "I-PER", "O", "B-LOC", "I-LOC"], ["O", "I-LOC"]]
    ids = {tag: index for index, tag in enumerate(tagger.tags)}

    def say(*_: object, **__: object) -> object:
        logits = torch.zeros(*batch["input_ids"].shape, len(ids))
        logits[..., ids["B-PER"]] = 1.0  # what every other sub-token says
        for row, tags in enumerate(wanted):
            for word, tag in enumerate(tags):
                logits[row, dataset.texts[row].word_starts[word], ids[tag]] = 2.0
        return type("Output", (), {"logits": logits})

    tagger.network.forward = say
    assert read_tags(tagger, batch) == [
        (TypedWords(0, 1, "PER"), TypedWords(3, 4, "LOC")),
        (TypedWords(1, 1, "LOC"),),
    ]


@pytest.mark.parametrize("crf", [False, True])
def test_a_consistent_run_adds_the_divergence_of_two_passes(
    crf: bool, recipe: Recipe, built: tuple[SMNER, SMNERProcessor], tmp_path: Path
) -> None:
    """Half the sum of the two losses, and twice the divergence of what both say about each word's tag."""
    tagger, dataset = WordTagger.like(built[0], crf=crf), PostDataset(POSTS, built[1])
    for parameter in tagger.tag_model.parameters():
        nn.init.normal_(parameter)
    collator, tag_model = TagCollator(built[1], tagger.tags), tagger.tag_model
    consistent = recipe.model_copy(update={"consistency_weight": 2.0})
    trainer = TaggerTrainer(tagger, consistent, collator, train=[dataset], valid={}, output=tmp_path)
    batch = collator([dataset[0], dataset[1]])
    one, two = torch.randn(2, 2, 5, 5)
    passes = iter([one, two])

    class Says(nn.Module):
        def forward(self, **_: Any) -> Any:
            return next(passes)

    tags, mask = batch["labels"], word_mask(batch)
    divergence = symmetric_divergence(tag_model.log_marginals(one, mask), tag_model.log_marginals(two, mask), mask)
    expected = (tag_model.loss(one, tags, mask) + tag_model.loss(two, tags, mask)) / 2 + 2 * divergence
    assert divergence > 0.1
    torch.testing.assert_close(trainer.compute_loss(Says(), batch), expected)
