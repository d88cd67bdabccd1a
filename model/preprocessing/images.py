"""Bytes to an upright RGB square of the image encoder's size.

Sizes are read from the header before anything is decoded, and large JPEGs are decoded at a reduced scale
(``Image.draft``). Training and serving both decode here, so they see the same pixels.
"""

import io
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from model.errors import ImageTooLarge, InvalidPost, UnreadableImage, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
MAX_PIXELS = 50_000_000
_BACKGROUND = (255, 255, 255)  # shows through transparent pixels
_REDUCING_GAP = 3.0  # averaging over cells keeps at least this many times the final side, for the final resize
_BAND_PIXELS = 2**20  # converted to RGB at a time
_LARGE_PIXELS = 12_000_000  # a WebP takes 16 bytes a pixel to decode; larger images are decoded one at a time
_LARGE_IMAGE_LOCK = threading.Lock()
_DRAFT_MARGIN = 2  # a JPEG is decoded to at least this many times the final side
_MAX_SCANS = 100  # in a JPEG; a progressive one has about ten, and each costs a pass over the whole image
# Never occurs within a scan, where 00 follows FF; its last byte is the high byte of the length, which is at most 14.
# Phones append films to their photos, where the first two bytes alone occur every 64 KiB.
_SCAN_MARKER = b"\xff\xda\0"
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")

ImageSource = Image.Image | bytes | str | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """What an image encoder expects: a square of ``size`` pixels, normalized by ``mean`` and ``deviation`` per channel.

    The defaults are ImageNet's, as in the paper's ResNet.
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def normalize(self, images: Tensor) -> Tensor:
        """(N, 3, size, size) uint8 → float, scaled to [0, 1] and normalized."""
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        deviation = torch.tensor(self.deviation, device=images.device).view(3, 1, 1)
        return (images.float() / 255 - mean) / deviation

    def to_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        return asdict(self)


def read_image(source: ImageSource, *, size: int, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode an image and rescale the whole of it to a square (section 3.2).

    Args:
        source: a PIL image, the bytes of a JPEG, PNG, WebP or GIF (its first frame), or the path of such a file.
        size: side of the square in pixels.
        max_pixels: files with more pixels are refused without being decoded.

    Returns:
        (3, size, size) uint8, RGB.

    Raises:
        UnsupportedImage, ImageTooLarge, UnreadableImage: the image is at fault.
        OSError: the path cannot be read.
    """
    content = source if isinstance(source, bytes | Image.Image) else Path(source).read_bytes()
    try:
        return _to_square(content, size) if isinstance(content, Image.Image) else _decode(content, size, max_pixels)
    except InvalidPost:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise UnreadableImage("the photo's bytes are damaged") from error


def _decode(content: bytes, size: int, max_pixels: int) -> Tensor:
    if webp_size := _webp_size(content):  # Pillow allocates a WebP's whole canvas when it opens it
        pixels = _check_size(*webp_size, max_pixels=max_pixels)
        with _large_image_lock(pixels), _open(content, max_pixels) as image:
            return _to_square(image, size)
    with _open(content, max_pixels) as image:
        pixels = image.width * image.height
        image.draft("RGB", (_DRAFT_MARGIN * size, _DRAFT_MARGIN * size))
        if "progressive" not in image.info:  # libjpeg keeps all coefficients of a progressive one at any scale
            pixels = image.width * image.height
        with _large_image_lock(pixels):
            return _to_square(image, size)


def _open(content: bytes, max_pixels: int) -> Image.Image:
    """Read the header and check format, size and scans, without decoding."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own, higher limit
        raise ImageTooLarge(pixels=f"more than {Image.MAX_IMAGE_PIXELS}", limit=max_pixels) from error
    except Exception as error:
        if content.startswith(_SIGNATURES) or _is_webp(content):
            raise UnreadableImage("the photo's header is damaged") from error
        raise UnsupportedImage("the photo is not a JPEG, PNG, WebP or GIF file") from error
    _check_size(*image.size, max_pixels=max_pixels)
    scans = content.count(_SCAN_MARKER) if image.format in ("JPEG", "MPO") else 1
    if scans > _MAX_SCANS:
        raise UnreadableImage(f"the photo has {scans} scans, at most {_MAX_SCANS} are decoded")
    return image


def _check_size(width: int, height: int, *, max_pixels: int) -> int:
    pixels = width * height
    if pixels > max_pixels:
        raise ImageTooLarge(pixels=f"{width} × {height} = {pixels}", limit=max_pixels)
    return pixels


def _large_image_lock(pixels: int) -> AbstractContextManager[object]:
    """Serializes decoding of large images."""
    return _LARGE_IMAGE_LOCK if pixels > _LARGE_PIXELS else nullcontext()


def _is_webp(content: bytes) -> bool:
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """Width and height from a WebP header (RFC 9649, section 2); None if there is none."""
    kind = content[12:16] if _is_webp(content) and len(content) >= 30 else b""
    if kind == b"VP8X":  # the canvas
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8 ":
        return int.from_bytes(content[26:28], "little") & 0x3FFF, int.from_bytes(content[28:30], "little") & 0x3FFF
    if kind == b"VP8L":
        both = int.from_bytes(content[21:25], "little")
        return 1 + (both & 0x3FFF), 1 + (both >> 14 & 0x3FFF)
    return None


def _to_square(image: Image.Image, size: int) -> Tensor:
    across, down = (max(1, int(side / size / _REDUCING_GAP)) for side in image.size)
    small = _reduced(image, across, down)
    box = (0.0, 0.0, image.width / across, image.height / down)  # cells at the right and lower edges may be cut off
    square = small.resize((size, size), Image.Resampling.BILINEAR, box=box)
    square.getexif()[ExifTags.Base.Orientation] = _orientation(image)
    return torch.from_numpy(np.array(ImageOps.exif_transpose(square))).permute(2, 0, 1).contiguous()


def _orientation(image: Image.Image) -> int:
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 Pillow raises nearly anything, but the pixels are intact
        return 1
    return orientation


def _reduced(image: Image.Image, across: int, down: int) -> Image.Image:
    """Average cells of ``across`` × ``down`` pixels to RGB, band by band so that no full-size copy is made."""
    width, height = image.size
    small = Image.new("RGB", (-(-width // across), -(-height // down)))
    band = max(1, _BAND_PIXELS // (width * down)) * down
    for top in range(0, height, band):
        rows = _rgb(image.crop((0, top, width, min(height, top + band))))
        small.paste(rows.reduce((across, down)), (0, top // down))
    return small


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.new("RGBA", layered.size, _BACKGROUND)
        image.alpha_composite(layered)
    return image.convert("RGB")
