import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    EmptyImage,
    EmptyText,
    ImageFileTooLarge,
    MalformedRequest,
    MissingText,
    ServiceError,
    TextTooLong,
)
from service.http.bodies.json_posts import BATCH_KEYS, Item, to_post
from service.http.bodies.post_content import PostContent
from tests.service.http.bodies.arrival import JSON_TYPE, LIMITS, cut_up, read, read_posts

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
    items = posts_of({"text": "a"}, "no post", {"text": "b", "id": None})
    assert [item.value for item in items] == [{"text": "a"}, "no post", {"text": "b", "id": None}]
    assert [item.size for item in items] == [13, 0, 25]


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
        (b'{"posts": [{"text": tru}]}', "post 1 is not JSON"),
        (b'{"posts": [{}, {"text": NaN}]}', "post 2 is not JSON"),
        (b'{"posts": [{]}', "post 1 is not JSON|ends too early"),
        (b'{"posts": [{}, {}, {}, {', "ends too early"),
        (b'{"posts": [{}, {}, {}, {}', "at least 4 posts; the limit is 3"),
        (b'{"posts": [1, 2, 3, 4]}', "at least 4 posts; the limit is 3"),
    ],
)
def test_malformed_batch_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read_posts(body)


def test_batch_is_json_only() -> None:
    with pytest.raises(ServiceError, match="must be application/json"):
        read_posts(b"", "multipart/form-data; boundary=xx")


@pytest.mark.parametrize("value", ["a post", None, {"text": "a", "ID": 1}, {"text": "a", "id": "\ud800"}])
def test_bad_post_is_found_later(value: Any) -> None:
    (item,) = posts_of(value)
    with pytest.raises(MalformedRequest):
        to_post(item.value, LIMITS, keys=BATCH_KEYS)


@pytest.mark.parametrize("identity", [0, None, "a", [1, {"b": None}], "🏀"])
def test_id_is_any_value(identity: Any) -> None:
    (item,) = posts_of({"text": "a", "id": identity})
    assert item.identity == {"id": identity}
    assert to_post(item.value, LIMITS, keys=BATCH_KEYS) == PostContent("a", None)


def test_id_that_cannot_be_repeated_is_left_out() -> None:
    items = posts_of({"id": "\ud800"}, {"text": "a"}, "a")
    assert [item.identity for item in items] == [{}, {}, {}]


def test_image_is_taken_out_of_its_post() -> None:
    """Otherwise the base64 would be kept beside the photo that it stands for."""
    (item,) = posts_of({"text": "a", "image": ENCODED})
    assert to_post(item.value, LIMITS, keys=BATCH_KEYS).image == IMAGE
    assert item.value == {"text": "a"}
