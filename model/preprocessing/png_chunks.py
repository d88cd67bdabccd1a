"""Leaves out the chunks of a PNG that do not decide the pixels of its first frame.

Pillow refuses a picture whose color profile or text is large or whose ancillary chunk has a wrong checksum; viewers
show it. It also inflates each profile and text, so a small file may cost seconds.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTED = (b"XML:com.adobe.xmp", b"Raw profile type exif", b"exif")  # texts that Pillow reads orientation from
_MIN_TRANSPARENCY = {0: 2, 2: 6}  # bytes for gray and for color
_MAX_TEXT = PngImagePlugin.MAX_TEXT_MEMORY // len(_ORIENTED)


class _Chunk(NamedTuple):
    kind: bytes
    start: int  # of the whole chunk
    end: int

    def body(self, content: bytes) -> bytes:
        return content[self.start + 8 : self.end - 4]


def without_metadata(content: bytes) -> bytes:
    """The PNG without chunks that do not matter; its pixels and its orientation are the same."""
    chunks = list(_chunks(content))
    last_text = {_keyword(chunk, content): chunk for chunk in chunks if chunk.kind in _TEXT}
    texts = {last_text[keyword] for keyword in _ORIENTED if keyword in last_text}
    kept = [chunk for chunk in chunks if _matters(chunk, content, texts)]
    if len(kept) == len(chunks):
        return content
    rest = content[chunks[-1].end :] if chunks else b""
    return b"".join([SIGNATURE, *(content[chunk.start : chunk.end] for chunk in kept), rest])


def _chunks(content: bytes) -> Iterator[_Chunk]:
    """The chunks up to the first that is damaged, without an ancillary one that is cut off at the end."""
    start = len(SIGNATURE)
    while len(kind := content[start + 4 : start + 8]) == 4 and kind.isalpha():
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        if end > len(content) and not _is_ancillary(kind):
            return
        yield _Chunk(kind, start, min(end, len(content)))
        start = end


def _is_ancillary(kind: bytes) -> bool:
    return kind[:1].islower()  # PNG specification, section 5.4


def _matters(chunk: _Chunk, content: bytes, texts: set[_Chunk]) -> bool:
    if not _is_ancillary(chunk.kind):
        return True
    if chunk.kind not in (b"tRNS", b"eXIf") and chunk not in texts:
        return False
    checksum = int.from_bytes(content[chunk.end - 4 : chunk.end], "big")
    if zlib.crc32(content[chunk.start + 4 : chunk.end - 4]) != checksum:
        return False
    body = chunk.body(content)
    if chunk.kind == b"tRNS":
        return len(body) >= _MIN_TRANSPARENCY.get(content[25], 0)  # content[25] is the color type
    return chunk not in texts or _is_read(chunk.kind, body)


def _keyword(chunk: _Chunk, content: bytes) -> bytes:
    return content[chunk.start + 8 : min(chunk.end, chunk.start + 8 + 80)].partition(b"\0")[0]


def _is_read(kind: bytes, body: bytes) -> bool:
    """Whether Pillow reads the text; it refuses the picture if not."""
    _, _, rest = body.partition(b"\0")
    packed = b""
    if kind == b"zTXt":
        packed = rest[1:]
    elif kind == b"iTXt" and not rest.startswith(b"\0"):
        packed = rest[2:].split(b"\0", 2)[-1]
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(packed, PngImagePlugin.MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return len(body) <= _MAX_TEXT and not inflater.unconsumed_tail and not (kind == b"zTXt" and rest[:1] > b"\0")
