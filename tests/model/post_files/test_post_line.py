import os
from functools import partial
from pathlib import Path

import pytest

from model import Post, Recognizer
from model.post_files import post_fields
from model.post_files.input_lines import MAX_LINE_BYTES, Line
from model.post_files.post_fields import photo_file
from model.post_files.post_line import PreparedLine, prepare_line


def prepare(recognizer: Recognizer, content: bytes | None, folder: Path = Path()) -> PreparedLine:
    return prepare_line(recognizer, Line(7, content, "digest"), partial(photo_file, folder))


def text_of(line: PreparedLine) -> str:
    assert isinstance(line.post, Post)
    return line.post.source


def test_a_line_names_text_and_photo(recognizer: Recognizer, tmp_path: Path, jpeg: bytes) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    line = prepare(
        recognizer, b'{"id": "a", "text": "Oslo", "image": "photo.jpg", "likes": {"a": 1, "a": 2}}', tmp_path
    )
    assert (line.number, line.digest, line.id, text_of(line)) == (7, "digest", "a", "Oslo")
    assert isinstance(line.post, Post)
    assert line.post.has_image


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"tokens": ["a", "b"]}', "a b"),
        (b'{"text": "", "tokens": ["a", "b"]}', "a b"),
        (b'{"text": "c", "tokens": [1], "image": null}', "c"),
        (b'{"text": "half an emoji \\ud83d"}', "half an emoji \ud83d"),
        (b'{"text": "a\\u0000b", "image": ""}', "a\0b"),
        ('{"text": "Málaga"}'.encode(), "Málaga"),
    ],
)
def test_a_text_is_taken_as_given(recognizer: Recognizer, content: bytes, text: str) -> None:
    assert text_of(prepare(recognizer, content)) == text


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, f"the line has more than {MAX_LINE_BYTES} bytes"),
        (b"Oslo", "not JSON: Expecting value"),
        (b'{"text": "a"} {"text": "b"}', "not JSON: Extra data"),
        (b'{"text": "caf\xe9"}', "not JSON: 'utf-8' codec can't decode"),
        (b'{"text": "a\0"}', "not JSON: Invalid control character"),
        (b'{"id": 1' + b"0" * 5000 + b', "text": "a"}', "not JSON: Exceeds the limit (4300 digits)"),
        (b'{"text": "a", "user": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"text": "a", "user": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "nested too deeply"),
        (b'["Oslo"]', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"id": [1], "text": "a"}', '"id" is neither a string nor a number'),
        (b'{"id": 1e999, "text": "a"}', '"id" is neither a string nor a number'),
    ],
)
def test_an_unreadable_line_has_no_id(recognizer: Recognizer, content: bytes | None, error: str) -> None:
    line = prepare(recognizer, content)
    assert (line.number, line.id) == (7, None)
    assert error in str(line.post)


@pytest.mark.parametrize(
    ("rest", "error"),
    [
        ('"text": 5', 'needs "text", a string, or "tokens", a list of strings'),
        ('"tokens": ["a", 1]', 'needs "text", a string'),
        ('"txt": "a"', 'needs "text", a string'),
        ('"text": ""', "the text is empty"),
        ('"text": " \\n\\u00a0"', "the text is empty"),
        ('"tokens": []', "the text is empty"),
        ('"text": NaN', "not JSON: NaN is no JSON number"),
        ('"text": "a", "likes": -Infinity', "not JSON: -Infinity is no JSON number"),
        ('"text": "a", "text": "b"', '"text" is given twice'),
        ('"text": "a", "image": 5', '"image" is not a path'),
    ],
)
def test_a_broken_line_keeps_its_id(recognizer: Recognizer, rest: str, error: str) -> None:
    line = prepare(recognizer, f'{{"id": "a1", {rest}}}'.encode())
    assert line.id == "a1"
    assert str(line.post).startswith(error)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ("missing.jpg", "there is no photo "),
        ("folder", "Is a directory"),
        ("fifo", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("large", "has 999999999 bytes, at most 268435456 are read"),
        ("notes.txt", "the photo is plain text"),
        ("nul\\u0000byte", "embedded null byte"),
        ("half \\ud83d", "surrogates not allowed"),
        ("a" * 5000, "File name too long"),
    ],
)
def test_a_photo_that_is_none_is_named(recognizer: Recognizer, tmp_path: Path, image: str, error: str) -> None:
    """A named pipe would never end, and a device never stop."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 999_999_999)
    os.mkfifo(tmp_path / "fifo")
    line = prepare(recognizer, f'{{"text": "a", "image": "{image}"}}'.encode(), tmp_path)
    assert error in str(line.post)


def test_a_bug_costs_only_its_post(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a\nb")

    monkeypatch.setattr(post_fields, "_read_photo", fail)
    assert prepare(recognizer, b'{"text": "a"}').post == "cannot be read: KeyError('a\\nb')"
