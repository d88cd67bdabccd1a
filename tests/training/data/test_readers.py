from pathlib import Path

import pytest
from PIL import Image

from training.data.errors import InvalidLine
from training.data.posts import TypedWords, UnusableImage
from training.data.readers import read_posts, read_texts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "train.txt"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with the images 1.jpg, 2.png and 3.webp."""
    for name in ("1.jpg", "2.png", "3.webp"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def write(file: Path, content: str) -> Path:
    file.write_bytes(content.encode())
    return file


LOC = TypedWords(0, 0, "LOC")
KAWHI = "IMGID:17_1\nKawhi\tB-PER\nLeonard\tI-PER\nin\tO\nToronto\tB-LOC\n\nIMGID:17_2\nhi\tO\n\n"


@pytest.mark.parametrize(
    ("content", "posts"),
    [
        (KAWHI, [("17_1", "Kawhi Leonard in Toronto", (TypedWords(0, 1, "PER"), TypedWords(3, 3, "LOC"))),
                 ("17_2", "hi", ())]),
        *[(f"IMGID:1\nhi\tO\nall\tO{ending}", [("1", "hi all", ())]) for ending in ("", "\n", "\n\n", "\n\n\n")],
        ("IMGID:1\r\nParis\tB-LOC\r\n\r\nIMGID:2\r\nhi\tO\r\n", [("1", "Paris", (LOC,)), ("2", "hi", ())]),
        ("IMGID:1\t\nsee\tO\nIMGID:5\tO\n", [("1", "see IMGID:5", ())]),  # a token like a header
        ("Heat\tB-creative-work\n2\tI-creative-work\n", [("line 1", "Heat 2", (TypedWords(0, 1, "creative-work"),))]),
        ("Anna\tO\nran\tO\n\n\nhi\tO\n", [("line 1", "Anna ran", ()), ("line 5", "hi", ())]),
        ("\ufeffParis\tB-LOC\n", [("line 1", "Paris", (LOC,))]),
    ],
)  # fmt: skip
def test_conll_posts_have_id_words_entities(
    file: Path, content: str, posts: list[tuple[str, str, tuple[TypedWords, ...]]]
) -> None:
    """With any line ending, end of file and label set, with or without IMGID lines."""
    read = read_posts(write(file, content))
    assert [(post.id, " ".join(post.words), post.entities) for post in read] == posts
    assert all(post.image is None and post.unusable_image is None for post in read)


@pytest.mark.parametrize("token", ["\xa0", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", " ", "\u3000", "\ufeff"])
def test_white_space_may_be_a_token(file: Path, token: str) -> None:
    """Twitter-2015 valid has a no-break space; str.split and str.splitlines would lose it and shift every tag."""
    (post,) = read_posts(write(file, f"IMGID:1\nRome\tB-LOC\n{token}\tO\nParis\tB-LOC\n"))
    assert post.words == ("Rome", token, "Paris")
    assert post.entities == (TypedWords(0, 0, "LOC"), TypedWords(2, 2, "LOC"))


@pytest.mark.parametrize(
    "line", ["hi", "hi O", "hi\tX", "hi\tB-", "\tO", "hi\t", "a\tB-O", "a\tI-O", "a\tPER", "a\tb-PER", "a\t"]
)
def test_a_malformed_conll_line_is_named(file: Path, line: str) -> None:
    write(file, f"IMGID:1\nok\tO\n{line}\nok\tO\n")
    with pytest.raises(InvalidLine) as caught:
        read_posts(file)
    expected = "expected token<TAB>O, B-TYPE or I-TYPE (BIO, BIOES or BILOU)"
    assert str(caught.value) == f"{file}:3: {expected}, found {line!r}"
    assert (caught.value.path, caught.value.line, caught.value.value) == (file, 3, line)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hi\tO\tO", "expected 2 columns as in line 2, found 3 in 'hi\\tO\\tO'"),
        ("New York\tB-LOC", "expected a token without white space, found 'New York'"),
        ("New\u2028York\tB-LOC", "expected a token without white space, found 'New\\u2028York'"),
        ("Oslo\t3", "expected tags by name, found the number 3: write the names"),
    ],
)
def test_a_strange_conll_line_is_named(file: Path, line: str, message: str) -> None:
    write(file, f"IMGID:1\nok\tO\n{line}\nok\tO\n")
    with pytest.raises(InvalidLine, match=f"{file}:3: ") as caught:
        read_posts(file)
    assert message in str(caught.value)


@pytest.mark.parametrize("line", ["# sent_id = 1", "# newpar = 2 3"])
def test_a_comment_is_not_called_a_number(file: Path, line: str) -> None:
    write(file, f"{line}\nOslo B-LOC\n")
    with pytest.raises(InvalidLine, match=f"{file}:1: expected token<TAB>O.*, found '{line}'"):
        read_posts(file)
    write(file, "# 1\n")
    with pytest.raises(InvalidLine, match="found the number 1: write the names"):
        read_posts(file)


@pytest.mark.parametrize("blank", ["", "\t", " ", " \t ", "\r", "\t\r"])
def test_a_blank_line_ends_a_post(file: Path, blank: str) -> None:
    """Files of twitter_nlp have a tab between posts; it was refused."""
    write(file, f"Nora\tB-PER\nLindqvist\tI-PER\n{blank}\nin\tO\nOslo\tB-LOC\n{blank}\n")
    posts = read_posts(file)
    assert [post.words for post in posts] == [("Nora", "Lindqvist"), ("in", "Oslo")]
    assert [post.entities for post in posts] == [(TypedWords(0, 1, "PER"),), (TypedWords(1, 1, "LOC"),)]


@pytest.mark.parametrize("line", ["-DOCSTART-\tO", "-DOCSTART- -X- O O", "-DOCSTART- -X- -X- O", "-DOCSTART-"])
@pytest.mark.parametrize("blank", ["", "\n"])
def test_lines_between_documents_are_left_out(file: Path, line: str, blank: str) -> None:
    """Each was a post of its own."""
    write(file, f"{line}\n{blank}Nora\tB-PER\n{blank}{line}\n{blank}Oslo\tB-LOC\n")
    assert [post.words for post in read_posts(file)] == [("Nora",), ("Oslo",)]
    assert [post.words for post in read_texts(file)] == [("Nora",), ("Oslo",)]


@pytest.mark.parametrize(
    "content",
    [
        "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\nGerman JJ B-NP B-MISC\n",  # CoNLL-2003
        "EU\tNNP\tB-ORG\nrejects\tVBZ\tO\nGerman\tJJ\tB-MISC\n",
        "EU B-ORG\nrejects O\nGerman B-MISC \n",
        "EU\tB-ORG\t\nrejects\tO \nGerman\tB-MISC\n",
        "EU  I-ORG\nrejects  O\nGerman  I-MISC\n",
    ],
)
def test_the_first_and_last_column_are_read(file: Path, content: str) -> None:
    (post,) = read_posts(write(file, content))
    assert post.words == ("EU", "rejects", "German")
    assert post.entities == (TypedWords(0, 0, "ORG"), TypedWords(2, 2, "MISC"))


def test_a_column_of_numbers_is_no_token(file: Path) -> None:
    """GermEval has the token in the second column."""
    write(file, "IMGID:1\n1\tSchartau\tB-PER\tO\n2\tsagte\tO\tO\n")
    with pytest.raises(InvalidLine, match=f"{file}:2: expected tokens in the first column, found the numbers"):
        read_posts(file)


def test_carriage_returns_alone_do_not_end_lines(file: Path) -> None:
    """The whole file was read as the first post's header: no posts and no error."""
    with pytest.raises(InvalidLine, match="1: expected a token without white space"):
        read_posts(write(file, "IMGID:1\rParis\tB-LOC\r\rIMGID:2\rhi\tO\r"))


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_a_line_must_be_utf_8(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train{suffix}"
    path.write_bytes(b"\nCaf\xe9\tO\n")
    with pytest.raises(InvalidLine, match=f"{path}:2: expected UTF-8"):
        read_posts(path)


def test_conll_images_are_found_by_imgid(file: Path, images: Path) -> None:
    write(file, "".join(f"IMGID:{name}\nhi\tO\n\n" for name in "1234"))
    posts = read_posts(file, images)
    assert [post.image for post in posts] == [images / "1.jpg", images / "2.png", images / "3.webp", None]
    assert [post.unusable_image for post in posts] == [None, None, None, UnusableImage("4", "missing")]
    assert [(post.image, post.unusable_image) for post in read_posts(file)] == [(None, None)] * 4


def test_an_imgid_holds_for_one_paragraph(file: Path, images: Path) -> None:
    """The next paragraph used to inherit the image; without an IMGID no image is missing."""
    first, second = read_posts(write(file, "IMGID:1\nhi\tO\n\nho\tO\n"), images)
    assert (first.image, second.image, second.id) == (images / "1.jpg", None, "line 4")
    assert second.unusable_image is None


@pytest.mark.parametrize(
    ("split", "posts", "gold"),
    [
        ("twitter2017/train", 3373, 6049),
        ("twitter2017/valid", 723, 1324),
        ("twitter2015/train", 4000, 6352),
        ("twitter2015/valid", 1000, 1594),
    ],
)
def test_the_benchmarks_are_read_completely(shared_data: Path, split: str, posts: int, gold: int) -> None:
    read = read_posts(shared_data / f"{split}.txt")
    assert len(read) == posts
    assert sum(len(post.entities or ()) for post in read) == gold
    assert {entity.type for post in read for entity in post.entities or ()} == {"PER", "LOC", "ORG", "MISC"}


def test_twitter2015_has_a_no_break_space(shared_data: Path) -> None:
    posts = read_posts(shared_data / "twitter2015" / "valid.txt")
    assert any("\xa0" in post.words for post in posts)


def test_the_real_pairs_have_their_images(shared_data: Path) -> None:
    posts = read_posts(shared_data / "pairs" / "pairs.jsonl")
    assert len(posts) == 20
    assert all(post.image is not None and post.image.stem == post.id for post in posts)
    assert all(post.entities is not None for post in posts)
