import asyncio
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    BodyTooLarge,
    ClientGone,
    EmptyImage,
    EmptyText,
    ImageFileTooLarge,
    MalformedRequest,
    MissingText,
    ServiceError,
    TextTooLong,
    UnsupportedMediaType,
)
from service.http.upload import Upload, UploadLimits, read_upload

LIMITS = UploadLimits(body_bytes=10_000, image_bytes=1_000, text_characters=100)
FORM_TYPE = "multipart/form-data; boundary=xx"


def part(disposition: str, content: bytes) -> bytes:
    return f"--xx\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


TEXT = part('name="text"', b"hello")
IMAGE = part('name="image"; filename="a.jpg"', b"\xff\xd8photo")
END = b"--xx--\r\n"


def read(body: bytes | Iterable[bytes], content_type: str = FORM_TYPE, *, cut: bool = False, **headers: str) -> Upload:
    """Read a body that arrives in chunks; ``cut`` means that the client leaves instead of ending it."""
    chunks = [body] if isinstance(body, bytes) else list(body)
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(read_upload({"content-type": content_type, **named}, receive, LIMITS))


def test_a_post_is_its_text_and_its_image() -> None:
    assert read(TEXT + IMAGE + END) == Upload("hello", b"\xff\xd8photo")
    assert read(IMAGE + TEXT + END) == Upload("hello", b"\xff\xd8photo")
    assert read(TEXT + END) == Upload("hello", None)


@given(cuts=st.lists(st.integers(0, len(TEXT + IMAGE + END)), max_size=8))
def test_where_the_network_cuts_a_body_makes_no_difference(cuts: list[int]) -> None:
    body = TEXT + IMAGE + END
    edges = [0, *sorted(cuts), len(body)]
    chunks = [body[start:end] for start, end in pairwise(edges)]
    assert read(chunks) == Upload("hello", b"\xff\xd8photo")


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100).filter(str.strip))
def test_any_text_arrives_as_it_was_sent(text: str) -> None:
    if "\r\n--xx" not in text:
        assert read(part('name="text"', text.encode()) + END).text == text


def test_a_text_sent_as_a_file_is_a_text() -> None:
    assert read(part('name="text"; filename="tweet.txt"', b"hello") + END).text == "hello"


def test_a_image_sent_without_a_file_name_is_a_image() -> None:
    assert read(TEXT + part('name="image"', b"\xff\xd8") + END).image == b"\xff\xd8"


def test_a_file_field_that_a_browser_left_empty_is_no_image() -> None:
    assert read(TEXT + part('name="image"; filename=""', b"") + END).image is None


def test_a_image_without_a_byte_is_refused() -> None:
    with pytest.raises(EmptyImage, match="0 bytes"):
        read(TEXT + part('name="image"; filename="a.jpg"', b"") + END)


def test_a_missing_text_and_a_blank_one_are_told_apart() -> None:
    with pytest.raises(MissingText):
        read(IMAGE + END)
    with pytest.raises(EmptyText, match="0 characters"):
        read(part('name="text"', b"") + END)
    with pytest.raises(EmptyText, match="4 characters"):
        read(part('name="text"', " \n\u2003\t".encode()) + END)


def test_a_text_is_measured_in_code_points_not_bytes() -> None:
    assert len(read(part('name="text"', ("é" * 100).encode()) + END).text) == 100
    with pytest.raises(TextTooLong, match="101 characters, at most 100"):
        read(part('name="text"', ("é" * 101).encode()) + END)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (TEXT + TEXT + END, "more than one part called text"),
        (TEXT + IMAGE + IMAGE + END, "more than one part called image"),
        (TEXT + part('name="photo"; filename="a.jpg"', b"x") + END, "'photo', known are text, image"),
        (TEXT + b"--xx\r\nX-Other: 1\r\n\r\nx\r\n" + END, "part called ''"),
        (part('name="text"', b"caf\xe9") + END, "not UTF-8: .* at byte 3"),
        (part('name="text"', b"\xed\xa0\xbd") + END, "not UTF-8"),
        (TEXT, "ends before its closing boundary"),
        (b"", "ends before its closing boundary"),
        (b"nothing of the kind", "multipart format"),
        (b"--xx\r\nBad Header\r\n\r\n" + END, "multipart format"),
        (
            b"--xx\r\n" + b"A: 1\r\n" * 100 + b"\r\n" + END,
            "header count exceeded; a part may have 8 headers of 4224 bytes",
        ),
        (b"--xx\r\nA: " + b"1" * 5000 + b"\r\n\r\n" + END, "header size exceeded; .* of 4224 bytes"),
    ],
)
def test_a_form_that_is_not_as_documented_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read(body)


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/x-www-form-urlencoded", "multipart/mixed; boundary=xx"]
)
def test_another_media_type_is_refused_by_name(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=content_type or "none"):
        read(TEXT + END, content_type)


@pytest.mark.parametrize(("boundary", "reason"), [("", "no boundary"), ("; boundary=" + "x" * 300, "300 .* of 256")])
def test_a_boundary_that_is_missing_or_absurd_is_refused(boundary: str, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read(TEXT + END, "multipart/form-data" + boundary)


def test_a_body_that_announces_too_much_is_refused_unread() -> None:
    with pytest.raises(BodyTooLarge, match="is 10001 bytes long, at most 10000"):
        read([], content_length="10001")


def test_a_body_that_says_nothing_is_counted_as_it_arrives() -> None:
    chunks = [TEXT, part('name="image"', b"")[:-2], *[b"y" * 900] * 20]
    with pytest.raises(ServiceError, match="at most"):
        read(chunks)
    with pytest.raises(BodyTooLarge, match="at least 10"):
        read([b"--xx\r\nContent-Disposition: form-data; name=text\r\n\r\n", *[b"y" * 999] * 20])


def test_a_image_is_refused_as_soon_as_it_is_too_large() -> None:
    with pytest.raises(ImageFileTooLarge, match="at least 1001 bytes, at most 1000"):
        read([TEXT, IMAGE[:-2], b"y" * 994], cut=True)


def test_a_client_that_leaves_in_the_middle_is_gone() -> None:
    with pytest.raises(ClientGone):
        read([TEXT], cut=True)
