"""Bytes to an upright RGB photo of the encoder's size.

The size is read from the header before anything is decoded, and a large JPEG is decoded at a reduced scale
(``Image.draft``): training and serving both come through here, so they see the same pixels.
"""

import io
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from model.errors import ImageTooLarge, UnreadableImage, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 50_000_000
_BACKGROUND = (255, 255, 255)  # behind transparent pixels
_DRAFT_MARGIN = 2  # a JPEG is decoded at no less than this many times the final side

Photo = Image.Image | bytes | str | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoSettings:
    """What an image encoder expects: a square of ``size`` pixels, normalised by ``mean`` and ``deviation`` per channel.

    The defaults are ImageNet's, as in the paper's ResNet.
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def normalise(self, photos: Tensor) -> Tensor:
        """(N, 3, size, size) uint8 → float, scaled to [0, 1] and normalised."""
        mean = torch.tensor(self.mean, device=photos.device).view(3, 1, 1)
        deviation = torch.tensor(self.deviation, device=photos.device).view(3, 1, 1)
        return (photos.float() / 255 - mean) / deviation

    def to_dict(self) -> dict[str, object]:
        """As JSON-ready values."""
        return asdict(self)


def read_photo(photo: Photo, *, size: int, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode a photo and rescale the whole of it to a square (section 3.2).

    Args:
        photo: a PIL image, the bytes of a JPEG, PNG, WebP or GIF (its first frame), or the path of such a file.
        size: side of the square in pixels.
        max_pixels: a photo with more pixels than this is not decoded.

    Returns:
        (3, size, size) uint8, RGB.

    Raises:
        UnsupportedImage, ImageTooLarge, UnreadableImage: the photo is at fault.
        OSError: the path cannot be read.
    """
    content = photo if isinstance(photo, bytes | Image.Image) else Path(photo).read_bytes()
    try:
        if isinstance(content, Image.Image):
            return _to_square(content, size)
        with open_photo(content, max_pixels=max_pixels) as image:
            image.draft("RGB", (_DRAFT_MARGIN * size, _DRAFT_MARGIN * size))
            return _to_square(image, size)
    except (UnsupportedImage, ImageTooLarge, UnreadableImage):
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise UnreadableImage("the photo's bytes are damaged") from error


def open_photo(content: bytes, *, max_pixels: int) -> Image.Image:
    """Read a photo's header and check its format and size; nothing is decoded yet."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own, higher limit
        raise ImageTooLarge(pixels=f"more than {Image.MAX_IMAGE_PIXELS}", limit=max_pixels) from error
    except Exception as error:
        raise UnsupportedImage("the photo is not a JPEG, PNG, WebP or GIF file") from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(pixels=f"{width} × {height} = {width * height}", limit=max_pixels)
    return image


def _to_square(image: Image.Image, size: int) -> Tensor:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # Pillow would cut off at 255 instead of scaling
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.has_transparency_data:
        layered = upright.convert("RGBA")
        upright = Image.new("RGBA", layered.size, _BACKGROUND)
        upright.alpha_composite(layered)
    square = upright.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()
