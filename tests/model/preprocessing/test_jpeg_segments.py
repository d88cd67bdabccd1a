import io
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.errors import UnreadableImage
from model.preprocessing.images import read_image
from model.preprocessing.jpeg_segments import completions, without_metadata

ROTATED = Image.Exif()
ROTATED[0x0112] = 6


def file_of(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (56, 72, 3), np.uint8))
KINDS = [
    {"quality": 75},
    {"quality": 95, "subsampling": 0},
    {"progressive": True},
    {"restart_marker_blocks": 3},
    {"restart_marker_rows": 1, "progressive": True},
    {"optimize": True},
]
JPEG = file_of(NOISE)
PIXELS = read_image(JPEG, size=16)

METADATA = {
    "cut Photoshop": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4"),
    "short JFIF": segment(0xE0, b"JFIF"),
    "short Adobe": segment(0xEE, b"Adobe"),
    "short profile": segment(0xE2, b"ICC_PROFILE\0"),
    "profile of 16 MB": b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([i, 255]) + bytes(65_000)) for i in range(255)),
    "strange pictures": segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + b"\xff" * 40),
    "damaged EXIF": segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "comments": segment(0xFE, b"hi") * 1000,
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", METADATA)
def test_metadata_never_cost_the_pixels(kind: str) -> None:
    """Pillow refuses some of these, and viewers show them."""
    assert torch.equal(read_image(JPEG[:2] + METADATA[kind] + JPEG[2:], size=16), PIXELS)
    assert torch.equal(read_image(JPEG[:20] + METADATA[kind] + JPEG[20:], size=16), PIXELS)


def test_many_exif_segments_cost_little_time() -> None:
    """Joining them took 35 s for 10 MB."""
    content = JPEG[:2] + segment(0xE1, b"Exif\0\0abcd") * 200_000 + JPEG[2:]
    started = time.process_time()
    assert torch.equal(read_image(content, size=16), PIXELS)
    assert time.process_time() - started < 3


@given(st.binary(max_size=60), st.sampled_from([*range(0xE2, 0xEE), 0xEF, 0xFE]))
def test_any_metadata_leave_the_pixels(payload: bytes, marker: int) -> None:
    assert torch.equal(read_image(JPEG[:20] + segment(marker, payload) + JPEG[20:], size=16), PIXELS)


@pytest.mark.parametrize(
    "options", [{"exif": ROTATED}, {"xmp": b'<rdf tiff:Orientation="6"/>'}, {"exif": ROTATED, "icc_profile": b"icc"}]
)
def test_orientation_is_kept(options: dict[str, Any]) -> None:
    assert torch.equal(read_image(file_of(NOISE, **options), size=16), PIXELS.rot90(-1, (1, 2)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pixels_stay_those_that_pillow_decodes(mode: str) -> None:
    content = file_of(NOISE.convert(mode), icc_profile=b"icc" * 50_000, comment=b"hi", exif=ROTATED, dpi=(72, 72))
    assert len(without_metadata(content)) < len(content) - 100_000
    left, right = (Image.open(io.BytesIO(own)) for own in (content, without_metadata(content)))
    assert (left.mode, left.tobytes()) == (right.mode, right.tobytes())


def test_a_file_without_metadata_is_not_copied() -> None:
    assert without_metadata(JPEG) is JPEG
    assert without_metadata(JPEG[:9]) == JPEG[:9]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("ending", [b"", b"\xff", b"\0\0\0", bytes(5000), b"\0", b"</html>"])
def test_without_end_marker_all_pixels_are_read(options: dict[str, Any], ending: bytes) -> None:
    """Some cameras and interrupted uploads leave it out; browsers show the picture."""
    whole = file_of(NOISE, **options)
    assert torch.equal(read_image(whole[:-2] + ending, size=16), read_image(whole, size=16))


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("ending", [b"", bytes(5000)], ids=["cut", "cut and filled up"])
def test_missing_pixels_are_noticed_to_the_byte(options: dict[str, Any], ending: bytes) -> None:
    whole = file_of(NOISE, **options)
    cuts = [*range(3, 40), *range(40, len(whole) - 700, 97)]
    for cut in cuts:
        with pytest.raises(UnreadableImage):
            read_image(whole[:-cut].rstrip(b"\0") + ending, size=16)


def test_a_missing_scan_is_noticed() -> None:
    """Cut between two scans, a progressive picture is whole, but blurred."""
    whole = file_of(NOISE, progressive=True)
    assert completions(whole[:-2])
    cut = whole.rindex(b"\xff\xda")
    assert not completions(whole[:cut])
    with pytest.raises(UnreadableImage):
        read_image(whole[: whole.rindex(b"\xff\xc4", 0, cut)], size=16)


SCAN = JPEG[JPEG.index(b"\xff\xda") :][:14]
FRAME = JPEG[JPEG.index(b"\xff\xc0") :][:19]
UNFINISHED = {
    "long scans": segment(0xDA, bytes(range(256)) * 255),
    "long frames": segment(0xC2, bytes(65_000)),
    "frames of 256 components": segment(
        0xC2, b"\x08\0\x01\0\x01\xff" + b"".join(bytes([i, 17, 0]) for i in range(256))
    ),
    "34 scans": FRAME + SCAN * 34,
    "a second frame": FRAME + SCAN + FRAME,
    "a scan before its frame": SCAN + FRAME,
    "a frame alone": FRAME,
    "nothing": b"",
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_odd_scans_are_not_completed(kind: str) -> None:
    """Long scans took 1.7 s a megabyte, since they were counted last."""
    unit = UNFINISHED[kind]
    started = time.process_time()
    assert not completions(JPEG[:2] + unit * (1 if len(unit) < 700 else 2**22 // len(unit)))
    assert time.process_time() - started < 1
    assert completions(JPEG[:2] + FRAME + SCAN * 33)


def test_empty_segments_cost_no_memory() -> None:
    """A list of them took 65 times the file."""
    content = JPEG[:2] + FRAME + segment(0xDB, b"") * 50_000 + SCAN
    tracemalloc.start()
    assert completions(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(content)


@pytest.mark.parametrize("read", [without_metadata, completions])
def test_too_many_segments_are_refused(read: Callable[[bytes], object]) -> None:
    """Ten megabytes of them took seconds."""
    content = JPEG[:2] + segment(0xFE, b"") * 2_500_000 + JPEG[2:]
    started = time.process_time()
    with pytest.raises(ValueError, match="more than 250000 segments"):
        read(content)
    assert time.process_time() - started < 2


def test_a_whole_file_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.preprocessing.images._digest", None)
    assert torch.equal(read_image(JPEG, size=16), PIXELS)
