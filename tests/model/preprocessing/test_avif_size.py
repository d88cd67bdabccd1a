import io
import struct
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from PIL import Image

from model.errors import ImageTooLarge, InvalidPost, UnreadableImage
from model.preprocessing import images
from model.preprocessing.avif_size import coded_sizes
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
