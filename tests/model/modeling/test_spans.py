from itertools import product

import pytest
import torch

from model.modeling.spans import enumerate_spans, span_index

SIZES = list(product(range(1, 9), range(1, 6)))  # n words, widest span W


def brute_force(words: int, max_width: int) -> list[tuple[int, int]]:
    """Every pair of words within the width, by width and then by first word."""
    pairs = [(i, j) for i, j in product(range(words), repeat=2) if 0 <= j - i < max_width]
    return sorted(pairs, key=lambda pair: (pair[1] - pair[0], pair[0]))


@pytest.mark.parametrize(("words", "max_width"), SIZES)
def test_every_span_up_to_the_width_once(words: int, max_width: int) -> None:
    spans = enumerate_spans(torch.ones(1, words, dtype=torch.bool), max_width)
    assert list(zip(spans.starts.tolist(), spans.ends.tolist(), strict=True)) == brute_force(words, max_width)
    assert spans.mask.all()


def test_a_post_of_128_words_has_506_spans() -> None:
    """128 + 127 + 126 + 125, the padding of the authors' code."""
    assert len(enumerate_spans(torch.ones(1, 128, dtype=torch.bool), 4).starts) == 506


@pytest.mark.parametrize(("words", "max_width"), SIZES)
def test_mask_is_true_on_own_spans_only(words: int, max_width: int) -> None:
    lengths = torch.arange(1, words + 1)
    spans = enumerate_spans(torch.arange(words) < lengths[:, None], max_width)
    for length, mask in zip(lengths.tolist(), spans.mask, strict=True):
        real = list(zip(spans.starts[mask].tolist(), spans.ends[mask].tolist(), strict=True))
        assert real == brute_force(length, max_width)


@pytest.mark.parametrize(("words", "max_width"), SIZES)
def test_span_index_is_the_place_in_the_enumeration(words: int, max_width: int) -> None:
    for place, (start, end) in enumerate(brute_force(words, max_width)):
        assert span_index(start, end, words=words, max_width=max_width) == place


def test_span_index_is_none_beyond_widest() -> None:
    assert span_index(2, 6, words=10, max_width=4) is None
    assert span_index(2, 5, words=10, max_width=4) is not None


def test_place_puts_selected_spans_back() -> None:
    """Posts of two and one words: spans (0, 0), (1, 1), (0, 1); the second post has only the first."""
    spans = enumerate_spans(torch.tensor([[True, True], [True, False]]), 2)
    assert spans.posts.tolist() == [0, 0, 0, 1]
    assert spans.indices.tolist() == [0, 1, 2, 0]
    padded = torch.arange(1.0, 13.0).view(2, 3, 2)
    selected = spans.select(padded)
    assert selected.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert spans.place(selected).tolist() == [[[1, 2], [3, 4], [5, 6]], [[7, 8], [0, 0], [0, 0]]]
