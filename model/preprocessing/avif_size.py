"""Reads the sizes that the pictures in an AVIF are coded with (ISO/IEC 14496-12 and 23008-12, AV1 specification).

libavif decodes a picture of up to 268 megapixels although the file's header says 8 × 8, and scales it down then: a file
of two kilobytes took 336 MiB.
"""

from collections.abc import Iterator
from itertools import islice

from model.preprocessing.av1_header import sequence_size

_TRACK = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_MAX_PICTURES = 512  # a grid has up to 256, and perhaps as many of transparency


def coded_sizes(content: bytes) -> list[tuple[int, int]]:
    """Width and height of each coded picture that is needed for the first frame.

    Raises:
        ValueError: the file is damaged, or has no or too many pictures.
    """
    pictures = [*islice(_items(content), _MAX_PICTURES + 1), *islice(_first_frames(content), _MAX_PICTURES + 1)]
    sizes = [size for picture in pictures if (size := sequence_size(picture)) is not None]
    if not sizes or len(pictures) > _MAX_PICTURES:
        raise ValueError(f"{len(pictures)} pictures, {len(sizes)} of them with a size")
    return sizes


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


def _items(content: bytes) -> Iterator[bytes]:
    """The pictures that are no frames of an animation."""
    for kind, start, end in _boxes(content, 0, len(content)):
        if kind != b"meta":
            continue
        boxes = {inner: (first, last) for inner, first, last in _boxes(content, start + 4, end)}
        if b"iloc" not in boxes or b"iinf" not in boxes:
            continue
        coded = set(_coded_items(content, *boxes[b"iinf"]))
        for item, data in _located(content, boxes[b"iloc"][0], boxes.get(b"idat", (0, 0))[0]):
            if item in coded:
                yield data


def _coded_items(content: bytes, start: int, end: int) -> Iterator[int]:
    for kind, first, _ in _boxes(content, start + (6 if content[start] == 0 else 8), end):
        size = 2 if content[first] < 3 else 4  # by version
        if kind == b"infe" and content[first + 6 + size : first + 10 + size] == b"av01":
            yield _number(content, first + 4, size)


def _located(content: bytes, start: int, data_start: int) -> Iterator[tuple[int, bytes]]:
    """Each item and its data, for which extents are joined (section 8.11.3)."""
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
        extents = []
        for _ in range(read(2)):
            _, offset, length = read(index_size if version else 0), read(offset_size), read(length_size)
            extents.append(content[base + offset :][: length or None])
        yield item, b"".join(extents)


def _first_frames(content: bytes) -> Iterator[bytes]:
    """What follows the start of each of an animation's tracks."""
    for start, end, size in _chunk_tables(content, 0, len(content)):
        if start + 8 + size <= end:
            yield content[_number(content, start + 8, size) :]


def _chunk_tables(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    for kind, first, last in _boxes(content, start, end):
        if kind in _TRACK:
            yield from _chunk_tables(content, first, last)
        elif kind in (b"stco", b"co64"):
            yield first, last, 4 if kind == b"stco" else 8
