"""Bytes to an upright RGB photo of the encoder's size.

The size is read from the header before anything is decoded, and a large JPEG is decoded at a reduced scale
(``Image.draft``): training and serving both come through here, so they see the same pixels.
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

from model.errors import ImageTooLarge, UnreadableImage, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 50_000_000
_BACKGROUND = (255, 255, 255)  # behind transparent pixels
_REDUCING_GAP = 3.0  # a photo is averaged over whole cells to no less than this many times the final side, then resized
_BAND_PIXELS = 2**20  # that are converted at a time
_LARGE_PIXELS = 12_000_000  # a WebP takes 16 bytes for each while it is read: with more, one photo at a time
_LARGE = threading.Lock()
_DRAFT_MARGIN = 2  # a JPEG is decoded at no less than this many times the final side
_SCANS = 100  # of a JPEG at most; a progressive one has about ten, and each costs a pass over the whole photo
# Never within a scan, where an FF is followed by 00; its last byte is the first of the length, at most 14. Phones
# put films behind their photos, which have the other two bytes in every 64 KiB.
_SCAN_MARKER = b"\xff\xda\0"
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")

ImageSource = Image.Image | bytes | str | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """What an image encoder expects: a square of ``size`` pixels, normalised by ``mean`` and ``deviation`` per channel.

    The defaults are ImageNet's, as in the paper's ResNet.
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def normalise(self, images: Tensor) -> Tensor:
        """(N, 3, size, size) uint8 → float, scaled to [0, 1] and normalised."""
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        deviation = torch.tensor(self.deviation, device=images.device).view(3, 1, 1)
        return (images.float() / 255 - mean) / deviation

    def to_dict(self) -> dict[str, object]:
        """As JSON-ready values."""
        return asdict(self)


def read_image(source: ImageSource, *, size: int, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode a photo and rescale the whole of it to a square (section 3.2).

    Args:
        source: a PIL image, the bytes of a JPEG, PNG, WebP or GIF (its first frame), or the path of such a file.
        size: side of the square in pixels.
        max_pixels: a photo with more pixels than this is not decoded.

    Returns:
        (3, size, size) uint8, RGB.

    Raises:
        UnsupportedImage, ImageTooLarge, UnreadableImage: the photo is at fault.
        OSError: the path cannot be read.
    """
    content = source if isinstance(source, bytes | Image.Image) else Path(source).read_bytes()
    try:
        if isinstance(content, Image.Image):
            return _to_square(content, size)
        announced = _webp_size(content)
        if announced is not None:  # Pillow allocates its whole canvas when it opens it
            _check_size(*announced, max_pixels=max_pixels)
            with _turn(announced[0] * announced[1]), open_image(content, max_pixels=max_pixels) as image:
                return _to_square(image, size)
        with open_image(content, max_pixels=max_pixels) as image:
            pixels = image.width * image.height
            image.draft("RGB", (_DRAFT_MARGIN * size, _DRAFT_MARGIN * size))
            if "progressive" not in image.info:  # of which libjpeg keeps all coefficients, whatever the scale
                pixels = image.width * image.height
            with _turn(pixels):
                return _to_square(image, size)
    except (UnsupportedImage, ImageTooLarge, UnreadableImage):
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise UnreadableImage("the photo's bytes are damaged") from error


def open_image(content: bytes, *, max_pixels: int) -> Image.Image:
    """Read a photo's header and check its format, size and scans; nothing is decoded yet."""
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
    if scans > _SCANS:
        raise UnreadableImage(f"the photo has {scans} scans, at most {_SCANS} are decoded")
    return image


def _check_size(width: int, height: int, *, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(pixels=f"{width} × {height} = {width * height}", limit=max_pixels)


def _turn(pixels: int) -> AbstractContextManager[object]:
    """Of a large photo, which is read while no other large one is."""
    return _LARGE if pixels > _LARGE_PIXELS else nullcontext()


def _is_webp(content: bytes) -> bool:
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP's header announces (RFC 9649, section 2); None of what has no such header."""
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
    width, height = image.size
    factors = (_reduction(width, size), _reduction(height, size))
    small = _reduced(image, factors)
    box = (0.0, 0.0, width / factors[0], height / factors[1])  # a cell at the right or lower edge may be part of one
    square = small.resize((size, size), Image.Resampling.BILINEAR, box=box)
    square.getexif()[ExifTags.Base.Orientation] = _orientation(image)
    return torch.from_numpy(np.array(ImageOps.exif_transpose(square))).permute(2, 0, 1).contiguous()


def _orientation(image: Image.Image) -> int:
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 Pillow raises nearly anything; the pixels are whole all the same
        return 1
    return orientation


def _reduction(length: int, size: int) -> int:
    return max(1, int(length / size / _REDUCING_GAP))


def _reduced(image: Image.Image, factors: tuple[int, int]) -> Image.Image:
    """The photo in RGB, each cell of ``factors`` pixels as its mean; but for a band nothing is copied at full size."""
    (width, height), (across, down) = image.size, factors
    small = Image.new("RGB", (-(-width // across), -(-height // down)))
    band = max(1, _BAND_PIXELS // (width * down)) * down
    for top in range(0, height, band):
        rows = _rgb(image.crop((0, top, width, min(height, top + band))))
        small.paste(rows.reduce(factors), (0, top // down))
    return small


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would cut off at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.new("RGBA", layered.size, _BACKGROUND)
        image.alpha_composite(layered)
    return image.convert("RGB")
