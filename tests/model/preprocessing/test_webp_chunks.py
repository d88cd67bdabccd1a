import io

import pytest
import torch
from PIL import Image

from model.errors import UnreadableImage
from model.preprocessing.images import read_image
from model.preprocessing.webp_chunks import without_metadata

ROTATED = Image.Exif()
ROTATED[0x0112] = 6
SMALL = Image.effect_noise((24, 16), 80).convert("RGB")


def file_of(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, **options)
    return buffer.getvalue()


PLAIN = file_of(SMALL)
ANIMATION = file_of(SMALL, save_all=True, append_images=[SMALL.rotate(180)] * 2)
LARGE = file_of(SMALL, icc_profile=b"i" * 3_000_000, xmp=b"x" * 3_000_000)
UPRIGHT = read_image(PLAIN, size=16)


def test_metadata_of_any_size_leave_the_pixels() -> None:
    assert torch.equal(read_image(LARGE, size=16), UPRIGHT)
    assert len(without_metadata(LARGE)) < len(LARGE) - 3_000_000


@pytest.mark.parametrize(
    "content",
    [LARGE[:-1000], ANIMATION[: len(ANIMATION) * 2 // 3], LARGE[:4] + bytes(4) + LARGE[8:], PLAIN + b"film" * 99],
    ids=["cut in the metadata", "cut in the second frame", "wrong size", "something behind"],
)
def test_pixels_that_are_there_are_read(content: bytes) -> None:
    assert torch.equal(read_image(content, size=16), UPRIGHT)


def test_missing_pixels_are_not_read() -> None:
    with pytest.raises(UnreadableImage):
        read_image(PLAIN[:-50], size=16)
    with pytest.raises(UnreadableImage):
        read_image(ANIMATION[: len(ANIMATION) // 4], size=16)


@pytest.mark.parametrize("options", [{"exif": ROTATED}, {"xmp": b'<rdf tiff:Orientation="6"/>'}])
def test_orientation_is_kept(options: dict[str, object]) -> None:
    expected = read_image(file_of(SMALL.transpose(Image.Transpose.ROTATE_270)), size=16)
    assert torch.equal(read_image(file_of(SMALL, icc_profile=b"icc", **options), size=16), expected)


@pytest.mark.parametrize("content", [PLAIN, ANIMATION[:0] + file_of(SMALL.convert("RGBA")), file_of(SMALL, quality=5)])
def test_a_plain_file_stays_as_it_is(content: bytes) -> None:
    assert without_metadata(content) is content
