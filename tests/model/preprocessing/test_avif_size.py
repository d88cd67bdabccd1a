import io
import struct
import tracemalloc
from contextlib import AbstractContextManager, suppress
from typing import Any

import pytest
import torch
from PIL import Image

from model.errors import ImageTooLarge, InvalidPost, UnreadableImage
from model.preprocessing import images
from model.preprocessing.avif_size import check_extents, coded_sizes
from model.preprocessing.images import read_image


def file_of(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", speed=10, **options)
    return buffer.getvalue()


NOISE = Image.effect_noise((70, 50), 80)


@pytest.mark.parametrize(("mode", "pictures"), [("RGB", 1), ("L", 1), ("RGBA", 2), ("LA", 2)])
@pytest.mark.parametrize("frames", [1, 3])
def test_each_coded_picture_has_its_size(mode: str, pictures: int, frames: int) -> None:
    """Transparency is a picture of its own; an animation is a still picture and a track."""
    source = NOISE.convert(mode)
    if mode.endswith("A"):
        source.putalpha(Image.linear_gradient("L").resize(source.size))
    sizes = coded_sizes(file_of(source, save_all=True, append_images=[source] * (frames - 1)))
    assert set(sizes) == {(70, 50)}
    assert len(sizes) == pictures * min(frames, 2)


def concealed(content: bytes, size: tuple[int, int]) -> bytes:
    """The file with another size in its header (the property ``ispe``)."""
    at = content.index(b"ispe") + 8
    return content[:at] + struct.pack(">II", *size) + content[at + 8 :]


def test_a_concealed_size_is_refused() -> None:
    """A file of 2 kB that claimed 8 × 8 pixels was decoded to 256 megapixels, by any number of threads."""
    content = concealed(file_of(NOISE), (8, 8))
    with pytest.raises(ImageTooLarge, match="70 × 50 = 3500 pixels, at most 3499"):
        read_image(content, size=8, max_pixels=3499)


def test_a_concealed_size_counts_for_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[int] = []
    lock = images._large_image_lock

    def spy(pixels: int) -> AbstractContextManager[object]:
        locked.append(pixels)
        return lock(pixels)

    monkeypatch.setattr(images, "_large_image_lock", spy)
    read_image(concealed(file_of(NOISE), (8, 8)), size=8)
    assert locked == [3500]


def test_many_pictures_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "coded_sizes", lambda _: [(70, 50)] * 4)
    with pytest.raises(ImageTooLarge, match="14000 in 4 pictures pixels, at most 10500"):
        read_image(file_of(NOISE), size=8, max_pixels=3500)


def test_a_file_without_pictures_is_damaged() -> None:
    content = file_of(NOISE)
    with pytest.raises(ValueError, match="0 pictures"):
        coded_sizes(content.replace(b"av01", b"xv01"))
    with pytest.raises(UnreadableImage):
        read_image(content[: len(content) // 2], size=8)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def place_of(content: bytes, kind: bytes) -> tuple[int, int]:
    """Where the first box of a kind starts and ends."""
    start = content.index(kind) - 4
    return start, start + int.from_bytes(content[start : start + 4], "big")


def with_item(content: bytes, *extents: tuple[int, int], item: int = 99, more: bytes = b"") -> bytes:
    """The file with another coded item of these extents, and with ``more`` boxes behind those that tell of items."""
    info = box(b"infe", struct.pack(">B3xHH4sx", 2, item, 0, b"av01"))
    location = struct.pack(">HHH", item, 0, len(extents)) + b"".join(struct.pack(">II", *extent) for extent in extents)
    growth = len(info + location + more)
    (meta, meta_end), (iinf, iinf_end), (iloc, iloc_end) = (
        place_of(content, kind) for kind in (b"meta", b"iinf", b"iloc")
    )
    grown = bytearray(content)

    def add(at: int, number: int, form: str = ">I") -> None:
        struct.pack_into(form, grown, at, struct.unpack_from(form, grown, at)[0] + number)

    assert content[iloc + 8 : iloc + 14] == b"\0\0\0\0\x44\0"  # version 0 with 4 bytes an offset and a length
    for entry in range(iloc + 16, iloc_end, 14):
        add(entry + 6, growth)
    for start, more_bytes in [(meta, growth), (iinf, len(info)), (iloc, len(location))]:
        add(start, more_bytes)
    add(iinf + 12, 1, ">H")
    add(iloc + 14, 1, ">H")
    for end, added in sorted([(meta_end, more), (iinf_end, info), (iloc_end, location)], reverse=True):
        grown[end:end] = added
    return bytes(grown)


def peak_of_sizes(content: bytes) -> int:
    """How much memory it takes to look for the sizes, whether they are refused or not."""
    tracemalloc.start()
    with suppress(ValueError):
        coded_sizes(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("cut", [0, 9])
def test_extents_of_an_item_are_joined(cut: int) -> None:
    plain = file_of(NOISE)
    start, end = place_of(plain, b"mdat")
    moved = len(with_item(plain, *[(0, 1)] * (2 if cut else 1))) - len(plain) + start + 8
    data = [(moved, cut), (moved + cut, end - start - 8 - cut)] if cut else [(moved, 0)]
    assert coded_sizes(with_item(plain, *data)) == [(70, 50)] * 2


@pytest.mark.parametrize("count", [1, 50, 5000, 65_535])
def test_extents_of_the_whole_file_are_not_copied(count: int) -> None:
    """libavif skips an item without bytes; looking for its size took 200 MiB for 200 extents of a file of 1 MiB."""
    content = with_item(file_of(NOISE) + bytes(2**20), *[(0, 0)] * count)
    assert peak_of_sizes(content) < 2**21


def test_pictures_with_one_extent_may_share_it() -> None:
    """A grid's cells that look alike do; they are not copied."""
    content = file_of(NOISE) + bytes(2**20)
    for item in range(100):
        content = with_item(content, (0, 0), item=1000 + item)
    assert (70, 50) in coded_sizes(content)
    assert peak_of_sizes(content) < 2**20


def test_unknown_boxes_are_not_kept() -> None:
    """libavif skips them, too; their places took 24 times the file."""
    content = with_item(
        file_of(NOISE), (0, 1), more=b"".join(box(struct.pack(">I", 2**30 + i), b"") for i in range(2**17))
    )
    assert peak_of_sizes(content) < 2**18
    assert coded_sizes(content) == [(70, 50)]


def test_extents_are_counted_before_libavif_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six bytes an item made it allocate a megabyte, 285 MiB for a file of 4 kB, before it found the file damaged."""
    content = file_of(NOISE)
    start, end = place_of(content, b"iloc")
    items = b"".join(struct.pack(">HHH", number, 0, 65_535) for number in range(300))
    location = box(b"iloc", struct.pack(">6xH", 300) + items)
    meta, _ = place_of(content, b"meta")
    grown = bytearray(content[:start] + location + content[end:])
    struct.pack_into(">I", grown, meta, struct.unpack_from(">I", grown, meta)[0] + len(location) - (end - start))
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ValueError, match="more than 10000 extents"):
        check_extents(bytes(grown))
    with pytest.raises(UnreadableImage, match="header is damaged"):
        read_image(bytes(grown), size=8)


def test_many_sequence_headers_are_refused_early() -> None:
    """512 pictures with 1000 of them each took two seconds."""
    header = bytes([0x0A, 11]) + bytes(11)
    tracks = box(b"moov", box(b"stco", struct.pack(">4xII", 1, 8 + 6 * 20)) * 6)
    assert coded_sizes(tracks + header) == [(1, 1)] * 6
    with pytest.raises(ValueError, match="at least 5 pictures with 5000 headers"):
        coded_sizes(tracks + header * 1000)


def test_any_damage_ends_as_an_invalid_post() -> None:
    content = file_of(NOISE.resize((16, 16)))
    for position in range(len(content)):
        for value in (0, 1, 255):
            try:
                read_image(content[:position] + bytes([value]) + content[position + 1 :], size=8)
            except InvalidPost:
                continue


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_is_applied(orientation: int) -> None:
    turns = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = read_image(file_of(NOISE, quality=100), size=16)
    turned = read_image(file_of(NOISE, quality=100, exif=exif), size=16)
    assert torch.equal(turned, plain.rot90(turns, (1, 2)))
