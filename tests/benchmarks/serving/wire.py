"""HTTP/1.1 as far as a load generator needs it: requests made beforehand, connections that are kept.

A full client spends more time on a request than the service does, and would be what is measured.
"""

import asyncio
import json
from typing import NamedTuple, Self

from tests.benchmarks.serving.posts import Post

PATH = "/recognize"
_BOUNDARY = "smner-benchmark"
_STAMP_BYTES = 16
_TIMEOUT_SECONDS = 60.0


class Request(NamedTuple):
    """A post as it is sent, but for a stamp behind the end of its photo.

    Decoders do not read that far, so the stamp changes nothing but the photo's checksum: one file is as many distinct
    photos as there are stamps.
    """

    before: bytes
    after: bytes

    @classmethod
    def of(cls, post: Post) -> Self:
        """``POST /recognize`` with the form's two parts."""
        text = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="text"\r\n\r\n{post.text}\r\n'
        image = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        )
        start = (text + image).encode() + post.image
        end = f"\r\n--{_BOUNDARY}--\r\n".encode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
            f"Content-Length: {len(start) + _STAMP_BYTES + len(end)}\r\n\r\n"
        )
        return cls(head.encode() + start, end)

    def stamped(self, stamp: int) -> tuple[bytes, ...]:
        """Its bytes, in pieces."""
        return self.before, f"{stamp:0{_STAMP_BYTES}x}".encode(), self.after


def get(path: str) -> tuple[bytes, ...]:
    """A request without a body."""
    return (f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(),)


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def outcome(self) -> str:
        """The status, and the code of a problem."""
        if self.headers.get("content-type") != "application/problem+json":
            return str(self.status)
        return f"{self.status} {json.loads(self.body)['code']}"


class Connection:
    """One connection to a server, made when it is first needed and kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: tuple[bytes, ...]) -> Reply:
        """Send a request and wait for its reply, which may come before all of the request is sent.

        Raises:
            OSError, EOFError: the connection failed; the next request gets a new one.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return await self._ask(request)
        except (OSError, EOFError):
            self.close()
            raise

    async def _ask(self, request: tuple[bytes, ...]) -> Reply:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.writelines(request)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return Reply(int(status.split()[1]), headers, body)

    def close(self) -> None:
        """Close it without waiting."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
