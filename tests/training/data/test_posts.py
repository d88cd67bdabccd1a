from pathlib import Path

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from training.data.posts import LabelledPost, TypedWords, entities_of_tags, entity_types, is_tag, split_retweet


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
def test_tags_are_read_as_conlleval_reads_them(tags: str, entities: list[tuple[int, int, str]]) -> None:
    assert entities_of_tags(tags.split()) == tuple(TypedWords(*entity) for entity in entities)


@pytest.mark.parametrize("tag", ["O", "B-PER", "I-LOC", "B-OTHER", "I-ORG-CLUB"])
def test_these_are_tags(tag: str) -> None:
    assert is_tag(tag)


@pytest.mark.parametrize("tag", ["", "o", "B", "B-", "PER", "E-PER", "O-PER", "b-PER", " O"])
def test_these_are_not(tag: str) -> None:
    assert not is_tag(tag)


def test_a_retweets_handle_is_split_as_raw_text_is_and_entities_move_with_their_words() -> None:
    words = ("RT", "@1stlady", ":", "@RT", "in", "New", "York", "RT", "@")
    post = LabelledPost("1", words, (TypedWords(5, 6, "LOC"),))
    split = split_retweet(post)
    assert split.words == ("RT", "@", "1", "stlady", ":", "@RT", "in", "New", "York", "RT", "@")
    assert split.entities == (TypedWords(7, 8, "LOC"),)


def test_an_entity_that_starts_with_a_retweets_handle_starts_with_its_name() -> None:
    post = LabelledPost("1", ("RT", "@nasa", "tv"), (TypedWords(1, 2, "ORG"),))
    assert [split_retweet(post).mention(entity) for entity in split_retweet(post).entities or ()] == ["nasa tv"]


def test_a_post_without_tags_stays_without_tags() -> None:
    assert split_retweet(LabelledPost("1", ("RT", "@nasa"), None)).entities is None
    assert split_retweet(LabelledPost("1", ("RT", "@nasa"), ())).entities == ()


def test_a_mention_is_the_words_in_lower_case() -> None:
    post = LabelledPost("1", ("in", "St", ".", "Louis", "!"), None)
    assert post.mention(TypedWords(1, 3, "LOC")) == "st . louis"


def test_types_stand_in_the_benchmarks_order_and_others_behind_them_by_name() -> None:
    kinds = ("FILM", "MISC", "BAND", "PER", "MISC")
    tagged = LabelledPost("1", ("x",) * 5, tuple(TypedWords(i, i, kind) for i, kind in enumerate(kinds)))
    untagged = LabelledPost("2", ("x",), None)
    assert entity_types([untagged, tagged]) == ["PER", "MISC", "BAND", "FILM"]


def tags_of(path: Path) -> list[list[str]]:
    """The tags of a CoNLL file, read with nothing of ours."""
    posts = path.read_bytes().decode().split("\n\n")
    lines = [[line for line in post.split("\n") if "\t" in line] for post in posts]
    return [[line.rsplit("\t", 1)[1].strip() for line in post] for post in lines if post]


@pytest.mark.parametrize("dataset", ["twitter2015", "twitter2017"])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_every_real_post_has_the_entities_that_seqeval_finds(shared_data: Path, dataset: str, split: str) -> None:
    for tags in tags_of(shared_data / dataset / f"{split}.txt"):
        theirs = [(start, end, "MISC" if kind == "OTHER" else kind) for kind, start, end in get_entities(tags)]
        assert [tuple(entity) for entity in entities_of_tags(tags)] == theirs
