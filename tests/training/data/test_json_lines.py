import json
from collections.abc import Callable
from pathlib import Path

import pytest

from training.data.errors import InvalidLine
from training.data.posts import LabeledPost, TypedWords, UnusableImage
from training.data.readers import read_posts

Read = Callable[..., list[LabeledPost]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes records, or raw lines, to train.jsonl and reads its posts."""

    def read(*records: object, images: Path | None = None) -> list[LabeledPost]:
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        (tmp_path / "train.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return read_posts(tmp_path / "train.jsonl", images)

    return read


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with the images 1.jpg, 2.png and 3.webp."""
    (tmp_path / "images").mkdir()
    for name in ("1.jpg", "2.png", "3.webp"):
        (tmp_path / "images" / name).touch()
    return tmp_path / "images"


def test_tokens_and_tags_make_a_post(read: Read) -> None:
    (post,) = read({"id": 7, "tokens": ["Kawhi", "Leonard"], "tags": ["B-PER", "I-PER"]})
    assert (post.id, post.words, post.entities) == ("7", ("Kawhi", "Leonard"), (TypedWords(0, 1, "PER"),))


def test_text_is_split_as_in_serving(read: Read) -> None:
    (post,) = read({"text": "hi @NBA, 2nd!"})
    assert post.words == ("hi", "@", "NBA", ",", "2", "nd", "!")


def test_half_a_surrogate_pair_in_text_is_read(read: Read) -> None:
    assert read({"text": "a \ud83d"})[0].words == ("a", "\ud83d")


def test_a_byte_order_mark_is_removed(read: Read) -> None:
    assert read('\ufeff{"text": "Paris"}')[0].words == ("Paris",)


def test_character_spans_become_words(read: Read) -> None:
    """Offsets count code points: an emoji is one. White space at a span's edge is ignored."""
    text = "😀 Kawhi Leonard in Toronto!"
    spans = [{"start": 19, "end": 26, "type": "LOC"}, {"start": 2, "end": 16, "entity_group": "PER", "score": 0.9}]
    (post,) = read({"text": text, "entities": spans})
    assert post.words == ("😀", "Kawhi", "Leonard", "in", "Toronto", "!")
    assert post.entities == (TypedWords(1, 2, "PER"), TypedWords(4, 4, "LOC"))


@pytest.mark.parametrize(
    ("record", "entities"),
    [
        ({"tokens": ["hi"]}, None),
        ({"tokens": ["hi"], "tags": ["O"]}, ()),
        ({"text": "hi"}, None),
        ({"text": "hi", "entities": None, "tags": None}, None),
        ({"text": "hi", "entities": []}, ()),
    ],
)
def test_untagged_differs_from_tagged_with_nothing(
    read: Read, record: dict[str, object], entities: tuple[()] | None
) -> None:
    assert read(record)[0].entities == entities


def test_utf_16_offsets_are_noticed_by_the_word(read: Read) -> None:
    """Each ideograph is a word, so these offsets split none; the city was read as 天安."""
    span = {"start": 7, "end": 9, "type": "LOC", "word": "北京"}
    with pytest.raises(InvalidLine, match="1: expected '北京' at 7 to 9, found '天安'; offsets count"):
        read({"text": "😀😀 我在北京天安门", "entities": [span]})


def test_another_taggers_spelling_of_the_word_passes(read: Read) -> None:
    span = {"start": 0, "end": 9, "entity_group": "LOC", "word": "st . louis"}
    (post,) = read({"text": "St. Louis", "entities": [span]})
    assert post.entities == (TypedWords(0, 2, "LOC"),)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Marks &amp; Spencer", "Marks & Spencer"),
        ("Marks & Spencer", "Marks &amp; Spencer"),
        ("Os\u00adlo", "Oslo"),
        ("Oslo", "Os\u200blo"),
        ("𝐎𝐬𝐥𝐨", "Oslo"),
        ("Ｏｓｌｏ", "oslo"),
    ],
)
def test_the_word_is_compared_as_read(read: Read, text: str, word: str) -> None:
    """Compared as written, it was refused with a word about code points."""
    (post,) = read({"text": text, "entities": [{"start": 0, "end": len(text), "type": "ORG", "word": word}]})
    assert post.entities == (TypedWords(0, len(post.words) - 1, "ORG"),)


def test_posts_without_an_id_are_numbered(read: Read) -> None:
    posts = read({"text": "a"}, "", {"text": "b"}, {"id": None, "text": "a"}, {"id": 0, "text": "a"})
    assert [post.id for post in posts] == ["line 1", "line 3", "line 4", "0"]


@pytest.mark.parametrize(
    ("record", "image"),
    [
        ({"image": "images/2.png"}, "2.png"),
        ({"image": "2.png"}, "2.png"),
        ({"id": "3"}, "3.webp"),
        ({"id": "9"}, None),
        ({"image": None}, None),
    ],
)
def test_an_image_is_found_in_the_folder(
    read: Read, images: Path, record: dict[str, object], image: str | None
) -> None:
    (post,) = read({"text": "hi", **record}, images=images)
    assert post.image == (image and images / image)
    assert post.unusable_image is None


def test_an_image_may_lie_beside_the_file(read: Read, images: Path) -> None:
    there, missing = {"text": "hi", "image": "images/2.png"}, {"text": "hi", "image": "images/9.png"}
    assert [post.image for post in read(there, missing)] == [images / "2.png", None]


@pytest.mark.parametrize("name", ["9.jpg", f"{'1' * 300}.jpg"])
def test_a_named_image_that_is_missing_is_noted(read: Read, images: Path, name: str) -> None:
    (post,) = read({"text": "hi", "image": name}, images=images)
    assert post.unusable_image == UnusableImage(name, "missing")


def test_entities_beside_a_line_break_are_read(read: Read) -> None:
    spans = [{"start": 0, "end": 6, "type": "PER"}, {"start": 6, "end": 13, "type": "PER"}]
    (post,) = read({"text": "Messi\nRonaldo", "entities": spans})
    assert post.entities == (TypedWords(0, 0, "PER"), TypedWords(1, 1, "PER"))


NEW_YORK = {"text": "in New York"}


def entity(**changes: object) -> dict[str, object]:
    return NEW_YORK | {"entities": [{"start": 3, "end": 11, "type": "LOC", **changes}]}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("{", "expected a JSON object (Expecting property name"),
        pytest.param("[" * 200_000, "expected a JSON object (", id="nested too deeply"),
        ([], "expected a JSON object, found []"),
        ({"id": 1}, 'expected "tokens", a list of words, or "text"'),
        ({"text": ""}, 'expected "tokens", a list of words, or "text"'),
        ({"text": " \n"}, 'expected "tokens", a list of words, or "text"'),
        ({"tokens": []}, 'expected "tokens", a list of words, or "text"'),
        ({"tokens": ["a", ""]}, 'expected "tokens", a list of words, or "text"'),
        ({"text": 5}, 'expected "text" to be a string, found 5'),
        ({"tokens": "hi"}, "expected \"tokens\" to be a list, found 'hi'"),
        ({"tokens": ["a", 2]}, 'expected "tokens.1" to be a string, found 2'),
        ({"text": "hi", "id": "\ud83d"}, 'expected "id" to be a string without half a surrogate pair'),
        ({"text": "hi", "image": "\ud83d.png"}, 'expected "image" to be a string without half a surrogate pair'),
        ({"text": "hi", "image": 5}, 'expected "image" to be a string, found 5'),
        ({"tokens": ["a"], "tags": 5}, 'expected "tags" to be a list, found 5'),
        ({"tokens": ["a"], "tags": [5]}, "expected tags by name, found the number 5: write the names that"),
        ({"tokens": ["a", "b"], "tags": ["1", "0"]}, "expected tags by name, found the number 1: write the names that"),
        ('{"tokens": ["a"], "tags": ["O"], "tags": ["B-PER"]}', 'expected a JSON object ("tags" is given twice)'),
        (
            '{"text": "a", "entities": [{"start": 0, "end": 1, "start": 0}]}',
            'expected a JSON object ("start" is given twice)',
        ),
        ({"tokens": ["a"], "tags": [None]}, 'expected "tags.0" to be a string, found None'),
        ({"tokens": ["a", "New York"]}, "expected tokens without white space, found 'New York'"),
        ({"tokens": ["a", "b\nc"]}, "expected tokens without white space, found 'b\\nc'"),
        (
            {"tokens": ["a"], "tags": ["PER"]},
            "expected \"tags.0\" to be O, B-TYPE or I-TYPE (BIO, BIOES or BILOU), found 'PER'",
        ),
        ({"tokens": ["a", "b"], "tags": ["O"]}, 'expected 2 "tags", one a token, found 1'),
        ({"tokens": ["a"], "tags": ["O", "O"]}, 'expected 1 "tags", one a token, found 2'),
        ({"text": "one two", "tags": ["O"]}, 'expected 2 "tags", one a token, found 1'),
        (NEW_YORK | {"entities": {}}, 'expected "entities" to be a list, found {}'),
        (NEW_YORK | {"entities": ["PER"]}, "expected \"entities.0\" to be a JSON object, found 'PER'"),
        (NEW_YORK | {"entities": [{"start": 3, "end": 11}]}, 'expected "entities.0.type" to be given, found {'),
        (entity(start=3.0), 'expected "entities.0.start" to be an integer, found 3.0'),
        (entity(end=True), 'expected "entities.0.end" to be an integer, found True'),
        (entity(type=""), "expected \"entities.0.type\" to be a name without white space, and not O, found ''"),
        (entity(type="LOC "), 'expected "entities.0.type" to be a name without white space'),
        (entity(type="\ud83d"), 'expected "entities.0.type" to be a name'),
        (entity(end=12), "expected 0 ≤ start < end ≤ 11 code points, found 3 and 12"),
        (entity(start=-1, end=2), "expected 0 ≤ start < end ≤ 11 code points, found -1 and 2"),
        (entity(end=3), "expected 0 ≤ start < end ≤ 11 code points, found 3 and 3"),
        (entity(end=9), "expected an entity of whole words, but 'New Yo' (3 to 9) cuts 'York' (7 to 11)"),
        (entity(start=4), "expected an entity of whole words, but 'ew York' (4 to 11) cuts 'New' (3 to 6)"),
        *[
            (
                {"text": f"hi Messi{end}Ronaldo", "entities": [{"start": 3, "end": 15 + len(end), "type": "PER"}]},
                f"expected an entity within one line, but {f'Messi{end}Ronaldo'!r} (3 to {15 + len(end)}) crosses",
            )
            for end in ("\n", "\r\n", "\r", "\n\n", "\u2028", "\x0b")
        ],
        (entity(start=6, end=7), "expected an entity to have a word, but 6 to 7 is white space"),
        (
            NEW_YORK | {"entities": [{"start": 3, "end": 11, "type": "LOC"}, {"start": 7, "end": 11, "type": "PER"}]},
            "expected entities that do not overlap, found two with the word 'York'",
        ),
        (NEW_YORK | {"entities": [], "tags": ["O"] * 3}, 'expected "entities" beside "text" alone'),
        (NEW_YORK | {"entities": [], "tokens": ["in"]}, 'expected "entities" beside "text" alone'),
    ],
)
def test_a_malformed_line_is_named(read: Read, tmp_path: Path, record: object, expected: str) -> None:
    with pytest.raises(InvalidLine) as caught:
        read({"text": "fine"}, record)
    assert str(caught.value).startswith(f"{tmp_path / 'train.jsonl'}:2: {expected}")
    assert caught.value.line == 2


def test_a_text_keeps_its_lines(read: Read) -> None:
    """Spans lie within a line, in training as in serving."""
    text, tokens = read({"text": "a b\nc\r\n\nd"}, {"tokens": ["a", "b"]})
    assert (text.words, text.line_starts) == (("a", "b", "c", "d"), (2, 3))
    assert tokens.line_starts == ()
