"""Bodies that arrive in chunks, as the server hands them on."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from starlette.datastructures import Headers

from service.http.bodies.body import Body
from service.http.bodies.json_posts import Item, read_batch
from service.http.bodies.post_content import PostContent
from service.http.bodies.reading import read_post
from service.settings import Settings

LIMITS = Settings(
    max_body_bytes=10_000,
    max_batch_body_bytes=20_000,
    max_request_posts=3,
    max_image_bytes=1_000,
    max_text_characters=100,
)
FORM_TYPE = "multipart/form-data; boundary=xx"
JSON_TYPE = "application/json"

Chunks = bytes | Iterable[bytes]


def arriving(body: Chunks, content_type: str, *, limit: int = 10_000, cut: bool = False, **headers: str) -> Body:
    """A body that arrives in chunks; with ``cut`` the client disconnects before its end."""
    chunks = [body] if isinstance(body, bytes) else list(body)
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Body(Headers({"content-type": content_type, **named}), receive, limit)


def read(body: Chunks, content_type: str = FORM_TYPE, *, cut: bool = False) -> PostContent:
    """Read the body of one post."""
    return asyncio.run(read_post(arriving(body, content_type, cut=cut), LIMITS))


def read_posts(body: Chunks, content_type: str = JSON_TYPE) -> list[Item]:
    """Read the body of a batch."""
    return asyncio.run(read_batch(arriving(body, content_type, limit=20_000), LIMITS))


def cut_up(body: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """The body in chunks that end at ``cuts``."""
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    return (body[start:end] for start, end in pairwise(edges))
