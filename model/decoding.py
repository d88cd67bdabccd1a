"""Logits to entities: the exact best set of non-overlapping spans."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model.modeling.spans import Spans


@dataclass(frozen=True, slots=True)
class TypedSpan:
    """Words ``start`` to ``end``, both included, of type ``label`` (index into the logits) with its probability.

    ``index`` is the span's place in the batch's spans.
    """

    start: int
    end: int
    label: int
    score: float
    index: int


class _Candidate(NamedTuple):
    span: TypedSpan
    gain: float


def decode(logits: Tensor, spans: Spans, *, temperature: float = 1.0) -> list[list[TypedSpan]]:
    """The most probable labelling in which no two entities overlap, for each post, ordered by position.

    The spans are classified independently, so a labelling's log-probability is that of "no entity" everywhere plus, for
    each span chosen, its gain log p(type) − log p(no entity). Only spans with a positive gain can be part of the best.

    Args:
        logits: (B, S, 1 + types) float, index 0 is "no entity".
        spans: the spans that the logits stand for.
        temperature: what the logits are divided by for the scores. All gains would shrink alike, so the best labelling
            is the same at any temperature.
    """
    logits = logits.float()
    log_p = logits.log_softmax(-1)
    best, label = log_p[..., 1:].max(-1)
    gain = best - log_p[..., 0]  # (B, S)
    posts, indices = ((gain > 0) & spans.mask).nonzero(as_tuple=True)
    columns = (
        posts,
        spans.starts[indices],
        spans.ends[indices],
        label[posts, indices] + 1,
        indices,
    )
    whole = torch.stack(columns).tolist()
    scores = (logits[posts, indices] / temperature).softmax(-1)[:, 1:].amax(-1)
    real = torch.stack([scores, gain[posts, indices]]).tolist()
    candidates: list[list[_Candidate]] = [[] for _ in range(len(logits))]
    for post, start, end, type_, index, score, value in zip(*whole, *real, strict=True):
        candidates[post].append(_Candidate(TypedSpan(start, end, type_, score, index), value))
    return [best_non_overlapping(found) for found in candidates]


def best_non_overlapping(candidates: list[_Candidate]) -> list[TypedSpan]:
    """Weighted interval scheduling: the subset without overlaps whose gains sum highest, by position.

    Of sets with equal sums the one that leaves out the later-ending span is taken, so the answer is always the same.
    """
    ordered = sorted(candidates, key=lambda candidate: (candidate.span.end, candidate.span.start))
    ends = [candidate.span.end for candidate in ordered]
    totals = [0.0]  # totals[k]: best sum among the first k
    before = [bisect_right(ends, candidate.span.start - 1) for candidate in ordered]
    for candidate, compatible in zip(ordered, before, strict=True):
        totals.append(max(totals[-1], totals[compatible] + candidate.gain))
    chosen = []
    k = len(ordered)
    while k:
        if totals[k] == totals[k - 1]:
            k -= 1
        else:
            chosen.append(ordered[k - 1].span)
            k = before[k - 1]
    return chosen[::-1]
