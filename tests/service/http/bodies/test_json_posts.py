import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    BodyTooLarge,
    EmptyImage,
    EmptyText,
    ImageFileTooLarge,
    MalformedRequest,
    MissingText,
    ServiceError,
    TextTooLong,
)
from service.http.bodies.json_posts import Item
from service.http.bodies.post_content import PostContent
from tests.service.http.bodies.arrival import JSON_TYPE, cut_up, read, read_posts

IMAGE = bytes(range(256))
ENCODED = base64.b64encode(IMAGE).decode()


def read_json(body: object) -> PostContent:
    return read(body if isinstance(body, bytes) else json.dumps(body).encode(), JSON_TYPE)


def test_object_has_text_and_image() -> None:
    assert read_json({"text": "hello", "image": ENCODED}) == PostContent("hello", IMAGE)
    assert read_json({"image": None, "text": "hello"}) == PostContent("hello", None)


def test_byte_order_mark_is_ignored() -> None:
    assert read_json(b'\xef\xbb\xbf {"text": "hello"}\n').text == "hello"


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100).filter(str.strip))
def test_any_text_arrives_unchanged(text: str) -> None:
    assert read_json({"text": text}).text == text
    assert read_json(json.dumps({"text": text}, ensure_ascii=False).encode()).text == text


@given(cuts=st.lists(st.integers(0, 500), max_size=8))
def test_chunk_boundaries_make_no_difference(cuts: list[int]) -> None:
    body = json.dumps({"text": 'he"l}lo\n🏀', "image": ENCODED}).encode()
    assert read(cut_up(body, cuts), JSON_TYPE) == PostContent('he"l}lo\n🏀', IMAGE)


@pytest.mark.parametrize("lines", [base64.encodebytes(IMAGE).decode(), ENCODED[:76] + "\r\n" + ENCODED[76:]])
def test_base64_may_have_line_breaks(lines: str) -> None:
    assert read_json({"text": "hello", "image": lines}).image == IMAGE


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (f"data:image/png;base64,{ENCODED}", "a data: URL; send only what stands behind its comma"),
        ("_-==", "'_' at character 0 is not one of"),
        ("AAAA AAA", "' ' at character 4"),
        ("AA\nA€", "'€' at character 4"),
        ("AAAAA", "5 characters, which is no multiple of 4; it must be padded"),
        ("AA", "2 characters, which is no multiple of 4"),
        ("AA==AAAA", "not base64"),
        ("====", "not base64"),
        (7, "the image is a number; it must be a string of base64, or null"),
        ([1], "the image is an array"),
    ],
)
def test_what_is_not_base64_is_refused(image: object, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read_json({"text": "hello", "image": image})


def test_limits_are_those_of_the_form() -> None:
    read_json({"text": "é" * 100, "image": base64.b64encode(bytes(1000)).decode()})
    with pytest.raises(ImageFileTooLarge, match="has 1001 bytes; the limit is 1000"):
        read_json({"text": "hello", "image": base64.b64encode(bytes(1001)).decode()})
    with pytest.raises(TextTooLong, match="101 characters; the limit is 100"):
        read_json({"text": "é" * 101})
    with pytest.raises(EmptyText, match="2 characters"):
        read_json({"text": " \n"})
    with pytest.raises(MissingText):
        read_json({})
    with pytest.raises(EmptyImage, match="0 bytes"):
        read_json({"text": "hello", "image": ""})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "ends too early|not JSON"),
        (b"hello", "not JSON"),
        (b'{"text": "hello"', "ends too early"),
        (b'{"text": "hello"} {"text": "hello"}', "Extra data"),
        (b'[{"text": "hello"}]', "the post is an array; it must be an object"),
        (b'"hello"', "the post is a string"),
        (b'{"text": null}', "the text is null; it must be a string"),
        (b'{"text": ["hello"]}', "the text is an array"),
        (b'{"text": "hello", "id": 1}', "a key 'id'; allowed are text, image"),
        (b'{"text": "a", "text": "b"}', "the key text more than once"),
        (rb'{"text": "a \ud83c b"}', r"the text has \\ud83c, half of a surrogate pair, at character 2"),
        (b'{"text": ' + b"[" * 4000 + b"]" * 4000 + b"}", "JSON strings, brackets and commas"),
        (b'{"text": ' + b"[" * 200 + b"]" * 200 + b"}", "the text is an array"),
    ],
)
def test_malformed_object_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read_json(body)


def test_other_charset_is_refused() -> None:
    with pytest.raises(MalformedRequest, match="charset of the body is 'iso-8859-1'; JSON is UTF-8"):
        read(b'{"text": "hello"}', f"{JSON_TYPE}; charset=iso-8859-1")
    assert read(b'{"text": "hello"}', f"{JSON_TYPE}; charset=UTF-8").text == "hello"


def posts_of(*posts: Any) -> list[Item]:
    return read_posts(json.dumps({"posts": posts}).encode())


def test_batch_keeps_the_order_of_its_posts() -> None:
    first, second, third = posts_of({"text": "a"}, "no post", {"text": "b", "id": None})
    assert [item.size for item in (first, second, third)] == [13, 0, 25]
    assert (first.take(), third.take()) == (PostContent("a", None), PostContent("b", None))
    with pytest.raises(MalformedRequest, match="the post is a string; it must be an object"):
        second.take()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[]", "the body is an array; it must be an object"),
        (b"{}", "the body has no posts; it must be an array"),
        (b'{"posts": {"text": {"a": {}}}}', "posts is an object; it must be an array"),
        (b'{"posts": null}', "posts is null"),
        (b'{"posts": []}', "0 posts; it must have at least 1"),
        (b'{"posts": [{"text": "a"}], "post": [{}]}', "a key 'post'; allowed are posts"),
        (b'{"posts": [{"text": "a"}], "posts": [{"text": "b"}]}', "the key posts more than once"),
        (b'{"posts": [{"text": "a"},]}', "not JSON"),
        (b'{"posts": [{]}', "ends too early"),
        (b'{"posts": [{}, {}, {}, {', "ends too early"),
        (b'{"posts": [{}, {}, {}, {}', "has at least 4 posts; the limit is 3"),
        (b'{"posts": [{}, {}, {}, {}]}', "has 4 posts; the limit is 3"),
        (b'{"posts": [{}, 1, {}, 2, {}, {}]}', "has 6 posts; the limit is 3"),
        (b'{"posts": [1, 2, 3, 4]}', "has 4 posts; the limit is 3"),
        (b'{"posts": [' + b"1," * 600 + b"1]}", "500 JSON strings, brackets and commas that are not part of a post"),
        (
            b'{"posts": [{}], "' + b"k" * 10_000 + b'": 1}',
            "at least .* bytes that are not part of a post; the limit is 10000",
        ),
        (b'{"posts": ["' + b"a" * 10_000 + b'"]}', "at least .* bytes that are not part of a post"),
    ],
)
def test_malformed_batch_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read_posts(body)


def test_batch_is_json_only() -> None:
    with pytest.raises(ServiceError, match="must be application/json"):
        read_posts(b"", "multipart/form-data; boundary=xx")


@pytest.mark.parametrize("value", ["a post", None, {"text": "a", "ID": 1}, {"text": "a", "id": "\ud800"}])
def test_bad_post_is_found_when_it_is_taken(value: Any) -> None:
    (item,) = posts_of(value)
    with pytest.raises(MalformedRequest):
        item.take()


@pytest.mark.parametrize(
    ("post", "reason"),
    [
        (b'{"text": tru}', "the post is not JSON: Expecting value"),
        (b'{"text": NaN}', "the post is not JSON: NaN is no JSON value"),
        (b'{"text": "a", "id": 1e400}', "the post is not JSON: 1e400 is too large a number"),
        (b'{"id": ' + b"9" * 1001 + b"}", "the post is not JSON: a number has 1001 digits; the limit is 1000"),
        (b'{"text": "caf\xe9"}', "the post is not JSON: it is not UTF-8: .* at byte 13"),
        (b'{"user": [' + b"1," * 600 + b"1]}", "the post has more than 500 JSON strings, brackets and commas"),
        (b'{"text": ' + b"[" * 4000 + b"]" * 4000 + b"}", "the post has more than 500 JSON strings"),
    ],
)
def test_post_that_is_no_json_costs_no_other(post: bytes, reason: str) -> None:
    """One complete tweet among 32 was an error for all of them."""
    before, bad, after = read_posts(b'{"posts": [{"text": "a"}, ' + post + b', {"id": 3, "text": "b"}]}')
    assert bad.identity == {}
    with pytest.raises(MalformedRequest, match=reason):
        bad.take()
    assert (before.take().text, after.take().text, after.identity) == ("a", "b", {"id": 3})


def test_post_is_no_larger_than_a_lone_one() -> None:
    """Parsed, each byte takes up to nine; a batch could be one post of 64 MiB."""
    large, small = posts_of({"text": "😀" + "a" * 12_000}, {"text": "a"})
    with pytest.raises(BodyTooLarge, match=r"the post has at least 1\d+ bytes; the limit is 10000"):
        large.take()
    assert small.take().text == "a"


@pytest.mark.parametrize("post", [b'{"text": "' + b"a" * 101 + b'"}', b'{"text": "caf\xe9"}', b'{"text": "a" "b"}'])
def test_bad_post_is_not_kept(post: bytes) -> None:
    """Only what is wrong with it; an emoji in it made it four times as large until it was answered."""
    (item,) = read_posts(b'{"posts": [' + post + b"]}")
    assert isinstance(item.content, ServiceError)
    assert (item.content.__context__, item.content.__cause__, item.content.__traceback__) == (None, None, None)


@pytest.mark.parametrize("identity", [0, None, "a", [1, {"b": None}], "🏀"])
def test_id_is_any_value(identity: Any) -> None:
    (item,) = posts_of({"text": "a", "id": identity})
    assert item.identity == {"id": identity}
    assert item.take() == PostContent("a", None)


def test_id_that_cannot_be_repeated_is_left_out() -> None:
    items = posts_of({"id": "\ud800"}, {"text": "a"}, "a")
    assert [item.identity for item in items] == [{}, {}, {}]


def test_post_is_not_kept_once_it_is_taken() -> None:
    """Otherwise all photos of a batch would be in memory until the last one is answered."""
    (item,) = posts_of({"text": "a", "image": ENCODED})
    assert item.take().image == IMAGE
    assert item.content is None
