"""Reads the size of a WebP, and leaves out its chunks that do not decide the pixels of its first frame (RFC 9649).

libwebp refuses a file of which anything is missing, even if it is the metadata at the end or a later frame.
"""

from collections.abc import Iterator

_KEPT = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"XMP ")  # the last two have the orientation
_METADATA = (b"EXIF", b"XMP ")


def is_webp(content: bytes) -> bool:
    """Whether the file begins as a WebP does."""
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def without_metadata(content: bytes) -> bytes:
    """The WebP without chunks that do not matter; its first frame and its orientation are the same."""
    chunks = b"".join(_kept(content))
    size = (4 + len(chunks)).to_bytes(4, "little")
    return content if content[4:8] == size else b"RIFF" + size + b"WEBP" + chunks


def _kept(content: bytes) -> Iterator[bytes]:
    start, frames = 12, 0
    while len(kind := content[start : start + 4]) == 4:
        size = int.from_bytes(content[start + 4 : start + 8], "little")
        end = start + 8 + size + size % 2
        is_cut = start + 8 + size > len(content)
        frames += kind == b"ANMF"
        if kind in _KEPT and not (is_cut and kind in _METADATA) and not (kind == b"ANMF" and frames > 1):
            yield content[start:end].ljust(0 if is_cut else end - start, b"\0")
        start = end


def webp_size(content: bytes) -> tuple[int, int] | None:
    """Width and height from a WebP header (section 2); None if there is none."""
    kind = content[12:16] if is_webp(content) and len(content) >= 30 else b""
    if kind == b"VP8X":  # the canvas
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8 ":
        return int.from_bytes(content[26:28], "little") & 0x3FFF, int.from_bytes(content[28:30], "little") & 0x3FFF
    if kind == b"VP8L":
        both = int.from_bytes(content[21:25], "little")
        return 1 + (both & 0x3FFF), 1 + (both >> 14 & 0x3FFF)
    return None
