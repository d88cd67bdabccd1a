"""Logits to entities: the exact best set of non-overlapping spans."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model.modeling.spans import Spans


@dataclass(frozen=True, slots=True)
class TypedSpan:
    """Words ``start`` to ``end``, inclusive, and their most probable type.

    ``label`` indexes the logits' classes, ``score`` is its probability, ``index`` is the span's place in the batch.
    """

    start: int
    end: int
    label: int
    score: float
    index: int


class Candidate(NamedTuple):
    """A span that may be an entity, and its gain: log p(type) − log p(no entity), positive."""

    span: TypedSpan
    gain: float


def decode(logits: Tensor, spans: Spans, *, temperature: float = 1.0) -> list[list[TypedSpan]]:
    """Find each post's most probable labeling without overlapping entities, ordered by position.

    Spans are classified independently, so a labeling's log-probability is that of "no entity" everywhere plus each
    entity's gain. Arguments as for :func:`find_candidates`.
    """
    return [best_non_overlapping(found) for found in find_candidates(logits, spans, temperature=temperature)]


def find_candidates(logits: Tensor, spans: Spans, *, temperature: float = 1.0) -> list[list[Candidate]]:
    """Find the spans of each post that can be part of its best labeling: those with a positive gain.

    Args:
        logits: (B, S, 1 + types) float, class 0 is "no entity".
        spans: the S spans and which are real.
        temperature: divides the logits for the scores only; it would scale all gains alike and change no labeling.
    """
    logits = logits.float()
    log_p = logits.log_softmax(-1)
    best, label = log_p[..., 1:].max(-1)
    gain = best - log_p[..., 0]  # (B, S)
    posts, indices = ((gain > 0) & spans.mask).nonzero(as_tuple=True)
    integers = (posts, spans.starts[indices], spans.ends[indices], label[posts, indices] + 1, indices)
    scores = (logits[posts, indices] / temperature).softmax(-1)[:, 1:].amax(-1)
    floats = (scores, gain[posts, indices])
    columns = (
        *torch.stack(integers).tolist(),
        *torch.stack(floats).tolist(),
    )  # one GPU transfer each
    candidates: list[list[Candidate]] = [[] for _ in range(len(logits))]
    for post, start, end, type_, index, score, value in zip(*columns, strict=True):
        candidates[post].append(Candidate(TypedSpan(start, end, type_, score, index), value))
    return candidates


def best_non_overlapping(candidates: list[Candidate]) -> list[TypedSpan]:
    """Weighted interval scheduling: choose the non-overlapping spans with the highest total gain, by position.

    Of equally good sets, the one without the later-ending span wins, so the answer is deterministic.
    """
    ordered = sorted(candidates, key=lambda candidate: (candidate.span.end, candidate.span.start))
    ends = [candidate.span.end for candidate in ordered]
    before = [bisect_right(ends, candidate.span.start - 1) for candidate in ordered]  # how many end before each
    totals = [0.0]  # totals[k]: highest total among the first k
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
