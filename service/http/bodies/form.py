"""Reads a post from a multipart form (RFC 7578).

starlette's form parser silently reads broken UTF-8 as Latin-1, cannot stop at the image's limit and spools images to
disk, so this uses the parser below it, python-multipart, directly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service.errors import ImageFileTooLarge, MalformedRequest
from service.http.bodies.body import QUOTED, Body
from service.http.bodies.post_content import PostContent
from service.http.bodies.preamble import Preamble
from service.settings import Settings

MEDIA_TYPE = "multipart/form-data"

PARTS = ("text", "image")
_CHARSET = "_charset_"  # a field with the encoding of the others (RFC 7578, 4.6); browsers fill it in
_CHARSET_BYTES = 40
_PART_HEADERS = 8
_PART_HEADER_BYTES = 4096 + 128  # of each

# Headers that say how to read the bytes, with the values that mean "as they are".
_ENCODINGS = {
    "Content-Transfer-Encoding": ("7bit", "8bit", "binary", "identity", ""),
    "Content-Encoding": ("identity", ""),
}
_READ_HEADERS = ("Content-Disposition", "Content-Type", *_ENCODINGS)  # whatever else a part has is ignored
_UTF_8 = ("utf-8", "utf8", "us-ascii", "ascii")


async def read_form(body: Body, parameters: Mapping[bytes, bytes], limits: Settings) -> PostContent:
    """Read the form of one post.

    Args:
        parameters: those of the Content-Type; they have the form's boundary.

    Raises:
        ServiceError: the form is not as documented, or exceeds a limit.
    """
    _check_charset(parameters, of="form")
    boundary = parameters.get(b"boundary", b"")
    if not boundary:
        raise MalformedRequest("the Content-Type has no boundary")
    form = _Form(boundary, max_image_bytes=limits.max_image_bytes)
    preamble = Preamble(boundary)
    async for chunk in body.chunks():
        form.write(preamble.strip(chunk))
    if not preamble.passed:
        raise MalformedRequest(
            "no line of the form is the boundary that the Content-Type names; lines end with CR and LF"
        )
    if not form.complete:
        raise MalformedRequest("the form ends before its closing boundary")
    return PostContent.checked(_text(form.parts.get("text")), _image(form.parts.get("image")), limits)


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
        self._headers: dict[bytes, bytes] = {}  # of the current part
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
        self._headers = {}
        self._header = self._value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        name = self._header.lower()
        if name in self._headers and name.decode("latin-1") in map(str.lower, _READ_HEADERS):
            raise MalformedRequest(
                f"part {len(self.parts) + 1} of the form has the header {name.decode()} more than once"
            )
        self._headers[name] = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._check_name(name)
        _check_headers(name, self._headers)
        self.parts[name] = _Part(options.get(b"filename"))
        self._name = name

    def _check_name(self, name: str) -> None:
        if not name:
            raise MalformedRequest(
                f"part {len(self.parts) + 1} of the form has no name; its Content-Disposition must have one of "
                f"{', '.join(PARTS)}, such as: form-data; name={PARTS[0]}"
            )
        if name not in (*PARTS, _CHARSET):
            raise MalformedRequest(f"the form has a part named {name[:QUOTED]!r}; allowed are {', '.join(PARTS)}")
        if name in self.parts:
            raise MalformedRequest(f"the form has more than one part named {name}")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[self._name]
        size = len(part.content) + end - start
        if self._name == "image" and size > self._max_image_bytes:
            raise ImageFileTooLarge(size=size, limit=self._max_image_bytes)
        if self._name == _CHARSET and size > _CHARSET_BYTES:
            raise MalformedRequest(
                f"the part named {_CHARSET} has at least {size} bytes; the limit is {_CHARSET_BYTES}"
            )
        part.content += data[start:end]

    def _on_end(self) -> None:
        if charset := self.parts.pop(_CHARSET, None):
            _check_charset({b"charset": bytes(charset.content)}, of=f"part named {_CHARSET}")
        self.complete = True


def _check_headers(name: str, headers: Mapping[bytes, bytes]) -> None:
    """Refuse a part whose headers say that its bytes stand for others."""
    for header, as_they_are in _ENCODINGS.items():
        encoding = headers.get(header.lower().encode(), b"").decode("latin-1").strip()
        if encoding.lower() not in as_they_are:
            raise MalformedRequest(
                f"the {header} of the part named {name} is {encoding[:QUOTED]!r}; send the bytes as they are, "
                "without this header"
            )
    if name == "text":
        _check_charset(parse_options_header(headers.get(b"content-type", b""))[1], of="part named text")


def _check_charset(parameters: Mapping[bytes, bytes], *, of: str) -> None:
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1").strip()
    if charset.lower() not in _UTF_8:
        raise MalformedRequest(f"the charset of the {of} is {charset[:QUOTED]!r}; it must be utf-8")


def _text(part: _Part | None) -> str | None:
    if part is None:
        return None
    try:
        return part.content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"the text is not UTF-8: {error.reason} at byte {error.start}") from error


def _image(part: _Part | None) -> bytes | None:
    if part is None or (not part.content and part.file_name == b""):
        return None
    return bytes(part.content)
