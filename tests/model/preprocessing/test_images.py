import io
import random
import struct
import threading
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from model.errors import ImageTooLarge, InvalidPost, UnreadableImage, UnsupportedImage
from model.preprocessing import image_scaling, images
from model.preprocessing.images import FORMATS, ImageSettings, read_image, read_thumbnail

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
ROTATE_90, ROTATE_180, ROTATE_270 = Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270
FLIP, FLOP = Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.FLIP_LEFT_RIGHT


def file_of(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


SMALL = {name: file_of(Image.effect_noise((24, 24), 80).convert("RGB"), name) for name in FORMATS}


def color(pixels: Tensor) -> tuple[int, ...]:
    """The mean color of (3, H, W)."""
    return tuple(pixels.float().mean((1, 2)).round().int().tolist())


def difference(left: Tensor, right: Tensor) -> float:
    return (left.float() - right.float()).abs().mean().item()


@pytest.mark.parametrize("format_", ["PNG", "GIF", "WEBP", "JPEG", "AVIF"])
def test_each_format_is_decoded_to_an_rgb_square(image: Image.Image, format_: str) -> None:
    pixels = read_image(
        file_of(image, format_, **({"quality": 95} if format_ in ("JPEG", "WEBP", "AVIF") else {})), size=64
    )
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == torch.uint8
    assert difference(pixels, read_image(image, size=64)) < 3  # GIF has 256 colors


def test_the_whole_image_is_rescaled_not_cropped() -> None:
    """Left half red, right half blue, three times as wide as high: still half and half in the square."""
    wide = Image.new("RGB", (300, 100), RED)
    wide.paste(BLUE, (150, 0, 300, 100))
    pixels = read_image(wide, size=32)
    assert (color(pixels[:, :, :15]), color(pixels[:, :, 17:])) == (RED, BLUE)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_of_an_animation_is_read(format_: str) -> None:
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    options = {} if format_ == "AVIF" else {"lossless": True}
    animation = file_of(first, format_, save_all=True, append_images=[second], **options)
    assert difference(read_image(animation, size=8), read_image(first, size=8)) < 3  # AVIF is lossy


@pytest.mark.parametrize(
    ("orientation", "stored_as"),
    [(1, None), (2, FLOP), (3, ROTATE_180), (4, FLIP), (6, ROTATE_90), (8, ROTATE_270)],
)
def test_exif_orientation_is_applied(image: Image.Image, orientation: int, stored_as: Image.Transpose | None) -> None:
    """Orientation 6 means "rotate by 90° clockwise to view", so the file is stored rotated the other way."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image if stored_as is None else image.transpose(stored_as)
    upright = read_image(file_of(image, "JPEG", quality=95), size=64)
    assert difference(read_image(file_of(stored, "JPEG", quality=95, exif=exif), size=64), upright) < 1


def test_damaged_exif_is_ignored() -> None:
    assert color(read_image(file_of(Image.new("RGB", (8, 8), RED), exif=b"neither II nor MM"), size=8)) == RED


@pytest.mark.parametrize(
    ("mode", "stored", "expected"),
    [
        ("RGBA", (0, 0, 0, 0), WHITE),
        ("LA", (0, 0), WHITE),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),  # half-transparent black: 255 · (1 − 128 / 255)
    ],
)
def test_transparent_pixels_show_white(mode: str, stored: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert color(read_image(file_of(Image.new(mode, (8, 8), stored)), size=8)) == expected


@pytest.mark.parametrize("format_", ["PNG", "GIF"])
def test_a_transparent_palette_entry_shows_white(format_: str) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*BLUE, *RED])
    image.paste(1, (0, 0, 4, 8))
    pixels = read_image(file_of(image, format_, transparency=0), size=8)
    assert (color(pixels[:, :, :3]), color(pixels[:, :, 5:])) == (RED, WHITE)


def test_cmyk_is_converted_to_rgb() -> None:
    """No cyan, all magenta and yellow, no black: red."""
    red, green, blue = color(read_image(file_of(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), "JPEG"), size=8))
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_bilevel_gray_and_palette_become_rgb(image: Image.Image, mode: str) -> None:
    converted = image.convert(mode)
    assert difference(read_image(file_of(converted), size=64), read_image(converted.convert("RGB"), size=64)) < 1


def test_sixteen_bit_gray_keeps_its_shades() -> None:
    """A ramp from 0 to 65535 has the mean 32767.5 / 257 = 127.5; clipped at 255 it would be white."""
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    content = file_of(Image.fromarray(ramp))
    assert Image.open(io.BytesIO(content)).mode == "I;16"
    assert read_image(content, size=64).float().mean().item() == pytest.approx(127.5, abs=1)


def test_bytes_path_and_image_give_the_same_pixels(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    image.save(path)
    for source in (path.read_bytes(), path, str(path)):
        assert torch.equal(read_image(source, size=64), read_image(image, size=64))


def test_a_large_jpeg_is_decoded_at_reduced_scale(image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """4096 × 4096 for a square of 224: the smallest eighth above 2 · 224 is 512."""
    decoded = []
    to_square = image_scaling.to_square

    def spy(opened: Image.Image, size: int) -> Tensor:
        opened.load()
        decoded.append(opened.size)
        return to_square(opened, size)

    monkeypatch.setattr(images, "to_square", spy)
    read_image(file_of(image.resize((4096, 4096)), "JPEG"), size=224)
    assert decoded == [(512, 512)]


def test_the_reduced_scale_looks_the_same(image: Image.Image) -> None:
    content = file_of(image.resize((3000, 2000), Image.Resampling.LANCZOS), "JPEG", quality=90)
    whole = Image.open(io.BytesIO(content)).convert("RGB")  # already decoded, so not reduced
    assert difference(read_image(content, size=224), read_image(whole, size=224)) < 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "CMYK"])
def test_bands_give_the_pixels_of_pillows_resize(
    image: Image.Image, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1001 × 1503 to 64: cells of 5 × 7 pixels, the last ones cut off; bands of 2 rows of cells."""
    monkeypatch.setattr(image_scaling, "BAND_PIXELS", 2 * 7 * 1001)
    source = image.resize((1001, 1503)).convert("RGB")
    if mode in ("RGBA", "LA"):
        source.putalpha(Image.linear_gradient("L").resize(source.size))
    source = source.convert(mode)
    whole = source.convert("RGB")
    if mode in ("RGBA", "LA"):
        whole = Image.alpha_composite(Image.new("RGBA", source.size, "white"), source.convert("RGBA")).convert("RGB")
    expected = np.array(whole.resize((64, 64), Image.Resampling.BILINEAR, reducing_gap=3.0))
    assert np.array_equal(read_image(source, size=64).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("side", [(1, 1), (3, 500), (64, 64), (65, 63), (200, 150), (1, 190)])
def test_resizing_is_pillows_but_for_rounding(image: Image.Image, side: tuple[int, int]) -> None:
    source = image.resize(side).convert("RGB")
    expected = torch.from_numpy(np.array(source.resize((64, 64), Image.Resampling.BILINEAR))).permute(2, 0, 1)
    assert (read_image(source, size=64).int() - expected.int()).abs().max() <= 1


def memory(kind: str) -> int:
    """Bytes, from proc(5)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's record of peak memory")
@pytest.mark.parametrize(("mode", "bytes_per_pixel"), [("RGB", 4), ("RGBA", 4), ("P", 1), ("I;16", 2)])
def test_only_one_full_size_copy_is_in_memory(mode: str, bytes_per_pixel: int) -> None:
    """Rotating, compositing and converting once made a copy each: 748 MiB for RGBA of 50 megapixels, now 203."""
    side, band = 4000, 24 * 2**20
    options: dict[str, Any] = {"transparency": 0} if mode == "P" else {}
    content = file_of(Image.new(mode, (side, side)), **options)
    Path("/proc/self/clear_refs").write_text("5")  # proc(5)
    before = memory("VmRSS")
    read_image(content, size=224)
    assert memory("VmHWM") - before < side**2 * bytes_per_pixel + band


def test_large_images_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two WebP files at the pixel limit took 1.9 GiB, and each decoding thread may have one."""
    inside, most = 0, 0

    def count(image: Image.Image, size: int) -> Tensor:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.05)
        inside -= 1
        return torch.zeros(3, size, size)

    monkeypatch.setattr(images, "to_square", count)
    monkeypatch.setattr(images, "_LARGE_PIXELS", 200 * 100)

    def at_once(content: bytes) -> int:
        nonlocal most
        most = 0
        threads = [threading.Thread(target=read_image, args=(content,), kwargs={"size": 8}) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        return most

    larger, smaller = Image.new("RGB", (201, 100)), Image.new("RGB", (200, 100))
    assert at_once(file_of(larger, "WEBP")) == 1
    assert at_once(file_of(larger, "JPEG", progressive=True)) == 1
    assert at_once(file_of(larger, "AVIF")) == 1
    assert at_once(file_of(larger, "JPEG")) > 1  # decoded at a quarter of its size or less
    assert at_once(file_of(smaller, "WEBP")) > 1


@pytest.mark.parametrize(
    "content",
    [
        *[b"", b"not a photo", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"\x89PNG", b"RIFF"],
        *[file_of(Image.new("RGB", (16, 16)), name) for name in ("BMP", "TIFF", "ICO", "PPM")],  # Pillow reads these
    ],
    ids=lambda content: ascii(content[:9]),
)
def test_other_formats_are_unsupported(content: bytes) -> None:
    with pytest.raises(UnsupportedImage, match=r"JPEG, PNG, WebP, GIF (and AVIF are read|or AVIF file)"):
        read_image(content, size=8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((content[:16], "the photo's header is damaged") for content in SMALL.values()),
        (SMALL["JPEG"][:-200], "the photo ends before its last pixels"),
        (SMALL["PNG"][:-200], "the photo's bytes are damaged"),
    ],
)
def test_a_truncated_image_is_unreadable(content: bytes, message: str) -> None:
    with pytest.raises(UnreadableImage, match=message):
        read_image(content, size=8)


def test_a_truncated_image_from_pillow_is_unreadable(jpeg: bytes) -> None:
    """``Image.open`` reads only the header; decoding finds the damage."""
    with pytest.raises(UnreadableImage):
        read_image(Image.open(io.BytesIO(jpeg[: len(jpeg) // 2])), size=64)


@pytest.mark.parametrize("format_", FORMATS)
@given(data=st.data())
def test_damaged_bytes_raise_only_invalid_post(format_: str, data: st.DataObject) -> None:
    content = bytearray(SMALL[format_])
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = read_image(bytes(content[: data.draw(st.integers(0, len(content)))]), size=8)
    except InvalidPost:
        return
    assert pixels.shape == (3, 8, 8)


def test_a_jpeg_with_too_many_scans_is_refused(image: Image.Image) -> None:
    """A progressive photo of twelve megapixels takes 7 ms for each further scan of 26 bytes."""
    whole = file_of(image, "JPEG", progressive=True)
    scans = whole.count(b"\xff\xda")
    assert 1 < scans < 20
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    repeated = whole[:end] + whole[last:end] * (100 - scans) + whole[end:]
    assert read_image(repeated, size=8).shape == (3, 8, 8)
    with pytest.raises(UnreadableImage, match="101 scans, at most 100"):
        read_image(repeated[:-2] + whole[last:end] + repeated[-2:], size=8)


def test_a_film_after_the_image_has_no_scans(jpeg: bytes) -> None:
    """Phones append films; 2 MB of random bytes contain the first two bytes of a scan 30 times."""
    film = random.Random(0).randbytes(2_000_000)
    assert film.count(b"\xff\xda") > 20
    assert torch.equal(read_image(jpeg + 5 * film, size=8), read_image(jpeg, size=8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces its size and contains next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [7_100, 9_000, 12_000, 20_000, 100_000])
def test_too_many_pixels_are_refused_by_the_header(side: int) -> None:
    """Pillow warns from 9,459² pixels and raises from 13,378² before it tells the size."""
    size = f"{side} × {side} = {side**2} pixels, " if side < 9_459 else ""
    with pytest.raises(ImageTooLarge, match=f"{size}at most 50000000"):
        read_image(png_header(side, side), size=8)


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"save_all": True, "append_images": [Image.new("L", (9, 7))]}]
)
def test_webp_size_is_checked_before_pillow_allocates(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    content = file_of(Image.new("RGB", (9, 7)), "WEBP", **options)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ImageTooLarge, match="9 × 7 = 63 pixels, at most 62"):
        read_image(content, size=8, max_pixels=62)


def test_a_decompression_bomb_is_refused_at_once() -> None:
    """100,000 × 100,000 pixels would take 30 GB."""
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(InvalidPost):
        read_image(png_header(100_000, 100_000), size=8)
    assert time.process_time() - started < 0.5
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_exactly_max_pixels_are_decoded() -> None:
    content = file_of(Image.new("RGB", (10, 10)))
    assert read_image(content, size=8, max_pixels=100).shape == (3, 8, 8)
    with pytest.raises(ImageTooLarge, match="10 × 10 = 100 pixels, at most 99"):
        read_image(content, size=8, max_pixels=99)


def test_max_pixels_applies_to_paths(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png_header(8_000, 8_000))
    with pytest.raises(ImageTooLarge):
        read_image(tmp_path / "photo.png", size=8)


def test_a_missing_path_is_no_invalid_post(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "absent.jpg", size=8)


def test_concurrent_decoding_keeps_the_warning_filters(jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """``warnings.catch_warnings`` changes the whole process: A in, B in, A out, B out restores what A had set."""
    a_in, b_in, a_out = threading.Event(), threading.Event(), threading.Event()

    def slow(image: Image.Image, size: int) -> Tensor:
        if threading.current_thread().name == "A":
            a_in.set()
            b_in.wait(5)
        else:
            b_in.set()
            a_out.wait(5)
        return torch.zeros(3, size, size)

    monkeypatch.setattr(images, "to_square", slow)
    before = list(warnings.filters)
    a, b = (threading.Thread(target=read_image, args=(jpeg,), kwargs={"size": 8}, name=name) for name in "AB")
    with warnings.catch_warnings():  # leftovers end with this test
        a.start()
        a_in.wait(5)
        b.start()
        a.join(5)
        a_out.set()
        b.join(5)
        assert list(warnings.filters) == before


def test_pixels_are_normalized_by_channel() -> None:
    """White is (1 − mean) / deviation of ImageNet: 0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225."""
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    expected = torch.tensor([2.248908, 2.428571, 2.64])
    torch.testing.assert_close(ImageSettings().normalize(white).flatten(), expected)


def test_settings_default_to_imagenets() -> None:
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert ImageSettings().to_dict() == {"size": 224, "mean": mean, "deviation": deviation}


@pytest.mark.parametrize(
    ("size", "expected"),
    [((400, 200), (100, 50)), ((200, 400), (50, 100)), ((60, 30), (60, 30)), ((5000, 3), (100, 1)), ((1, 1), (1, 1))],
)
def test_a_thumbnail_keeps_proportions(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """And is never larger than the image."""
    thumbnail = read_thumbnail(Image.new("RGB", size, "red"), side=100)
    assert (thumbnail.size, thumbnail.mode) == (expected, "RGB")
    assert thumbnail.getpixel((0, 0)) == (255, 0, 0)


def test_a_thumbnail_is_upright() -> None:
    stored = Image.new("RGB", (400, 200), "red")
    stored.paste("blue", (0, 0, 200, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter, clockwise
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    thumbnail = read_thumbnail(buffer.getvalue(), side=100)
    assert thumbnail.size == (50, 100)
    assert (thumbnail.getpixel((25, 5)), thumbnail.getpixel((25, 95))) == ((0, 0, 255), (255, 0, 0))


def test_a_thumbnail_has_the_same_limits(jpeg: bytes) -> None:
    with pytest.raises(ImageTooLarge):
        read_thumbnail(jpeg, side=100, max_pixels=1000)
    with pytest.raises(UnreadableImage):
        read_thumbnail(jpeg[: len(jpeg) // 2], side=100)
    with pytest.raises(UnsupportedImage):
        read_thumbnail(b"hello", side=100)
