"""Leaves out the segments of a JPEG that do not decide its pixels, and reads one without its end marker.

Pillow refuses a picture with damaged metadata, and joins EXIF segments at a cost that grows with the square of their
number. Without the end marker it waits for more bytes, although the pixels may all be there.
"""

import random
import re
from collections.abc import Iterable, Iterator
from itertools import islice, product
from typing import NamedTuple

SIGNATURE = b"\xff\xd8\xff"
# Never occurs within a scan, where 00 follows FF; its last byte is the high byte of the length, which is at most 14.
# Phones append films to their photos, where the first two bytes alone occur every 64 KiB.
_SCAN_MARKER = b"\xff\xda\0"
_END_MARKER = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # not within a scan's data, where only 00 and restarts follow FF
_HAS_LENGTH = {*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDA, 0xF0), 0xFE}
_FRAMES = {0xC0: False, 0xC1: False, 0xC2: True}  # whether it is progressive
_SCAN, _END = 0xDA, 0xD9
_JFIF, _EXIF, _ADOBE, _COMMENT = 0xE0, 0xE1, 0xEE, 0xFE
_MAX_SEGMENTS = 250_000  # the largest photos have a few thousand; each takes a microsecond
_MAX_EXIF_SEGMENTS = 100
_MAX_COMPLETED_SCANS = 33  # a completed file is decoded three times
_COEFFICIENTS = range(64)  # of a block


class _Segment(NamedTuple):
    marker: int
    start: int  # of the marker
    end: int
    payload: bytes


def without_metadata(content: bytes) -> bytes:
    """The JPEG without application segments and comments that do not matter; pixels and orientation are the same."""
    kept, position, exif = [], 0, 0
    for segment in _segments(content):
        if segment.marker in (_SCAN, _END):
            break
        exif += segment.marker == _EXIF
        if not _matters(segment) or (segment.marker == _EXIF and exif > _MAX_EXIF_SEGMENTS):
            kept.append(content[position : segment.start])
            position = segment.end
    return b"".join([*kept, content[position:]]) if kept else content


def _matters(segment: _Segment) -> bool:
    """Whether pixels or orientation may depend on it; libjpeg ignores the two kinds if they are shorter."""
    if segment.marker == _JFIF:
        return len(segment.payload) >= 14
    if segment.marker == _ADOBE:
        return len(segment.payload) >= 12
    return segment.marker == _EXIF or not (_JFIF < segment.marker <= 0xEF or segment.marker == _COMMENT)


def _segments(content: bytes) -> Iterator[_Segment]:
    """The segments up to the end marker, those of scans without their data; ends early at one that is damaged.

    Raises:
        ValueError: there are too many.
    """
    position = 2
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(content, position)
        if match is None:
            return
        start, marker = match.start(), content[match.end() - 1]
        if marker == _END:
            yield _Segment(marker, start, match.end(), b"")
            return
        size = int.from_bytes(content[start + 2 : start + 4], "big")
        position = start + 2 + size
        if marker not in _HAS_LENGTH or size < 2 or position > len(content):
            return
        yield _Segment(marker, start, position, content[start + 4 : position])
    raise ValueError(f"more than {_MAX_SEGMENTS} segments")


def has_end(content: bytes) -> bool:
    """Whether an end marker follows the last scan."""
    end = content.rfind(_END_MARKER)
    return end >= 0 and content.find(_SCAN_MARKER, end) < 0


def completions(content: bytes) -> tuple[bytes, ...]:
    """Two copies of a JPEG without end marker that have the same pixels only if none are missing.

    What is missing would be decoded from what is appended: nothing in one, random bytes in the other.

    Returns:
        Nothing if this cannot tell, since the file lacks a scan or has too many.
    """
    if not _has_all_scans(_segments(content)):
        return ()
    data = content
    if content.endswith(b"\0\0"):  # padding; a single zero may be data, as it is after FF
        data = content.rstrip(b"\0")
        data += b"\0" if data.endswith(b"\xff") else b""
    elif content.endswith(b"\xff"):  # half of the end marker
        data = content[:-1]
    return data + _END_MARKER, data + _noise() + _END_MARKER


def count_scans(content: bytes) -> int:
    """The number of scans, also of a file whose segments are damaged."""
    return content.count(_SCAN_MARKER)


def _noise() -> bytes:
    """Random data of a scan, with all eight restart markers since the next may be any of them.

    Its first bit is 1, since libjpeg puts zeros for what is missing before an end marker.
    """
    draw = random.Random(0)  # noqa: S311 - nothing secret
    data = (draw.randbytes(64).replace(b"\xff", b"\x5a") for _ in range(8))
    return b"\xb5" + b"".join(part + bytes([0xFF, 0xD0 + restart]) for restart, part in enumerate(data))


def _has_all_scans(segments: Iterable[_Segment]) -> bool:
    """Whether every coefficient of every component comes with its last bit (ITU-T T.81, B.2.3 and G.1.1.1)."""
    chosen = (segment for segment in segments if segment.marker in _FRAMES or segment.marker == _SCAN)
    frame = next(chosen, None)
    scans = list(islice(chosen, _MAX_COMPLETED_SCANS + 1))  # counted before they are read
    if frame is None or frame.marker not in _FRAMES or len(scans) > _MAX_COMPLETED_SCANS:
        return False
    if any(scan.marker != _SCAN for scan in scans):
        return False  # libjpeg reads no second frame
    bits = _last_bits(scans, progressive=_FRAMES[frame.marker])
    expected = set(product(set(frame.payload[6::3]), _COEFFICIENTS))
    return bool(expected) and all(bits.get(key) == 0 for key in expected)


def _last_bits(scans: Iterable[_Segment], *, progressive: bool) -> dict[tuple[int, int], int]:
    """The lowest bit that has come of each component's coefficients."""
    bits: dict[tuple[int, int], int] = {}
    for payload in (scan.payload for scan in scans if len(scan.payload) >= 4):
        first, last, approximation = payload[-3:]
        band = range(first, last + 1) if progressive else _COEFFICIENTS
        bits |= dict.fromkeys(product(set(payload[1:-3:2]), band), approximation & 15 if progressive else 0)
    return bits
