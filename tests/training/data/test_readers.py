import json
from pathlib import Path

import pytest
from PIL import Image

from training.data.posts import DatasetError, TypedWords, UnusableImage
from training.data.readers import find_image, read_posts

PER, LOC = TypedWords(0, 1, "PER"), TypedWords(3, 3, "LOC")


@pytest.fixture
def write(tmp_path: Path) -> "Writer":
    return Writer(tmp_path)


class Writer:
    """Writes a data file and returns its path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def conll(self, content: str) -> Path:
        path = self.folder / "train.txt"
        path.write_bytes(content.encode())
        return path

    def jsonl(self, *records: object) -> Path:
        path = self.folder / "train.jsonl"
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with the photos 1.jpg, 2.png and 3.webp."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.jpg", "2.png", "3.webp"):
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def test_a_conll_post_has_its_id_words_and_entities(write: Writer) -> None:
    path = write.conll("IMGID:17_1\nKawhi\tB-PER\nLeonard\tI-PER\nin\tO\nToronto\tB-LOC\n\nIMGID:17_2\nhi\tO\n\n")
    first, second = read_posts(path)
    assert (first.id, first.words, first.entities) == ("17_1", ("Kawhi", "Leonard", "in", "Toronto"), (PER, LOC))
    assert (second.id, second.words, second.entities, second.image) == ("17_2", ("hi",), (), None)


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\n\n\n"])
def test_the_last_post_is_read_however_the_file_ends(write: Writer, ending: str) -> None:
    (post,) = read_posts(write.conll(f"IMGID:1\nhi\tO\nall\tO{ending}"))
    assert post.words == ("hi", "all")


def test_windows_line_endings_are_not_part_of_a_tag(write: Writer) -> None:
    first, second = read_posts(write.conll("IMGID:1\r\nParis\tB-LOC\r\n\r\nIMGID:2\r\nhi\tO\r\n"))
    assert (first.id, first.entities) == ("1", (TypedWords(0, 0, "LOC"),))
    assert second.words == ("hi",)


@pytest.mark.parametrize("token", ["\xa0", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", " ", "\u3000", "\ufeff"])
def test_a_token_that_is_white_space_survives(write: Writer, token: str) -> None:
    """Twitter-2015 valid has a no-break space; str.split and str.splitlines would lose it and shift every tag."""
    (post,) = read_posts(write.conll(f"IMGID:1\nRome\tB-LOC\n{token}\tO\nParis\tB-LOC\n"))
    assert post.words == ("Rome", token, "Paris")
    assert post.entities == (TypedWords(0, 0, "LOC"), TypedWords(2, 2, "LOC"))


@pytest.mark.parametrize("line", ["hi", "hi O", "hi\tX", "hi\tB-", "\tO", "hi\tO\tO", "hi\t", " ", "hi\tB-PER "])
def test_a_wrong_conll_line_is_answered_with_file_line_and_what_was_expected(write: Writer, line: str) -> None:
    path = write.conll(f"IMGID:1\nok\tO\n{line}\nok\tO\n")
    with pytest.raises(DatasetError) as caught:
        read_posts(path)
    assert str(caught.value) == f"{path}:3: expected token<TAB>O, B-TYPE or I-TYPE, found {line!r}"


def test_a_file_with_other_line_ends_is_refused(write: Writer) -> None:
    """All of it was taken for the first post's head, which left no post and no error."""
    with pytest.raises(DatasetError, match="1: expected token<TAB>O"):
        read_posts(write.conll("IMGID:1\rParis\tB-LOC\r\rIMGID:2\rhi\tO\r"))


def test_a_token_may_look_like_a_posts_head(write: Writer) -> None:
    (post,) = read_posts(write.conll("IMGID:1\t\nsee\tO\nIMGID:5\tO\n"))
    assert (post.id, post.words) == ("1", ("see", "IMGID:5"))


def test_a_byte_order_mark_is_part_of_no_word(write: Writer) -> None:
    assert read_posts(write.conll("\ufeffParis\tB-LOC\n"))[0].words == ("Paris",)
    assert read_posts(write.jsonl('\ufeff{"text": "Paris"}'))[0].words == ("Paris",)


def test_a_image_may_have_its_suffix_in_capitals(images: Path) -> None:
    Image.new("RGB", (8, 8)).save(images / "4.JPG")
    assert find_image(images, "4") == images / "4.JPG"


def test_a_image_whose_name_is_too_long_for_a_file_is_missing(write: Writer, images: Path) -> None:
    name = "1" * 300
    posts = read_posts(write.jsonl({"text": "hi", "image": f"{name}.jpg"}, {"text": "hi", "id": name}), images)
    assert [post.unusable_image for post in posts] == [UnusableImage(f"{name}.jpg", "missing"), None]


def test_a_conll_posts_image_is_found_by_its_id(write: Writer, images: Path) -> None:
    path = write.conll("".join(f"IMGID:{name}\nhi\tO\n\n" for name in "1234"))
    assert [post.image for post in read_posts(path, images)] == [
        images / "1.jpg",
        images / "2.png",
        images / "3.webp",
        None,
    ]
    assert [post.image for post in read_posts(path)] == [None] * 4


def test_a_image_is_looked_up_by_suffix_jpg_first(images: Path) -> None:
    Image.new("RGB", (8, 8)).save(images / "2.jpg")
    assert find_image(images, "2") == images / "2.jpg"
    assert find_image(images, "4") is None
    assert find_image(None, "2") is None


def test_conll_without_imgid_lines_has_a_post_a_paragraph_called_by_its_line(write: Writer, images: Path) -> None:
    path = write.conll("Anna\tB-PER\nran\tO\n\n\nhi\tO\n")
    for posts in (read_posts(path), read_posts(path, images)):
        assert [(post.id, post.words) for post in posts] == [("line 1", ("Anna", "ran")), ("line 5", ("hi",))]
        assert [(post.image, post.unusable_image) for post in posts] == [(None, None)] * 2


def test_a_paragraph_without_an_imgid_line_has_not_the_image_of_the_post_before(write: Writer, images: Path) -> None:
    """It used to have."""
    first, second = read_posts(write.conll("IMGID:1\nhi\tO\n\nho\tO\n"), images)
    assert (first.image, second.image, second.id) == (images / "1.jpg", None, "line 4")


def test_other_label_sets_are_read_as_they_are(write: Writer) -> None:
    (post,) = read_posts(write.conll("Heat\tB-creative-work\n2\tI-creative-work\nNY\tB-GPE\n"))
    assert post.entities == (TypedWords(0, 1, "creative-work"), TypedWords(2, 2, "GPE"))


def test_images_that_are_named_and_not_there_are_known_to_be_missing(write: Writer, images: Path) -> None:
    conll = read_posts(write.conll("IMGID:1\nhi\tO\n\nIMGID:9\nhi\tO\n"), images)
    assert [post.unusable_image for post in conll] == [None, UnusableImage("9", "missing")]
    records = [{"text": "hi", "image": "9.jpg"}, {"text": "hi", "image": "1.jpg"}, {"text": "hi", "id": "9"}]
    posts = read_posts(write.jsonl(*records), images)
    assert [post.unusable_image for post in posts] == [UnusableImage("9.jpg", "missing"), None, None]


def test_character_spans_become_words(write: Writer) -> None:
    """Code points: the emoji counts one. White space at the edge of a span belongs to nobody."""
    text = "😀 Kawhi Leonard in Toronto!"
    spans = [{"start": 19, "end": 26, "type": "LOC"}, {"start": 2, "end": 16, "entity_group": "PER", "score": 0.9}]
    (post,) = read_posts(write.jsonl({"text": text, "entities": spans}))
    assert post.words == ("😀", "Kawhi", "Leonard", "in", "Toronto", "!")
    assert post.entities == (TypedWords(1, 2, "PER"), TypedWords(4, 4, "LOC"))


def test_a_text_with_an_empty_list_of_entities_is_tagged(write: Writer) -> None:
    untagged, tagged = read_posts(write.jsonl({"text": "hi"}, {"text": "hi", "entities": []}))
    assert (untagged.entities, tagged.entities) == (None, ())


def test_offsets_that_count_utf_16_are_noticed_by_the_entitys_word(write: Writer) -> None:
    """Each ideograph is a word, so that they cut none; the city was taken to be 天安."""
    span = {"start": 7, "end": 9, "type": "LOC", "word": "北京"}
    path = write.jsonl({"text": "😀😀 我在北京天安门", "entities": [span]})
    with pytest.raises(DatasetError, match="1: expected '北京' at 7 to 9, found '天安'; offsets count"):
        read_posts(path)


def test_an_entitys_word_may_be_written_as_another_tagger_writes_it(write: Writer) -> None:
    span = {"start": 0, "end": 9, "entity_group": "LOC", "word": "st . louis"}
    (post,) = read_posts(write.jsonl({"text": "St. Louis", "entities": [span]}))
    assert post.entities == (TypedWords(0, 2, "LOC"),)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"entities": {}}, 'expected "entities" to be a list'),
        ({"entities": ["PER"]}, 'expected an entity with "start", "end" and "type", found \'PER\''),
        ({"entities": [{"start": 3, "end": 11}]}, 'expected an entity with "start", "end" and "type", found {'),
        ({"entities": [{"start": 3.0, "end": 11, "type": "LOC"}]}, 'expected an entity with "start", "end" and "type"'),
        ({"entities": [{"start": 3, "end": 11, "type": ""}]}, 'expected an entity with "start", "end" and "type"'),
        ({"entities": [{"start": 3, "end": 11, "type": "LOC "}]}, 'expected an entity with "start", "end" and "type"'),
        (
            {"entities": [{"start": 3, "end": 11, "type": "\ud83d"}]},
            'expected an entity with "start", "end" and "type"',
        ),
        ({"entities": [{"start": 3, "end": 12, "type": "LOC"}]}, "expected 0 ≤ start < end ≤ 11 code points, found 3"),
        ({"entities": [{"start": -1, "end": 2, "type": "LOC"}]}, "expected 0 ≤ start < end ≤ 11 code points, found -1"),
        ({"entities": [{"start": 3, "end": 3, "type": "LOC"}]}, "expected 0 ≤ start < end ≤ 11 code points, found 3"),
        (
            {"entities": [{"start": 3, "end": 9, "type": "LOC"}]},
            "expected an entity of whole words, but 'New Yo' (3 to 9) cuts 'York' (7 to 11)",
        ),
        (
            {"entities": [{"start": 4, "end": 11, "type": "LOC"}]},
            "expected an entity of whole words, but 'ew York' (4 to 11) cuts 'New' (3 to 6)",
        ),
        (
            {"entities": [{"start": 6, "end": 7, "type": "LOC"}]},
            "expected an entity to have a word, but 6 to 7 is white",
        ),
        (
            {"entities": [{"start": 3, "end": 11, "type": "LOC"}, {"start": 7, "end": 11, "type": "PER"}]},
            "expected entities that do not overlap, found two with the word 'York'",
        ),
        ({"entities": [], "tags": ["O", "O", "O"]}, 'expected "entities" beside "text" alone'),
        ({"entities": [], "tokens": ["in"]}, 'expected "entities" beside "text" alone'),
    ],
)
def test_wrong_entities_are_answered_with_file_line_and_what_was_expected(
    write: Writer, changes: dict[str, object], expected: str
) -> None:
    path = write.jsonl({"text": "fine"}, {"text": "in New York"} | changes)
    with pytest.raises(DatasetError) as caught:
        read_posts(path)
    assert str(caught.value).startswith(f"{path}:2: {expected}")


def test_a_json_line_has_tokens_and_tags(write: Writer) -> None:
    (post,) = read_posts(write.jsonl({"id": 7, "tokens": ["Kawhi", "Leonard"], "tags": ["B-PER", "I-PER"]}))
    assert (post.id, post.words, post.entities) == ("7", ("Kawhi", "Leonard"), (PER,))


def test_a_json_line_without_tags_is_untagged_and_one_with_o_alone_is_tagged(write: Writer) -> None:
    untagged, tagged = read_posts(write.jsonl({"tokens": ["hi"]}, {"tokens": ["hi"], "tags": ["O"]}))
    assert untagged.entities is None
    assert tagged.entities == ()


def test_raw_text_is_split_as_it_is_in_serving(write: Writer) -> None:
    (post,) = read_posts(write.jsonl({"text": "hi @NBA, 2nd!"}))
    assert post.words == ("hi", "@", "NBA", ",", "2", "nd", "!")


def test_a_json_line_without_an_id_is_called_by_its_number(write: Writer) -> None:
    assert [post.id for post in read_posts(write.jsonl({"text": "a"}, "", {"text": "b"}))] == ["line 1", "line 3"]


@pytest.mark.parametrize("named", ["images/2.png", "2.png"])
def test_a_json_lines_image_is_found_in_the_image_folder_with_or_without_its_own_folder(
    write: Writer, images: Path, named: str
) -> None:
    (post,) = read_posts(write.jsonl({"text": "hi", "image": named}), images)
    assert post.image == images / "2.png"


def test_a_json_line_may_name_a_image_beside_the_file(write: Writer, images: Path) -> None:
    there, missing = {"text": "hi", "image": "images/2.png"}, {"text": "hi", "image": "images/9.png"}
    assert [post.image for post in read_posts(write.jsonl(there, missing))] == [images / "2.png", None]


def test_a_json_line_that_names_no_image_has_the_one_of_its_id(write: Writer, images: Path) -> None:
    (post,) = read_posts(write.jsonl({"id": "3", "text": "hi"}), images)
    assert post.image == images / "3.webp"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("{", "expected a JSON object"),
        pytest.param("[" * 100_000, "expected a JSON object", id="nested too deeply"),
        ("[]", "expected a JSON object, found '[]'"),
        ("[" * 200_000, "expected a JSON object ("),
        ({"text": "hi", "id": "\ud83d"}, 'expected "id" without half a surrogate pair'),
        ({"text": "hi", "image": "\ud83d.png"}, 'expected "image" without half a surrogate pair'),
        ({"id": 1}, 'expected "tokens", a list of words, or "text"'),
        ({"tokens": "hi"}, 'expected "tokens", a list of words, or "text"'),
        ({"text": ""}, 'expected "tokens", a list of words, or "text"'),
        ({"tokens": ["a", "b"], "tags": ["O"]}, 'expected 2 "tags", one a token'),
        ({"tokens": ["a"], "tags": ["O", "O"]}, 'expected 1 "tags", one a token'),
        ({"tokens": ["a"], "tags": ["PER"]}, 'expected 1 "tags", one a token, each O, B-TYPE or I-TYPE'),
        ({"text": "one two", "tags": ["O"]}, 'expected 2 "tags", one a token'),
    ],
)
def test_a_wrong_json_line_is_answered_with_file_line_and_what_was_expected(
    write: Writer, record: object, expected: str
) -> None:
    path = write.jsonl({"text": "fine"}, record)
    with pytest.raises(DatasetError) as caught:
        read_posts(path)
    assert str(caught.value).startswith(f"{path}:2: {expected}")


@pytest.mark.parametrize(
    "record",
    [
        {"tokens": []},
        {"text": " \n"},
        {"text": 5},
        {"tokens": [1, 2]},
        {"tokens": ["a"], "tags": 5},
        {"tokens": ["a"], "tags": [5]},
        {"text": "hi", "image": 5},
    ],
)
def test_values_of_the_wrong_kind_and_posts_without_words_are_answered_likewise(write: Writer, record: object) -> None:
    path = write.jsonl({"text": "fine"}, record)
    with pytest.raises(DatasetError, match=f"{path}:2: expected"):
        read_posts(path)


@pytest.mark.parametrize(
    ("dataset", "split", "posts", "gold"),
    [
        ("twitter2017", "train", 3373, 6049),
        ("twitter2017", "valid", 723, 1324),
        ("twitter2015", "train", 4000, 6352),
        ("twitter2015", "valid", 1000, 1594),
    ],
)
def test_the_benchmarks_are_read_whole(shared_data: Path, dataset: str, split: str, posts: int, gold: int) -> None:
    read = read_posts(shared_data / dataset / f"{split}.txt")
    assert len(read) == posts
    assert sum(len(post.entities or ()) for post in read) == gold
    assert {entity.type for post in read for entity in post.entities or ()} == {"PER", "LOC", "ORG", "MISC"}


def test_the_no_break_space_of_twitter2015_is_a_token(shared_data: Path) -> None:
    posts = read_posts(shared_data / "twitter2015" / "valid.txt")
    assert any("\xa0" in post.words for post in posts)


def test_the_real_pairs_have_their_images(shared_data: Path) -> None:
    posts = read_posts(shared_data / "pairs" / "pairs.jsonl")
    assert len(posts) == 20
    assert all(post.image is not None and post.image.stem == post.id for post in posts)
    assert all(post.entities is not None for post in posts)


def test_an_id_that_is_null_is_none(write: Writer) -> None:
    posts = read_posts(write.jsonl({"id": None, "text": "a"}, {"id": 0, "text": "a"}))
    assert [post.id for post in posts] == ["line 1", "0"]


@pytest.mark.parametrize("tag", ["B-O", "I-O"])
def test_no_type_is_called_as_what_is_none(write: Writer, tag: str) -> None:
    with pytest.raises(DatasetError, match="expected token<TAB>O, B-TYPE or I-TYPE"):
        read_posts(write.conll(f"a\t{tag}\n"))
