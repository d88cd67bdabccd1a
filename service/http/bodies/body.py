"""The bytes of a request's body, counted as they arrive."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.types import Receive

from service.errors import BodyTooLarge, ClientDisconnected, UnsupportedEncoding, UnsupportedMediaType

QUOTED = 40  # characters of the client's own words that an error repeats


class MediaType(NamedTuple):
    """A parsed Content-Type."""

    name: str
    parameters: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Body:
    """A body that has not been read yet.

    Args:
        headers: the request's.
        receive: yields the bytes.
        limit: the most bytes that are read.
        on_bytes: called with the size of every chunk before it is kept; may raise to refuse it.
    """

    headers: Headers
    receive: Receive
    limit: int
    on_bytes: Callable[[int], None] = lambda _: None

    def media_type(self, *allowed: str) -> MediaType:
        """The body's type, if it is one of those allowed.

        Raises:
            UnsupportedMediaType, UnsupportedEncoding: it cannot be read.
        """
        for encoding in ",".join(self.headers.getlist("content-encoding")).split(","):
            if encoding.strip().lower() not in ("", "identity"):
                raise UnsupportedEncoding(encoding.strip()[:QUOTED])
        content_type = self.headers.get("content-type", "")
        name, parameters = parse_options_header(content_type)
        media_type = MediaType(name.decode("latin-1"), parameters)
        if media_type.name not in allowed:
            raise UnsupportedMediaType(content_type[:QUOTED], allowed=allowed)
        return media_type

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, as they arrive.

        Raises:
            BodyTooLarge: there are more than the limit, or so says the Content-Length.
            ClientDisconnected: the client closed the connection before the end.
        """
        announced = announced_length(self.headers)
        if announced is not None and announced > self.limit:
            raise BodyTooLarge(size=announced, limit=self.limit, announced=True)
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self.limit:
                raise BodyTooLarge(size=size, limit=self.limit, announced=False)
            self.on_bytes(len(chunk))
            yield chunk
            if not message.get("more_body", False):
                return


def announced_length(headers: Mapping[str, str]) -> int | None:
    """The body's length according to its Content-Length; None without a valid one."""
    value = headers.get("content-length", "")
    # HTTP allows any number of leading zeros, int() only a few thousand
    return int(value.lstrip("0") or "0") if value.isascii() and value.isdigit() else None
