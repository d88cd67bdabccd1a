from training.data.posts import LabeledPost, TypedWords
from training.scoring.mistakes import Kind, Mistake, find_mistakes
from training.scoring.scores import ScoredEntity

Span = tuple[int, int, str]


def mistakes(tagged: list[Span], found: list[Span]) -> list[tuple[Kind, TypedWords | None, TypedWords | None]]:
    """The mistakes in a post of ten words: kind, tagged and found entity."""
    post = LabeledPost("p", tuple("abcdefghij"), tuple(TypedWords(*span) for span in tagged))
    predicted = tuple(ScoredEntity(TypedWords(*span), 0.5) for span in found)
    return [(m.kind, m.tagged, m.found and m.found.entity) for m in find_mistakes([post], [predicted])]


def test_what_is_right_is_no_mistake() -> None:
    assert mistakes([(0, 1, "PER")], [(0, 1, "PER")]) == []
    assert mistakes([], []) == []


def test_each_kind_is_told_apart() -> None:
    tagged = [(0, 0, "PER"), (2, 2, "LOC"), (4, 5, "ORG")]
    found = [(1, 1, "PER"), (2, 2, "ORG"), (5, 6, "ORG")]
    assert mistakes(tagged, found) == [
        (Kind.MISSED, (0, 0, "PER"), None),
        (Kind.INVENTED, None, (1, 1, "PER")),
        (Kind.WRONG_TYPE, (2, 2, "LOC"), (2, 2, "ORG")),
        (Kind.WRONG_BORDER, (4, 5, "ORG"), (5, 6, "ORG")),
    ]


def test_other_borders_outweigh_another_type() -> None:
    assert mistakes([(0, 1, "PER")], [(0, 0, "LOC")]) == [(Kind.WRONG_BORDER, (0, 1, "PER"), (0, 0, "LOC"))]


def test_those_that_share_most_words_are_compared() -> None:
    """The other one has been missed, or invented."""
    assert mistakes([(0, 0, "PER"), (1, 3, "LOC")], [(0, 3, "LOC")]) == [
        (Kind.WRONG_BORDER, (1, 3, "LOC"), (0, 3, "LOC")),
        (Kind.MISSED, (0, 0, "PER"), None),
    ]
    assert mistakes([(0, 3, "LOC")], [(0, 0, "PER"), (1, 3, "LOC")]) == [
        (Kind.WRONG_BORDER, (0, 3, "LOC"), (1, 3, "LOC")),
        (Kind.INVENTED, None, (0, 0, "PER")),
    ]


def test_a_mistake_names_its_post() -> None:
    posts = [LabeledPost(str(i), ("Oslo",), (TypedWords(0, 0, "LOC"),)) for i in range(3)]
    right = (ScoredEntity(TypedWords(0, 0, "LOC"), 0.9),)
    assert list(find_mistakes(posts, [right, (), right])) == [Mistake(1, TypedWords(0, 0, "LOC"), None)]
