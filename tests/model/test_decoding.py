import math
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.decoding import Candidate, TypedSpan, best_non_overlapping, decode
from model.modeling.spans import Spans, enumerate_spans

Pair = tuple[int, int]


def spans_of(words: int, max_width: int) -> Spans:
    return enumerate_spans(torch.ones(1, words, dtype=torch.bool), max_width)


def gains(logits: Tensor, spans: Spans) -> dict[Pair, float]:
    """log p(best type) − log p(no entity) of each span; the softmax's denominator cancels."""
    gain = logits[0, :, 1:].max(-1).values - logits[0, :, 0]
    return dict(zip(zip(spans.starts.tolist(), spans.ends.tolist(), strict=True), gain.tolist(), strict=True))


def all_subsets(words: int, max_width: int, start: int = 0) -> Iterator[list[Pair]]:
    """Every set of non-overlapping spans: the word at ``start`` is in none, or begins one of any width."""
    if start >= words:
        yield []
        return
    yield from all_subsets(words, max_width, start + 1)
    for end in range(start, min(start + max_width, words)):
        for rest in all_subsets(words, max_width, end + 1):
            yield [(start, end), *rest]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Spans, int, int]:
    """Logits of up to 6 words and spans of up to 4 words; coarse, so that ties happen."""
    words, max_width = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    spans = spans_of(words, max_width)
    size = 3 * len(spans.starts)
    value = st.integers(-2, 2) | st.floats(-8, 8, width=32)
    logits = torch.tensor(draw(st.lists(value, min_size=size, max_size=size)), dtype=torch.float32)
    return logits.view(1, -1, 3), spans, words, max_width


def candidate(start: int, end: int, gain: float) -> Candidate:
    return Candidate(TypedSpan(start, end, 1, 0.9, 0), gain)


@given(problems())
def test_no_other_subset_gains_more(problem: tuple[Tensor, Spans, int, int]) -> None:
    logits, spans, words, max_width = problem
    gain = gains(logits, spans)
    best = max(sum(gain[pair] for pair in subset) for subset in all_subsets(words, max_width))
    chosen = sum(gain[span.start, span.end] for span in decode(logits, spans)[0])
    assert chosen == pytest.approx(best, abs=1e-4)


@given(problems())
def test_spans_are_in_order_without_overlap(problem: tuple[Tensor, Spans, int, int]) -> None:
    logits, spans, _, _ = problem
    found = decode(logits, spans)[0]
    assert all(left.end < right.start for left, right in pairwise(found))


@given(problems())
def test_label_and_score_are_the_likeliest_types(problem: tuple[Tensor, Spans, int, int]) -> None:
    logits, spans, _, _ = problem
    probabilities = logits[0].softmax(-1)
    for span in decode(logits, spans)[0]:
        p = probabilities[span.index]
        assert (span.start, span.end) == (int(spans.starts[span.index]), int(spans.ends[span.index]))
        assert span.label >= 1
        assert p[span.label] == p[1:].max() > p[0]
        assert span.score == pytest.approx(p[span.label].item(), abs=1e-6)


def test_label_and_score_by_hand() -> None:
    logits = torch.tensor([[[0.2, 0.1, 0.7]]]).log()
    (span,) = decode(logits, spans_of(1, 4))[0]
    assert (span.start, span.end, span.label, span.index) == (0, 0, 2, 0)
    assert span.score == pytest.approx(0.7)


def test_two_good_spans_beat_a_better_one() -> None:
    """Gains ln 4 for "a" and "b" each and ln 9 for "a b": ln 4 + ln 4 = ln 16 > ln 9."""
    logits = torch.tensor([[[1.0, 4.0], [1.0, 4.0], [1.0, 9.0]]]).log()
    assert [(span.start, span.end) for span in decode(logits, spans_of(2, 2))[0]] == [(0, 0), (1, 1)]


def test_no_entity_wins_a_tie() -> None:
    assert decode(torch.zeros(1, 3, 5), spans_of(2, 2)) == [[]]


def test_padding_spans_are_never_chosen() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    logits = torch.tensor([0.0, 5.0]).expand(2, 3, 2)
    whole, short = decode(logits, enumerate_spans(mask, 2))
    assert [(span.start, span.end) for span in whole] == [(0, 0), (1, 1)]
    assert [(span.start, span.end) for span in short] == [(0, 0)]


def test_half_precision_logits_are_decoded() -> None:
    logits = torch.tensor([[[0.0, 3.0]]], dtype=torch.bfloat16)
    assert decode(logits, spans_of(1, 1))[0][0].score == pytest.approx(1 / (1 + math.exp(-3)), abs=1e-6)


@given(problems(), st.floats(0.25, 4))
def test_temperature_changes_only_scores(problem: tuple[Tensor, Spans, int, int], temperature: float) -> None:
    logits, spans, *_ = problem
    plain, scaled = decode(logits, spans)[0], decode(logits, spans, temperature=temperature)[0]
    assert [replace(span, score=0) for span in scaled] == [replace(span, score=0) for span in plain]


def test_a_score_is_the_probability_at_the_temperature() -> None:
    """Logits 0, 3 and −1 at a temperature of 2 are 0, 1.5 and −0.5."""
    (span,) = decode(torch.tensor([[[0.0, 3.0, -1.0]]]), spans_of(1, 1), temperature=2)[0]
    assert span.score == pytest.approx(math.exp(1.5) / (1 + math.exp(1.5) + math.exp(-0.5)), abs=1e-6)


def test_a_tie_leaves_out_the_later_span() -> None:
    candidates = [candidate(0, 1, 1.0), candidate(1, 2, 1.0)]
    assert [(span.start, span.end) for span in best_non_overlapping(candidates)] == [(0, 1)]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(1, 3)), max_size=12), st.randoms())
def test_the_order_of_candidates_does_not_matter(spans: list[tuple[int, int, int]], order: random.Random) -> None:
    candidates = list({(i, w): candidate(i, i + w, float(gain)) for i, w, gain in spans}.values())
    shuffled = candidates.copy()
    order.shuffle(shuffled)
    assert best_non_overlapping(shuffled) == best_non_overlapping(candidates)


def test_a_batch_is_decoded_post_by_post() -> None:
    logits = torch.randn(8, len(spans_of(6, 3).starts), 4)
    mask = torch.ones(8, 6, dtype=torch.bool)
    together = decode(logits, enumerate_spans(mask, 3))
    assert together == [decode(row[None], spans_of(6, 3))[0] for row in logits]
