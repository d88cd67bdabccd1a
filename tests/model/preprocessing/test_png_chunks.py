import io
import struct
import time
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.errors import UnreadableImage
from model.preprocessing.images import read_image
from model.preprocessing.png_chunks import without_metadata

ROTATED = Image.Exif()
ROTATED[0x0112] = 6


def file_of(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes, *, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


SMALL = Image.effect_noise((24, 16), 80).convert("RGB")
PNG = file_of(SMALL)
HEAD, REST = PNG[:33], PNG[33:]  # up to IHDR, from IDAT
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
MEGABYTES = zlib.compress(bytes(2_000_000), 9)
HEX_EXIF = f"\nexif\n{len(ROTATED.tobytes()):8}\n{ROTATED.tobytes().hex()}\n".encode()

METADATA = {
    "large profile": chunk(b"iCCP", b"icc\0\0" + MEGABYTES),
    "large compressed text": chunk(b"zTXt", b"Comment\0\0" + MEGABYTES),
    "large compressed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + MEGABYTES),
    "large compressed EXIF": chunk(b"zTXt", b"Raw profile type exif\0\0" + MEGABYTES),
    "large plain text": chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000),
    "large EXIF": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0" + bytes(3_000_000)),
    "unknown compression": chunk(b"zTXt", b"Raw profile type exif\0\7abc"),
    "short gamma": chunk(b"gAMA", b"1"),
    "short transparency": chunk(b"tRNS", b"1"),
    "wrong checksum of a text": chunk(b"tEXt", b"Comment\0hi", checksum=0),
    "wrong checksum of the orientation": chunk(b"eXIf", ROTATED.tobytes()[6:], checksum=0),
    "wrong checksum of transparency": chunk(b"tRNS", bytes(6), checksum=0),
    "bad frame number": chunk(b"fcTL", bytes(5)),
}


@pytest.mark.parametrize("kind", METADATA)
@pytest.mark.parametrize("place", ["before", "after"])
def test_metadata_never_cost_the_pixels(kind: str, place: str) -> None:
    """Pillow refuses most of these, and viewers show them."""
    content = HEAD + METADATA[kind] + REST if place == "before" else PNG[:-12] + METADATA[kind] + PNG[-12:]
    assert torch.equal(read_image(content, size=16), read_image(PNG, size=16))


@pytest.mark.parametrize("end", [-1, -12, -13, -100])
def test_metadata_may_be_cut_off(end: int) -> None:
    content = (PNG[:-12] + chunk(b"tEXt", b"Comment\0" + b"x" * 200) + PNG[-12:])[:end]
    assert torch.equal(read_image(content, size=16), read_image(PNG, size=16))


@pytest.mark.parametrize(
    "oriented",
    [
        chunk(b"eXIf", ROTATED.tobytes()[6:]),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(HEX_EXIF)),
        chunk(b"tEXt", b"Raw profile type exif\0" + HEX_EXIF),
    ],
    ids=["eXIf", "XMP", "compressed XMP", "compressed EXIF as text", "EXIF as text"],
)
def test_orientation_is_kept(oriented: bytes) -> None:
    """Also beside a large profile."""
    upright = read_image(file_of(SMALL.transpose(Image.Transpose.ROTATE_270)), size=16)
    for content in (HEAD + oriented + REST, HEAD + METADATA["large profile"] + oriented + REST):
        assert torch.equal(read_image(content, size=16), upright)


def test_a_critical_chunk_needs_its_checksum() -> None:
    with pytest.raises(UnreadableImage, match="header is damaged"):
        read_image(PNG[:29] + bytes(4) + REST, size=16)


def test_an_animation_is_read_as_its_first_frame() -> None:
    animation = file_of(SMALL, save_all=True, append_images=[SMALL.rotate(180)] * 2)
    assert animation.count(b"fdAT") == 2
    for content in (animation, animation[: len(animation) // 2], animation.replace(b"acTL", b"xcTL")):
        assert torch.equal(read_image(content, size=16), read_image(PNG, size=16))


def test_many_profiles_cost_no_time() -> None:
    """Pillow inflates each: a file of 3 MB took nine seconds."""
    content = HEAD + METADATA["large profile"] * 1500 + REST
    started = time.process_time()
    read_image(content, size=16)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1"])
def test_pixels_stay_those_that_pillow_decodes(image: Image.Image, mode: str) -> None:
    source = image.resize((64, 48)).convert(mode)
    content = file_of(
        source, dpi=(72, 72), icc_profile=b"icc", exif=ROTATED, **({} if mode != "P" else {"transparency": 3})
    )
    left, right = (Image.open(io.BytesIO(own)) for own in (content, without_metadata(content)))
    assert without_metadata(content) != content
    assert left.convert("RGBA").tobytes() == right.convert("RGBA").tobytes()
    assert right.getexif()[0x0112] == 6


def test_a_file_without_metadata_is_not_copied() -> None:
    assert without_metadata(PNG) is PNG


@given(
    st.binary(max_size=60), st.sampled_from(["iCCP", "tEXt", "zTXt", "iTXt", "eXIf", "pHYs", "sRGB", "cHRM", "acTL"])
)
def test_any_metadata_leave_the_pixels(body: bytes, kind: str) -> None:
    pixels = read_image(HEAD + chunk(kind.encode(), body) + REST, size=16)
    assert torch.equal(pixels, read_image(PNG, size=16))
