from pathlib import Path

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from training.data.posts import LabeledPost, TypedWords, entities_of_tags, entity_types, is_tag, split_retweet


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("", []),
        ("O O", []),
        ("B-PER I-PER O B-LOC", [(0, 1, "PER"), (3, 3, "LOC")]),
        ("B-PER B-PER", [(0, 0, "PER"), (1, 1, "PER")]),  # adjacent entities
        ("O I-LOC I-LOC", [(1, 2, "LOC")]),  # an orphan I- starts an entity
        ("B-PER I-LOC I-LOC", [(0, 0, "PER"), (1, 2, "LOC")]),  # so does one of another type
        ("B-PER O I-PER", [(0, 0, "PER"), (2, 2, "PER")]),
        ("I-PER B-PER I-PER", [(0, 0, "PER"), (1, 2, "PER")]),
        ("B-OTHER I-OTHER", [(0, 1, "MISC")]),  # what Twitter-2015 calls MISC
        ("B-MISC I-OTHER", [(0, 1, "MISC")]),
        ("B-ORG-CLUB I-ORG-CLUB", [(0, 1, "ORG-CLUB")]),
    ],
)
def test_tags_are_read_like_conlleval(tags: str, entities: list[tuple[int, int, str]]) -> None:
    assert entities_of_tags(tags.split()) == tuple(TypedWords(*entity) for entity in entities)


@pytest.mark.parametrize(
    ("tags", "valid"),
    [("O|B-PER|I-LOC|B-OTHER|I-ORG-CLUB", True), ("|o|B|B-|PER|E-PER|O-PER|b-PER| O|B-O|I-O", False)],
)
def test_a_tag_is_o_or_b_or_i(tags: str, valid: bool) -> None:
    assert {is_tag(tag) for tag in tags.split("|")} == {valid}


def test_split_retweet_moves_entities_with_their_words() -> None:
    words = ("RT", "@1stlady", ":", "@RT", "in", "New", "York", "RT", "@")
    post = LabeledPost("1", words, (TypedWords(5, 6, "LOC"),))
    split = split_retweet(post)
    assert split.words == ("RT", "@", "1", "stlady", ":", "@RT", "in", "New", "York", "RT", "@")
    assert split.entities == (TypedWords(7, 8, "LOC"),)


def test_split_retweet_drops_the_at_from_entities() -> None:
    post = LabeledPost("1", ("RT", "@nasa", "tv"), (TypedWords(1, 2, "ORG"),))
    assert [split_retweet(post).mention(entity) for entity in split_retweet(post).entities or ()] == ["nasa tv"]


def test_split_retweet_keeps_untagged_posts_untagged() -> None:
    assert split_retweet(LabeledPost("1", ("RT", "@nasa"), None)).entities is None
    assert split_retweet(LabeledPost("1", ("RT", "@nasa"), ())).entities == ()


def test_a_mention_is_lower_case() -> None:
    post = LabeledPost("1", ("in", "St", ".", "Louis", "!"), None)
    assert post.mention(TypedWords(1, 3, "LOC")) == "st . louis"


def test_types_are_sorted_benchmarks_first() -> None:
    kinds = ("FILM", "MISC", "BAND", "PER", "MISC")
    tagged = LabeledPost("1", ("x",) * 5, tuple(TypedWords(i, i, kind) for i, kind in enumerate(kinds)))
    untagged = LabeledPost("2", ("x",), None)
    assert entity_types([untagged, tagged]) == ["PER", "MISC", "BAND", "FILM"]


def tags_of(path: Path) -> list[list[str]]:
    """The tags of a CoNLL file, read without our code."""
    posts = path.read_bytes().decode().split("\n\n")
    lines = [[line for line in post.split("\n") if "\t" in line] for post in posts]
    return [[line.rsplit("\t", 1)[1].strip() for line in post] for post in lines if post]


@pytest.mark.parametrize("dataset", ["twitter2015", "twitter2017"])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_entities_equal_seqevals_on_real_posts(shared_data: Path, dataset: str, split: str) -> None:
    for tags in tags_of(shared_data / dataset / f"{split}.txt"):
        theirs = [(start, end, "MISC" if kind == "OTHER" else kind) for kind, start, end in get_entities(tags)]
        assert [tuple(entity) for entity in entities_of_tags(tags)] == theirs
