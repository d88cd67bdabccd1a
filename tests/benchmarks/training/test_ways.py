import torch

from model import SMNER, SMNERProcessor
from tests.benchmarks.training.ways import PaddedCollator, Way, padded_length, quantiles
from training.data.dataset import IGNORED, Collator, PostDataset
from training.data.posts import LabeledPost, TypedWords


def test_authors_padding_changes_no_logit(smner: SMNER, processor: SMNERProcessor) -> None:
    """Theirs is 128 sub-tokens and 506 spans."""
    posts = [
        LabeledPost("1", ("Ann", "met", "Bob"), (TypedWords(0, 0, "PER"), TypedWords(2, 2, "PER"))),
        LabeledPost("2", ("in", "St", ".", "Louis", "!"), (TypedWords(1, 3, "LOC"),)),
    ]
    dataset, label2id = PostDataset(posts, processor), smner.config.label2id
    real = []
    for collator in (Collator(processor, label2id, 4), PaddedCollator(processor, label2id, 4)):
        batch = Way(dataset, collator).batch([0, 1])
        labels = batch.pop("labels")
        output = smner(**batch)
        real.append((output.logits[output.spans.mask], labels[labels != IGNORED]))
    assert batch["input_ids"].shape == batch["morphs"].shape == (2, 128)
    assert output.logits.shape[1] == labels.shape[1] == 506
    torch.testing.assert_close(real[0][0], real[1][0])
    assert real[0][1].tolist() == real[1][1].tolist()


def test_quantiles_include_short_and_long_batches() -> None:
    """Batches of 1 to 6 sub-tokens split in two halves: their middles are 2 and 5."""
    lengths, batches = [3, 1, 6, 2, 5, 4], [[i] for i in range(6)]
    assert [lengths[batch[0]] for batch in quantiles(batches, lengths, 2)] == [2, 5]
    assert padded_length([[0, 1], [2, 3]], lengths) == 4.5
