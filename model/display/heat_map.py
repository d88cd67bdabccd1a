"""Attention weights laid over a photo."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

_STEPS = np.linspace(0, 1, 5)
# matplotlib's "inferno", which gets lighter all the way and so can be printed in gray
_COLORS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)])
_OPACITY = 0.6


def lay_over(photo: Image.Image, regions: Sequence[Sequence[float]], *, highest: float) -> Image.Image:
    """Color a photo, which turns gray, by the weights of its regions; ``highest`` gets the lightest color."""
    grid = Image.fromarray(np.array(regions, np.float32) / highest)
    smooth = np.asarray(grid.resize(photo.size, Image.Resampling.BICUBIC))  # (height, width)
    return Image.blend(ImageOps.grayscale(photo).convert("RGB"), _colored(smooth), _OPACITY)


def color_bar(width: int, height: int) -> Image.Image:
    """The colors from 0 on the left to the highest weight on the right."""
    return _colored(np.tile(np.linspace(0, 1, width), (height, 1)))


def _colored(weights: "np.ndarray[tuple[int, ...], np.dtype[np.floating]]") -> Image.Image:
    # beyond both ends, as bicubic interpolation may be, the colors stay the same
    channels = [np.interp(weights, _STEPS, _COLORS[:, channel]) for channel in range(3)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))
