"""Checks the chain against every possible tagging: three tags and up to four words make 81."""

import itertools

import pytest
import torch
from torch import Tensor

from tests.benchmarks.quality.tags import IndependentTags, LinearChainCRF

TAGS = 3
LENGTHS = (4, 1, 3)  # of the posts of a batch
MASK = torch.tensor([[position < length for position in range(4)] for length in LENGTHS])


@pytest.fixture
def crf() -> LinearChainCRF:
    crf = LinearChainCRF(TAGS).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter.requires_grad_(False), std=2)
    return crf


@pytest.fixture
def scores() -> Tensor:
    return torch.randn(len(LENGTHS), 4, TAGS)


def by_hand(crf: LinearChainCRF, scores: Tensor, tags: tuple[int, ...]) -> float:
    """Add up the score of a tagging term by term."""
    emitted = sum(float(scores[position, tag]) for position, tag in enumerate(tags))
    moved = sum(float(crf.transitions[one, other]) for one, other in itertools.pairwise(tags))
    return emitted + moved + float(crf.first[tags[0]]) + float(crf.last[tags[-1]])


Table = list[dict[tuple[int, ...], float]]


@pytest.fixture
def every(crf: LinearChainCRF, scores: Tensor) -> Table:
    """The score of every tagging of every post."""
    return [
        {tags: by_hand(crf, own, tags) for tags in itertools.product(range(TAGS), repeat=n)}
        for own, n in zip(scores, LENGTHS, strict=True)
    ]


def log_sum(values: list[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).logsumexp(0))


def test_log_partition_sums_over_all_taggings(crf: LinearChainCRF, scores: Tensor, every: Table) -> None:
    expected = [log_sum(list(own.values())) for own in every]
    assert crf.log_partition(scores, MASK).tolist() == pytest.approx(expected, rel=1e-5)


def test_loss_is_negative_log_likelihood_per_word(crf: LinearChainCRF, scores: Tensor, every: Table) -> None:
    tags = [(0, 2, 1, 1), (2,), (1, 0, 2)]
    padded = torch.tensor([[*own, *[0] * (4 - len(own))] for own in tags])
    likelihoods = [table[own] - log_sum(list(table.values())) for table, own in zip(every, tags, strict=True)]
    assert float(crf.loss(scores, padded, MASK)) == pytest.approx(-sum(likelihoods) / 8, rel=1e-5)


def test_padding_does_not_count(crf: LinearChainCRF, scores: Tensor) -> None:
    changed, tags = scores.clone(), torch.zeros(3, 4, dtype=torch.int64)
    changed[~MASK] = 9.0
    assert torch.equal(crf.loss(scores, tags, MASK), crf.loss(changed, tags.masked_fill(~MASK, 2), MASK))
    assert crf.best(scores, MASK) == crf.best(changed, MASK)


def test_marginals_sum_over_all_taggings(crf: LinearChainCRF, scores: Tensor, every: Table) -> None:
    marginals = crf.log_marginals(scores, MASK)
    for post, table in enumerate(every):
        total = log_sum(list(table.values()))
        for position, tag in itertools.product(range(LENGTHS[post]), range(TAGS)):
            own = log_sum([value for tags, value in table.items() if tags[position] == tag])
            assert float(marginals[post, position, tag]) == pytest.approx(own - total, rel=1e-4, abs=1e-5)


def test_viterbi_finds_the_best_tagging(crf: LinearChainCRF, every: Table, scores: Tensor) -> None:
    assert crf.best(scores, MASK) == [list(max(table.items(), key=lambda item: item[1])[0]) for table in every]
    assert crf.best(scores, MASK) != IndependentTags().best(scores, MASK)  # the transitions matter


def test_chain_without_transitions_is_a_softmax(scores: Tensor) -> None:
    chain, single, tags = LinearChainCRF(TAGS).requires_grad_(False), IndependentTags(), torch.randint(TAGS, (3, 4))
    assert float(chain.loss(scores, tags, MASK)) == pytest.approx(float(single.loss(scores, tags, MASK)), rel=1e-5)
    assert torch.allclose(chain.log_marginals(scores, MASK)[MASK], single.log_marginals(scores, MASK)[MASK], atol=1e-5)
    assert chain.best(scores, MASK) == single.best(scores, MASK)


def test_chain_learns_a_rule_between_tags() -> None:
    """Tags alternate between 0 and 1, and the words say nothing."""
    crf, silent = LinearChainCRF(2), torch.zeros(1, 4, 2)
    mask, tags = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[0, 1, 0, 1]])
    optimizer = torch.optim.Adam(crf.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        crf.loss(silent, tags, mask).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert crf.best(silent, mask) == [[0, 1, 0, 1]]
