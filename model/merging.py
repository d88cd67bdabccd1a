"""Merges what the network says of a post's windows into one answer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from model.decoding import Candidate, TypedSpan, best_non_overlapping
from model.explanations import Explanation
from model.preprocessing.tokenized_text import TokenizedText
from model.preprocessing.windows import best_window


class WindowOutput(NamedTuple):
    """A window's candidates, by words of the window, and their explanations if asked for, by the span's index."""

    candidates: list[Candidate]
    explanations: dict[int, Explanation]


class MergedSpan(NamedTuple):
    """An entity's span, by words of the whole text, its place in code points, and its explanation if asked for."""

    span: TypedSpan
    start: int
    end: int
    explanation: Explanation | None


def merge_windows(windows: Sequence[TokenizedText], outputs: Mapping[int, WindowOutput]) -> list[MergedSpan]:
    """Choose the best set of non-overlapping spans of all windows, by position.

    Args:
        windows: all windows of a post.
        outputs: by window; those without words that may be entities have none.
    """
    candidates = [
        candidate
        for number, output in outputs.items()
        for candidate in _moved(output.candidates, windows[number].first)
        if best_window(windows, candidate.span.start, candidate.span.end) == number
    ]
    return [_placed(span, windows, outputs) for span in best_non_overlapping(candidates)]


def _placed(span: TypedSpan, windows: Sequence[TokenizedText], outputs: Mapping[int, WindowOutput]) -> MergedSpan:
    number = best_window(windows, span.start, span.end)
    words, first = windows[number].words, windows[number].first
    explanation = outputs[number].explanations.get(span.index)
    return MergedSpan(span, words[span.start - first].start, words[span.end - first].end, explanation)


def _moved(candidates: Sequence[Candidate], first: int) -> list[Candidate]:
    """Count words from the beginning of the text."""
    return [Candidate(replace(span, start=span.start + first, end=span.end + first), gain) for span, gain in candidates]
