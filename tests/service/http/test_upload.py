import asyncio
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    BodyTooLarge,
    ClientDisconnected,
    EmptyImage,
    EmptyText,
    ImageFileTooLarge,
    MalformedRequest,
    MissingText,
    ServiceError,
    TextTooLong,
    UnsupportedMediaType,
)
from service.http.upload import Upload, read_upload
from service.settings import Settings

LIMITS = Settings(max_body_bytes=10_000, max_image_bytes=1_000, max_text_characters=100)
FORM_TYPE = "multipart/form-data; boundary=xx"


def part(disposition: str, content: bytes) -> bytes:
    return f"--xx\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


TEXT = part('name="text"', b"hello")
IMAGE = part('name="image"; filename="a.jpg"', b"\xff\xd8image")
END = b"--xx--\r\n"


def read(body: bytes | Iterable[bytes], content_type: str = FORM_TYPE, *, cut: bool = False, **headers: str) -> Upload:
    """Read a body that arrives in chunks; with ``cut`` the client disconnects before its end."""
    chunks = [body] if isinstance(body, bytes) else list(body)
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(read_upload({"content-type": content_type, **named}, receive, LIMITS))


def test_upload_has_text_and_image() -> None:
    assert read(TEXT + IMAGE + END) == Upload("hello", b"\xff\xd8image")
    assert read(IMAGE + TEXT + END) == Upload("hello", b"\xff\xd8image")
    assert read(TEXT + END) == Upload("hello", None)


@given(cuts=st.lists(st.integers(0, len(TEXT + IMAGE + END)), max_size=8))
def test_chunk_boundaries_make_no_difference(cuts: list[int]) -> None:
    body = TEXT + IMAGE + END
    edges = [0, *sorted(cuts), len(body)]
    chunks = [body[start:end] for start, end in pairwise(edges)]
    assert read(chunks) == Upload("hello", b"\xff\xd8image")


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100).filter(str.strip))
def test_any_text_arrives_unchanged(text: str) -> None:
    if "\r\n--xx" not in text:
        assert read(part('name="text"', text.encode()) + END).text == text


def test_parts_may_have_file_names_or_none() -> None:
    body = part('name="text"; filename="tweet.txt"', b"hello") + part('name="image"', b"\xff\xd8") + END
    assert read(body) == Upload("hello", b"\xff\xd8")


def test_file_field_left_empty_is_no_image() -> None:
    assert read(TEXT + part('name="image"; filename=""', b"") + END).image is None


def test_empty_image_is_refused() -> None:
    with pytest.raises(EmptyImage, match="0 bytes"):
        read(TEXT + part('name="image"; filename="a.jpg"', b"") + END)


def test_missing_text_and_empty_text_differ() -> None:
    with pytest.raises(MissingText):
        read(IMAGE + END)
    with pytest.raises(EmptyText, match="0 characters"):
        read(part('name="text"', b"") + END)
    with pytest.raises(EmptyText, match="4 characters"):
        read(part('name="text"', " \n\u2003\t".encode()) + END)


def test_text_length_is_in_code_points() -> None:
    assert len(read(part('name="text"', ("é" * 100).encode()) + END).text) == 100
    with pytest.raises(TextTooLong, match="101 characters; the limit is 100"):
        read(part('name="text"', ("é" * 101).encode()) + END)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (TEXT + TEXT + END, "more than one part named text"),
        (TEXT + IMAGE + IMAGE + END, "more than one part named image"),
        (TEXT + part('name="photo"; filename="a.jpg"', b"x") + END, "'photo'; allowed are text, image"),
        (TEXT + b"--xx\r\nX-Other: 1\r\n\r\nx\r\n" + END, "part named ''"),
        (part('name="text"', b"caf\xe9") + END, "not UTF-8: .* at byte 3"),
        (part('name="text"', b"\xed\xa0\xbd") + END, "not UTF-8"),
        (TEXT, "ends before its closing boundary"),
        (b"", "ends before its closing boundary"),
        (b"nothing of the kind", "not a valid multipart form"),
        (b"--xx\r\nBad Header\r\n\r\n" + END, "not a valid multipart form"),
        (
            b"--xx\r\n" + b"A: 1\r\n" * 100 + b"\r\n" + END,
            "header count exceeded; a part may have 8 headers of 4224 bytes",
        ),
        (b"--xx\r\nA: " + b"1" * 5000 + b"\r\n\r\n" + END, "header size exceeded; .* of 4224 bytes"),
    ],
)
def test_malformed_form_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read(body)


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/x-www-form-urlencoded", "multipart/mixed; boundary=xx"]
)
def test_other_media_type_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=content_type or "missing"):
        read(TEXT + END, content_type)


@pytest.mark.parametrize(("boundary", "reason"), [("", "no boundary"), ("; boundary=" + "x" * 300, "300 .* of 256")])
def test_missing_or_long_boundary_is_refused(boundary: str, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read(TEXT + END, "multipart/form-data" + boundary)


def test_announced_body_too_large_is_refused_unread() -> None:
    with pytest.raises(BodyTooLarge, match="has 10001 bytes; the limit is 10000"):
        read([], content_length="10001")


def test_unannounced_body_is_counted_as_it_arrives() -> None:
    chunks = [TEXT, part('name="image"', b"")[:-2], *[b"y" * 900] * 20]
    with pytest.raises(ServiceError, match="the limit is"):
        read(chunks)
    with pytest.raises(BodyTooLarge, match="at least 10"):
        read([b"--xx\r\nContent-Disposition: form-data; name=text\r\n\r\n", *[b"y" * 999] * 20])


def test_large_image_is_refused_as_it_arrives() -> None:
    with pytest.raises(ImageFileTooLarge, match="at least 1001 bytes; the limit is 1000"):
        read([TEXT, IMAGE[:-2], b"y" * 994], cut=True)


def test_disconnect_during_the_upload_is_raised() -> None:
    with pytest.raises(ClientDisconnected):
        read([TEXT], cut=True)
