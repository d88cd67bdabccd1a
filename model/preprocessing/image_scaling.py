"""Rescales a decoded image to an upright RGB one: a square for the encoder, a thumbnail for people."""

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

BAND_PIXELS = 2**20  # converted to RGB at a time
_BACKGROUND = (255, 255, 255)  # shows through transparent pixels
_REDUCING_GAP = 3.0  # averaging over cells keeps at least this many times the final side, for the final resize


def to_square(image: Image.Image, size: int) -> Tensor:
    """Rescale the whole image: (3, size, size) uint8, RGB."""
    return torch.from_numpy(np.array(_rescaled(image, size, size))).permute(2, 0, 1).contiguous()


def to_thumbnail(image: Image.Image, side: int) -> Image.Image:
    """Scale an image down until neither side is longer than ``side`` pixels, in its own proportions."""
    ratio = min(1.0, side / max(image.size))
    return _rescaled(image, *(max(1, round(length * ratio)) for length in image.size))


def _rescaled(image: Image.Image, width: int, height: int) -> Image.Image:
    """Rescale to ``width`` × ``height`` pixels as stored, then turn upright."""
    across, down = (
        max(1, int(old / new / _REDUCING_GAP)) for old, new in zip(image.size, (width, height), strict=True)
    )
    small = _reduced(image, across, down)
    box = (0.0, 0.0, image.width / across, image.height / down)  # cells at the right and lower edges may be cut off
    scaled = small.resize((width, height), Image.Resampling.BILINEAR, box=box)
    scaled.getexif()[ExifTags.Base.Orientation] = _orientation(image)
    return ImageOps.exif_transpose(scaled)


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
    band = max(1, BAND_PIXELS // (width * down)) * down
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
