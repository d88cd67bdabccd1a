from model import SMNERProcessor
from model.decoding import Candidate, TypedSpan
from model.merging import WindowOutput, merge_windows
from model.preprocessing.windows import split_windows


def output(*candidates: tuple[int, int, float]) -> WindowOutput:
    """Of spans from a first to a last word of the window, with their gains."""
    spans = [Candidate(TypedSpan(start, end, 1, 0.9, 0), gain) for start, end, gain in candidates]
    return WindowOutput(spans, {})


def test_a_span_counts_in_its_best_window_alone(processor: SMNERProcessor) -> None:
    """Words 0 to 9, 5 to 14 and 10 to 19; word 8 has most around it in the second window, word 6 in the first."""
    windows = split_windows(
        SMNERProcessor(processor.tokenizer, processor.image_settings, max_tokens=99).tokenize("a " * 20), 12
    )
    outputs = {0: output((6, 6, 1.0), (8, 8, 1.0)), 1: output((1, 1, 1.0), (3, 3, 1.0), (4, 4, 1.0))}
    merged = merge_windows(windows, outputs)
    assert [(found.span.start, found.span.end) for found in merged] == [(6, 6), (8, 8), (9, 9)]
    assert [(found.start, found.end) for found in merged] == [(12, 13), (16, 17), (18, 19)]


def test_spans_of_two_windows_do_not_overlap(processor: SMNERProcessor) -> None:
    windows = split_windows(
        SMNERProcessor(processor.tokenizer, processor.image_settings, max_tokens=99).tokenize("a " * 20), 12
    )
    outputs = {0: output((5, 7, 1.0)), 1: output((2, 4, 2.0))}  # 5 to 7 and 7 to 9
    assert [(found.span.start, found.span.end) for found in merge_windows(windows, outputs)] == [(7, 9)]


def test_a_post_without_outputs_has_no_spans(processor: SMNERProcessor) -> None:
    assert merge_windows([processor.tokenize("")], {}) == []
