import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import SMNERProcessor
from model.preprocessing.tokenized_text import TokenizedText
from model.preprocessing.windows import best_window, split_windows

LINES = st.lists(st.lists(st.sampled_from(["a", "abc", "abcdefgh", "a" * 30]), min_size=1, max_size=40), min_size=1)


def windows_of(processor: SMNERProcessor, text: str, tokens: int = 12) -> tuple[TokenizedText, list[TokenizedText]]:
    whole = SMNERProcessor(processor.tokenizer, processor.image_settings, max_tokens=10_000).tokenize(text)
    return whole, split_windows(whole, tokens)


@given(lines=LINES)
def test_windows_have_every_word_in_order(processor: SMNERProcessor, lines: list[list[str]]) -> None:
    whole, windows = windows_of(processor, "\n".join(map(" ".join, lines)))
    covered: set[int] = set()
    for window in windows:
        numbers = range(window.first, window.first + len(window.words))
        assert window.words == whole.words[window.first : window.first + len(window.words)]
        assert len({word.line for word in window.words}) == 1
        assert len(window.input_ids) <= 12
        covered.update(numbers)
    assert covered == set(range(len(whole.words)))
    assert [window.first for window in windows] == sorted({window.first for window in windows})


@given(lines=LINES)
def test_a_windows_words_have_their_sub_tokens(processor: SMNERProcessor, lines: list[list[str]]) -> None:
    whole, windows = windows_of(processor, "\n".join(map(" ".join, lines)))
    for window in windows:
        for i, (start, end) in enumerate(zip(window.word_starts, window.word_ends, strict=True)):
            first = whole.word_starts[window.first + i]
            assert window.input_ids[start : end + 1] == whole.input_ids[first : first + end + 1 - start]
        assert (window.input_ids[0], window.input_ids[-1]) == (whole.input_ids[0], whole.input_ids[-1])


def test_windows_overlap_by_half(processor: SMNERProcessor) -> None:
    _, windows = windows_of(processor, "a " * 20)
    assert [(window.first, len(window.words)) for window in windows] == [(0, 10), (5, 10), (10, 10)]


def test_a_line_that_fits_is_one_window(processor: SMNERProcessor) -> None:
    _, windows = windows_of(processor, "a b c\nd e f")
    assert [[word.text for word in window.words] for window in windows] == [["a", "b", "c"], ["d", "e", "f"]]


@pytest.mark.parametrize(
    ("start", "end", "window"),
    [
        (0, 0, 0),
        (6, 6, 0),  # nothing is missing before the line; after it 3 words, and 1 before it in the second window
        (8, 8, 1),  # 1 word after it, 3 before it
        (7, 7, 0),  # 2 words on the poorer side in both
        (4, 6, 0),  # not whole in any other
        (19, 19, 2),
    ],
)
def test_best_window_shows_most_around(processor: SMNERProcessor, start: int, end: int, window: int) -> None:
    _, windows = windows_of(processor, "a " * 20)
    assert best_window(windows, start, end) == window


def test_a_word_beyond_the_window_is_cut_off(processor: SMNERProcessor) -> None:
    _, windows = windows_of(processor, f"a {'ab' * 20} c")
    assert [len(window.input_ids) for window in windows] == [3, 12, 3]
    assert windows[1].word_ends == [10]


def test_every_window_has_new_words(processor: SMNERProcessor) -> None:
    """Before a word that does not fit beside others there once was a window for each word."""
    _, windows = windows_of(processor, ("a " * 8 + "ab" * 5 + " ") * 5)
    lasts = [window.first + len(window.words) for window in windows]
    assert lasts == sorted(set(lasts))
    assert len(windows) <= 4 * 5
