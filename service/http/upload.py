"""A request's bytes to text and photo, counted as they arrive.

starlette's form parser is not used: it reads broken UTF-8 as Latin-1 without a word, cannot stop at a photo's limit and
rolls photos to disk. This one is a thin layer on the parser beneath it, python-multipart.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.types import Receive

from service.errors import (
    BodyTooLarge,
    ClientGone,
    EmptyImage,
    EmptyText,
    ImageFileTooLarge,
    MalformedRequest,
    MissingText,
    TextTooLong,
    UnsupportedMediaType,
)

PARTS = ("text", "image")
_PART_HEADERS = 8
_PART_HEADER_BYTES = 4096 + 128  # of each
_SHOWN = 40  # characters of a client's own words that an error repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """What is read of a request at most."""

    body_bytes: int
    image_bytes: int
    text_characters: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A post as it was sent: its text, and the bytes of its photo if it has one."""

    text: str
    image: bytes | None


async def read_upload(
    headers: Mapping[str, str],
    receive: Receive,
    limits: UploadLimits,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Upload:
    """Read the multipart form of one post.

    Args:
        headers: the request's, which name the form's boundary.
        receive: gives the body.
        limits: beyond which nothing is read.
        on_bytes: told of the bytes of every chunk before they are kept; it may refuse them.

    Raises:
        ServiceError: the form is not what is documented, or over a limit.
        ClientGone: the connection was closed before the form had ended.
    """
    form = _Form(_boundary(headers.get("content-type", "")), max_image_bytes=limits.image_bytes)
    async for chunk in _body(headers, receive, limit=limits.body_bytes):
        on_bytes(len(chunk))
        form.write(chunk)
    if not form.complete:
        raise MalformedRequest("the form ends before its closing boundary")
    return Upload(_text(form.parts.get("text"), limit=limits.text_characters), _image(form.parts.get("image")))


def announced_length(headers: Mapping[str, str]) -> int | None:
    """The body's length as its sender declares it; None when it does not say."""
    value = headers.get("content-length", "")
    # HTTP allows any number of leading zeros, which int() does not
    return int(value.lstrip("0") or "0") if value.isascii() and value.isdigit() else None


async def _body(headers: Mapping[str, str], receive: Receive, *, limit: int) -> AsyncIterator[bytes]:
    announced = announced_length(headers)
    if announced is not None and announced > limit:
        raise BodyTooLarge(size=announced, limit=limit, announced=True)
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
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
        raise UnsupportedMediaType(content_type[:_SHOWN])
    if not options.get(b"boundary"):
        raise MalformedRequest("the Content-Type names no boundary")
    return options[b"boundary"]


@dataclass(slots=True)
class _Part:
    file_name: bytes | None  # None for a plain field; a browser sends "" for a file field that was left empty
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    def content(self) -> bytes:
        return b"".join(self.chunks)


class _Form:
    """Collects the parts of a form as python-multipart finds them."""

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
            raise MalformedRequest(f"the body does not keep to the multipart format: {error}; {limits}") from error

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
            raise MalformedRequest(f"the form has a part called {name[:_SHOWN]!r}, known are {', '.join(PARTS)}")
        if name in self.parts:
            raise MalformedRequest(f"the form has more than one part called {name}")
        self.parts[name] = _Part(options.get(b"filename"))
        self._name = name

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[self._name]
        part.size += end - start
        if self._name == "image" and part.size > self._max_image_bytes:
            raise ImageFileTooLarge(size=part.size, limit=self._max_image_bytes)
        part.chunks.append(data[start:end])

    def _on_end(self) -> None:
        self.complete = True


def _text(part: _Part | None, *, limit: int) -> str:
    if part is None:
        raise MissingText
    try:
        text = part.content().decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"the text is not UTF-8: {error.reason} at byte {error.start}") from error
    if len(text) > limit:
        raise TextTooLong(characters=len(text), limit=limit)
    if not text.strip():
        raise EmptyText(characters=len(text))
    return text


def _image(part: _Part | None) -> bytes | None:
    if part is None or (part.size == 0 and part.file_name == b""):
        return None
    if part.size == 0:
        raise EmptyImage
    return part.content()
