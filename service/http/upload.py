"""Reads text and image from the body of a request, counting bytes as they arrive.

starlette's form parser silently reads broken UTF-8 as Latin-1, cannot stop at the image's limit and spools images to
disk, so this uses the parser below it, python-multipart, directly.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.types import Receive

from service.errors import (
    BodyTooLarge,
    ClientDisconnected,
    EmptyImage,
    EmptyText,
    ImageFileTooLarge,
    MalformedRequest,
    MissingText,
    TextTooLong,
    UnsupportedMediaType,
)
from service.settings import Settings

PARTS = ("text", "image")
_PART_HEADERS = 8
_PART_HEADER_BYTES = 4096 + 128  # of each
_QUOTED = 40  # characters of the client's own words that an error repeats


@dataclass(frozen=True, slots=True)
class Upload:
    """A post as the client sent it: its text, and its image file or None."""

    text: str
    image: bytes | None


async def read_upload(
    headers: Mapping[str, str],
    receive: Receive,
    limits: Settings,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Upload:
    """Read the multipart form of one post.

    Args:
        headers: the request's; the Content-Type has the form's boundary.
        receive: yields the body.
        limits: of body, image and text.
        on_bytes: called with the size of every chunk before it is kept; may raise to refuse it.

    Raises:
        ServiceError: the form is not as documented, or exceeds a limit.
        ClientDisconnected: the client closed the connection before the end of the form.
    """
    form = _Form(_boundary(headers.get("content-type", "")), max_image_bytes=limits.max_image_bytes)
    async for chunk in _body(headers, receive, limit=limits.max_body_bytes):
        on_bytes(len(chunk))
        form.write(chunk)
    if not form.complete:
        raise MalformedRequest("the form ends before its closing boundary")
    return Upload(_text(form.parts.get("text"), limit=limits.max_text_characters), _image(form.parts.get("image")))


def announced_length(headers: Mapping[str, str]) -> int | None:
    """The body's length according to its Content-Length; None without a valid one."""
    value = headers.get("content-length", "")
    # HTTP allows any number of leading zeros, int() only a few thousand
    return int(value.lstrip("0") or "0") if value.isascii() and value.isdigit() else None


async def _body(headers: Mapping[str, str], receive: Receive, *, limit: int) -> AsyncIterator[bytes]:
    announced = announced_length(headers)
    if announced is not None and announced > limit:
        raise BodyTooLarge(size=announced, limit=limit, announced=True)
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(size=size, limit=limit, announced=False)
        yield chunk
        if not message.get("more_body", False):
            return


def _boundary(content_type: str) -> bytes:
    media_type, options = parse_options_header(content_type)
    if media_type != b"multipart/form-data":
        raise UnsupportedMediaType(content_type[:_QUOTED])
    if not options.get(b"boundary"):
        raise MalformedRequest("the Content-Type has no boundary")
    return options[b"boundary"]


@dataclass(slots=True)
class _Part:
    file_name: bytes | None  # None for a plain field; browsers send "" for a file field left empty
    content: bytearray = field(default_factory=bytearray)


class _Form:
    """Collects the parts of a form from python-multipart's callbacks."""

    def __init__(self, boundary: bytes, *, max_image_bytes: int) -> None:
        self.parts: dict[str, _Part] = {}
        self.complete = False
        self._max_image_bytes = max_image_bytes
        self._name = ""
        self._header = b""
        self._value = b""
        self._disposition = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_end": self._on_end,
                },
                max_header_count=_PART_HEADERS,
                max_header_size=_PART_HEADER_BYTES,
            )
        except FormParserError as error:
            raise MalformedRequest(f"the boundary is too long: {error}") from error

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            limits = f"a part may have {_PART_HEADERS} headers of {_PART_HEADER_BYTES} bytes"
            raise MalformedRequest(f"the body is not a valid multipart form: {error}; {limits}") from error

    def _on_part_begin(self) -> None:
        self._header = self._value = self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name not in PARTS:
            raise MalformedRequest(f"the form has a part named {name[:_QUOTED]!r}; allowed are {', '.join(PARTS)}")
        if name in self.parts:
            raise MalformedRequest(f"the form has more than one part named {name}")
        self.parts[name] = _Part(options.get(b"filename"))
        self._name = name

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[self._name]
        size = len(part.content) + end - start
        if self._name == "image" and size > self._max_image_bytes:
            raise ImageFileTooLarge(size=size, limit=self._max_image_bytes)
        part.content += data[start:end]

    def _on_end(self) -> None:
        self.complete = True


def _text(part: _Part | None, *, limit: int) -> str:
    if part is None:
        raise MissingText
    try:
        text = part.content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"the text is not UTF-8: {error.reason} at byte {error.start}") from error
    if len(text) > limit:
        raise TextTooLong(characters=len(text), limit=limit)
    if not text.strip():
        raise EmptyText(characters=len(text))
    return text


def _image(part: _Part | None) -> bytes | None:
    if part is None or (not part.content and part.file_name == b""):
        return None
    if not part.content:
        raise EmptyImage
    return bytes(part.content)
