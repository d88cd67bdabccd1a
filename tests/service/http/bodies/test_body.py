import asyncio

import pytest

from service.errors import BodyTooLarge, ClientDisconnected, UnsupportedEncoding, UnsupportedMediaType
from service.http.bodies.body import Body
from tests.service.http.bodies.arrival import arriving


def content(body: Body) -> bytes:
    async def collect() -> bytes:
        return b"".join([chunk async for chunk in body.chunks()])

    return asyncio.run(collect())


def test_body_arrives_in_order() -> None:
    assert content(arriving([b"a", b"", b"bc"], "")) == b"abc"


def test_announced_body_too_large_is_refused_unread() -> None:
    with pytest.raises(BodyTooLarge, match="has 10001 bytes; the limit is 10000"):
        content(arriving([], "", content_length="10001"))


def test_unannounced_body_is_counted_as_it_arrives() -> None:
    with pytest.raises(BodyTooLarge, match="at least 10500 bytes; the limit is 10000"):
        content(arriving([b"y" * 500] * 30, "", cut=True))


def test_disconnect_is_raised() -> None:
    with pytest.raises(ClientDisconnected):
        content(arriving([b"a"], "", cut=True))


@pytest.mark.parametrize("content_type", ["", "text/json", "application/x-www-form-urlencoded", "multipart/mixed; b=c"])
def test_other_media_type_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=f"{content_type or 'missing'}.* must be a/b or application/json"):
        arriving(b"", content_type).media_type("a/b", "application/json")


def test_media_type_is_read_in_any_case() -> None:
    media_type = arriving(b"", "Application/JSON; Charset=UTF-8").media_type("application/json")
    assert media_type == ("application/json", {b"charset": b"UTF-8"})


@pytest.mark.parametrize(("encoding", "named"), [("gzip", "gzip"), ("identity, BR", "BR"), ("x-gzip", "x-gzip")])
def test_compressed_body_is_refused_by_name(encoding: str, named: str) -> None:
    """It was called a broken form."""
    with pytest.raises(UnsupportedEncoding, match=f"the Content-Encoding is '{named}'"):
        arriving(b"", "a/b", content_encoding=encoding).media_type("a/b")


def test_identity_encoding_is_no_encoding() -> None:
    assert arriving(b"", "a/b", content_encoding=" Identity,").media_type("a/b").name == "a/b"
