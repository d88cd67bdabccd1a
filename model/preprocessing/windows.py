"""Windows over a text that is longer than the text encoder reads at once.

Each line is read on its own, in windows that overlap by half and end between words if it is long. A span in several
windows is taken from the one that shows most of what is around it.

The encoder was trained on single posts and finds fewer entities in longer windows (docs/texts.md has the figures).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby, takewhile

from model.preprocessing.tokenized_text import TokenizedText

WINDOW_TOKENS = 64


def split_windows(text: TokenizedText, tokens: int) -> list[TokenizedText]:
    """Split a text with at least one word into windows of at most ``tokens`` sub-tokens, special ones included.

    A single word with more sub-tokens is cut off.
    """
    special = len(text.input_ids) - (text.word_ends[-1] + 1 - text.word_starts[0])
    capacity = tokens - special
    return [_window(text, first, last, capacity) for first, last in _bounds(text, capacity)]


def best_window(windows: Sequence[TokenizedText], start: int, end: int) -> int:
    """The window that has the most words on both sides of the span of words ``start`` to ``end``, inclusive.

    The number of words on the poorer side counts; at either end of a line nothing is missing. The first of equals.
    """
    before = bisect_right(windows, start, key=lambda window: window.first)
    around = takewhile(lambda i: _last(windows[i]) >= end, range(before - 1, -1, -1))
    return max(around, key=lambda i: (min(_words_before(windows, i, start), _words_after(windows, i, end)), -i))


def _last(window: TokenizedText) -> int:
    return window.first + len(window.words) - 1


def _words_before(windows: Sequence[TokenizedText], index: int, start: int) -> float:
    begins_line = index == 0 or windows[index - 1].words[-1].line != windows[index].words[0].line
    return math.inf if begins_line else start - windows[index].first


def _words_after(windows: Sequence[TokenizedText], index: int, end: int) -> float:
    ends_line = index + 1 == len(windows) or windows[index].words[-1].line != windows[index + 1].words[0].line
    return math.inf if ends_line else _last(windows[index]) - end


def _bounds(text: TokenizedText, capacity: int) -> Iterator[tuple[int, int]]:
    """First word of each window and the word after its last; each window has words that the one before lacks."""
    sizes = [end - start + 1 for start, end in zip(text.word_starts, text.word_ends, strict=True)]
    before = [0, *accumulate(sizes)]  # sub-tokens before each word

    def reach(first: int, end: int) -> int:
        return max(first + 1, bisect_right(before, before[first] + capacity, first, end + 1) - 1)

    for _, line in groupby(range(len(sizes)), key=lambda number: text.words[number].line):
        first, *others = line
        end = first + len(others) + 1
        last = reach(first, end)
        yield first, last
        while last < end:
            half = bisect_left(before, before[last] - capacity // 2, first + 1, last)
            first = next(word for word in range(half, last + 1) if reach(word, end) > last)
            last = reach(first, end)
            yield first, last


def _window(text: TokenizedText, first: int, last: int, capacity: int) -> TokenizedText:
    head, tail = text.input_ids[: text.word_starts[0]], text.input_ids[text.word_ends[-1] + 1 :]
    start = text.word_starts[first]
    end = min(text.word_ends[last - 1] + 1, start + capacity)
    shift = start - len(head)
    return TokenizedText(
        words=text.words[first:last],
        input_ids=[*head, *text.input_ids[start:end], *tail],
        word_starts=[position - shift for position in text.word_starts[first:last]],
        word_ends=[min(position, end - 1) - shift for position in text.word_ends[first:last]],
        morphs=text.morphs[first:last],
        segments=text.segments[first:last],
        first=first,
    )
