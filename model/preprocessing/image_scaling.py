"""Rescales a decoded image to an upright RGB one: a square for the encoder, a thumbnail for people."""

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.transforms.v2.functional import resize

SCALING = "bilinear with antialiasing, by torch"  # image features that were cached with another are refused
BAND_PIXELS = 2**20  # converted to RGB at a time
_BACKGROUND = (255, 255, 255)  # shows through transparent pixels
# Exif's orientations (CIPA DC-008, section 4.6.4): whether to swap height and width, then what to flip of (3, H, W)
_TURNS = {
    2: (False, (2,)),
    3: (False, (1, 2)),
    4: (False, (1,)),
    5: (True, ()),
    6: (True, (2,)),
    7: (True, (1, 2)),
    8: (True, (1,)),
}
_REDUCING_GAP = 3.0  # averaging over cells keeps at least this many times the final side, for the final resize


def to_square(image: Image.Image, size: int) -> Tensor:
    """Rescale the whole image: (3, size, size) uint8, RGB."""
    return _rescaled(image, size, size)


def to_thumbnail(image: Image.Image, side: int) -> Image.Image:
    """Scale an image down until neither side is longer than ``side`` pixels, in its own proportions."""
    ratio = min(1.0, side / max(image.size))
    scaled = _rescaled(image, *(max(1, round(length * ratio)) for length in image.size))
    return Image.fromarray(scaled.permute(1, 2, 0).numpy())


def _rescaled(image: Image.Image, width: int, height: int) -> Tensor:
    """Rescale to ``width`` × ``height`` pixels as stored, then turn upright: (3, H, W) uint8."""
    across, down = (
        max(1, int(old / new / _REDUCING_GAP)) for old, new in zip(image.size, (width, height), strict=True)
    )
    if across == down == 1:
        scaled = interpolate(_rgb(image), width, height)
    else:
        box = (0.0, 0.0, image.width / across, image.height / down)  # the last cells may be cut off
        small = _reduced(image, across, down)
        scaled = _pixels(small.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return _upright(scaled, _orientation(image)).contiguous()


def interpolate(image: Image.Image, width: int, height: int) -> Tensor:
    """Resize as Pillow does, but for rounding, in a fraction of its time (docs/lab/serving.md): (3, H, W) uint8."""
    scaled: Tensor = resize(_pixels(image), [height, width], antialias=True)
    return scaled


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _upright(pixels: Tensor, orientation: int) -> Tensor:
    """Turn (3, H, W) as Exif's orientation says."""
    if orientation not in _TURNS:
        return pixels
    transposed, flipped = _TURNS[orientation]
    return (pixels.transpose(1, 2) if transposed else pixels).flip(flipped)


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
    return image if image.mode == "RGB" else image.convert("RGB")
