"""Reads the sizes that the pictures in an AVIF are coded with (ISO/IEC 14496-12 and 23008-12, AV1 specification).

libavif decodes a picture of up to 268 megapixels although the file's header says 8 × 8, and scales it down then: a file
of two kilobytes took 336 MiB. And six bytes of a file can make it allocate a megabyte of extents.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain

from model.preprocessing.av1_header import sequence_sizes

_TRACK = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_ITEM_BOXES = (b"iinf", b"iloc", b"idat")
_MAX_PICTURES = 512  # a grid has up to 256, and perhaps as many of transparency
_MAX_HEADERS = 4096  # one for each picture, but all frames of an animation follow its first
_MAX_EXTENTS = 10_000  # a picture has one or a few; an empty one takes no byte of the file

Extent = tuple[int, int]  # its offset and length; 0 is all of the rest


def coded_sizes(content: bytes) -> list[tuple[int, int]]:
    """Width and height of each coded picture that is needed for the first frame.

    Raises:
        ValueError: the file is damaged, or has no or too many pictures.
    """
    sizes: list[tuple[int, int]] = []
    pictures = headers = 0
    for picture in chain(_items(content), _first_frames(content)):
        found = sequence_sizes(picture)
        pictures, headers = pictures + 1, headers + len(found)
        if pictures > _MAX_PICTURES or headers > _MAX_HEADERS:
            raise ValueError(f"at least {pictures} pictures with {headers} headers")
        sizes += sorted(found, key=lambda size: size[0] * size[1])[-1:]
    if not sizes:
        raise ValueError(f"{pictures} pictures, none of them with a size")
    return sizes


def check_extents(content: bytes) -> None:
    """Refuse a file that takes libavif much memory to open.

    Raises:
        ValueError: it has too many extents, or is damaged.
    """
    deque(_extents(content), maxlen=0)


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each box, and where its content starts and ends."""
    while end - start >= 8:
        size, kind, header = _number(content, start, 4), content[start + 4 : start + 8], 8
        if size == 1:
            size, header = _number(content, start + 8, 8), 16
        size = size or end - start
        if size < header:
            raise ValueError(f"a box of {size} bytes")
        yield kind, start + header, min(start + size, end)
        start += size


def _number(content: bytes, start: int, size: int) -> int:
    if start + size > len(content):
        raise ValueError("a box is cut off")
    return int.from_bytes(content[start : start + size], "big")


def _items(content: bytes) -> Iterator[bytes | memoryview]:
    """The pictures that are no frames of an animation."""
    left = len(content)
    for is_coded, extents in _extents(content):
        if is_coded:
            data = _joined(content, extents, most=left)
            left -= len(data) if len(extents) > 1 else 0
            yield data


def _extents(content: bytes) -> Iterator[tuple[bool, list[Extent]]]:
    """Whether each item is a coded picture, and its extents."""
    left = _MAX_EXTENTS
    for boxes in _item_boxes(content):
        coded = set(_coded_items(content, *boxes[b"iinf"])) if b"iinf" in boxes else set()
        for item, extents in _located(content, boxes[b"iloc"][0], boxes.get(b"idat", (0, 0))[0], most=left):
            left -= len(extents)
            yield item in coded, extents


def _item_boxes(content: bytes) -> Iterator[dict[bytes, tuple[int, int]]]:
    """Where the boxes start and end that tell of items, for each collection of items."""
    for _, start, end in _in_tracks(content, 0, len(content), (b"meta",)):
        boxes: dict[bytes, tuple[int, int]] = {}
        for kind, first, last in _boxes(content, start + 4, end):
            if kind in _ITEM_BOXES:
                boxes.setdefault(kind, (first, last))  # libavif refuses a second one, but has read the first
        if b"iloc" in boxes:
            yield boxes


def _in_tracks(content: bytes, start: int, end: int, wanted: Sequence[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of the ``wanted`` kinds, those of tracks included."""
    for kind, first, last in _boxes(content, start, end):
        if kind in _TRACK:
            yield from _in_tracks(content, first, last, wanted)
        elif kind in wanted:
            yield kind, first, last


def _coded_items(content: bytes, start: int, end: int) -> Iterator[int]:
    pictures = 0
    for kind, first, _ in _boxes(content, start + (6 if content[start] == 0 else 8), end):
        size = 2 if content[first] < 3 else 4  # by version
        if kind == b"infe" and content[first + 6 + size : first + 10 + size] == b"av01":
            pictures += 1
            if pictures > _MAX_PICTURES:
                raise ValueError(f"at least {pictures} pictures")
            yield _number(content, first + 4, size)


def _joined(content: bytes, extents: Sequence[Extent], *, most: int) -> bytes | memoryview:
    """The data of an item. A single extent is not copied; pictures that look alike may share one."""
    parts = [memoryview(content)[offset:][: length or None] for offset, length in extents]
    size = sum(map(len, parts))
    if len(parts) == 1:
        return parts[0]
    if size > most:
        raise ValueError(f"the extents of an item have {size} bytes, of {most} that are left for all")
    return b"".join(parts)


def _located(content: bytes, start: int, data_start: int, *, most: int) -> Iterator[tuple[int, list[Extent]]]:
    """Each item and its extents (section 8.11.3), of which all together have ``most``."""
    position = start + 4

    def read(size: int) -> int:
        nonlocal position
        position += size
        return _number(content, position - size, size)

    version = content[start]
    sizes = read(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 2 if version < 2 else 4
    for _ in range(read(wide)):
        item, method = read(wide), read(2) & 15 if version else 0
        _, base = read(2), read(base_size) + (data_start if method == 1 else 0)
        count = read(2)
        most -= count
        if most < 0:
            raise ValueError(f"more than {_MAX_EXTENTS} extents")
        extents = []
        for _ in range(count):
            _, offset, length = read(index_size if version else 0), read(offset_size), read(length_size)
            extents.append((base + offset, length))
        yield item, extents


def _first_frames(content: bytes) -> Iterator[memoryview]:
    """What follows the start of each of an animation's tracks."""
    for kind, start, end in _in_tracks(content, 0, len(content), (b"stco", b"co64")):
        size = 4 if kind == b"stco" else 8
        if start + 8 + size <= end:
            yield memoryview(content)[_number(content, start + 8, size) :]
