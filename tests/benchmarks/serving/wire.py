"""As much HTTP/1.1 as a load generator needs: prepared requests on persistent connections.

A full client spends more time on a request than the service does, so it would measure itself.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import NamedTuple, Self

from tests.benchmarks.serving.posts import Post

PATH = "/recognize"
_BOUNDARY = "smner-benchmark"
_STAMP_BYTES = 16
_TIMEOUT_SECONDS = 60.0


class Request(NamedTuple):
    """A post as it is sent, except for a stamp after the end of its image.

    Decoders do not read that far, so a stamp changes only the checksum: one file becomes many distinct images. Without
    an image, the stamp is the request's id.
    """

    before: bytes
    after: bytes

    @classmethod
    def of(cls, post: Post) -> Self:
        """``POST /recognize`` with a part of the form for the text, and one for the image if there is one."""
        text = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="text"\r\n\r\n{post.text}\r\n'
        if not post.image:
            body = f"{text}--{_BOUNDARY}--\r\n".encode()
            return cls(f"{_head(len(body))}X-Request-ID: ".encode(), b"\r\n\r\n" + body)
        image = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        )
        start = (text + image).encode() + post.image
        end = f"\r\n--{_BOUNDARY}--\r\n".encode()
        head = f"{_head(len(start) + _STAMP_BYTES + len(end))}\r\n"
        return cls(head.encode() + start, end)

    def stamped(self, stamp: int) -> tuple[bytes, ...]:
        """The bytes, in pieces."""
        return self.before, f"{stamp:0{_STAMP_BYTES}x}".encode(), self.after


def _head(size: int) -> str:
    """The lines of a post's head, for a body of ``size`` bytes."""
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
        f"Content-Length: {size}\r\n"
    )


def batch(texts: Sequence[str]) -> tuple[bytes, ...]:
    """``POST /recognize/batch`` with texts alone."""
    body = json.dumps({"posts": [{"text": text} for text in texts]}).encode()
    head = "HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"POST {PATH}/batch {head}Content-Length: {len(body)}\r\n\r\n".encode(), body


def get(path: str) -> tuple[bytes, ...]:
    """A request without a body."""
    return (f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(),)


class Reply(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def outcome(self) -> str:
        """The status, with the code of a problem."""
        if self.headers.get("content-type") != "application/problem+json":
            return str(self.status)
        return f"{self.status} {json.loads(self.body)['code']}"


class Connection:
    """A persistent connection to a server, opened on first use."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: tuple[bytes, ...]) -> Reply:
        """Send a request and wait for the reply, which may come before all of the request is sent.

        Raises:
            OSError, EOFError: the connection failed; the next request opens a new one.
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
        """Close the connection without waiting."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
