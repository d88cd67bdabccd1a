from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from training.data.posts import TypedWords
from training.data.tags import entities_of_tags, is_tag


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
        ("I-PER I-PER O I-LOC B-LOC", [(0, 1, "PER"), (3, 3, "LOC"), (4, 4, "LOC")]),  # IOB1
        ("B-PER I-PER E-PER S-PER O S-LOC", [(0, 2, "PER"), (3, 3, "PER"), (5, 5, "LOC")]),  # BIOES
        ("B-PER I-PER L-PER U-PER O U-LOC", [(0, 2, "PER"), (3, 3, "PER"), (5, 5, "LOC")]),  # BILOU
        ("B-PER M-PER E-PER W-PER", [(0, 2, "PER"), (3, 3, "PER")]),  # BMEWO
        ("B-PER E-PER I-PER", [(0, 1, "PER"), (2, 2, "PER")]),  # E- ends it
        ("E-PER L-LOC", [(0, 0, "PER"), (1, 1, "LOC")]),  # orphans
    ],
)
def test_tags_are_read_like_conlleval(tags: str, entities: list[tuple[int, int, str]]) -> None:
    assert entities_of_tags(tags.split()) == tuple(TypedWords(*entity) for entity in entities)


@pytest.mark.parametrize(
    ("tags", "valid"),
    [
        ("O|B-PER|I-LOC|B-OTHER|I-ORG-CLUB|E-PER|S-PER|L-PER|U-PER", True),
        ("|o|B|B-|PER|X-PER|O-PER|b-PER| O|B-O|I-O|S-O|1|B_PER", False),
    ],
)
def test_a_tag_is_o_or_prefix_and_type(tags: str, valid: bool) -> None:
    assert {is_tag(tag) for tag in tags.split("|")} == {valid}


@given(st.lists(st.sampled_from(["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC"))])))
def test_any_tags_are_read_like_seqeval(tags: list[str]) -> None:
    theirs = [(start, end, kind) for kind, start, end in get_entities(tags)]
    assert [tuple(entity) for entity in entities_of_tags(tags)] == theirs


@given(st.lists(st.sampled_from(["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC"))])))
def test_bilou_means_what_bioes_does(tags: list[str]) -> None:
    renamed = [tag.replace("E-", "L-").replace("S-", "U-") for tag in tags]
    assert entities_of_tags(renamed) == entities_of_tags(tags)


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
