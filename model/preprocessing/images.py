"""Bytes to an upright RGB square of the image encoder's size, or to a thumbnail.

Sizes are read from the header before anything is decoded, and large JPEGs are decoded at a reduced scale
(``Image.draft``). Training and serving both decode here, so they see the same pixels.
"""

import hashlib
import io
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import TypeVar

import torch
from PIL import AvifImagePlugin, Image
from torch import Tensor

from model.errors import ImageTooLarge, InvalidPost, UnreadableImage, UnsupportedImage
from model.preprocessing import jpeg_segments, png_chunks, webp_chunks
from model.preprocessing.avif_size import check_extents, coded_sizes
from model.preprocessing.file_types import is_avif, name_file_type
from model.preprocessing.image_scaling import BAND_PIXELS, to_square, to_thumbnail
from model.preprocessing.image_sources import ImageSource, image_content
from model.preprocessing.webp_chunks import is_webp, webp_size

__all__ = ["FORMATS", "IMAGE_SUFFIXES", "MAX_PIXELS", "ImageSettings", "ImageSource", "read_image", "read_thumbnail"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif")
MAX_PIXELS = 50_000_000
_LARGE_PIXELS = (
    12_000_000  # WebP takes 16 bytes a pixel to decode, AVIF up to 15; larger images are decoded one at a time
)
_MAX_AVIF_LAYERS = 3  # colors, transparency and a gain map or thumbnail
_LARGE_IMAGE_LOCK = threading.Lock()
_DRAFT_MARGIN = 2  # a JPEG is decoded to at least this many times the final side
_MAX_SCANS = 100  # in a JPEG; a progressive one has about ten, and each costs a pass over the whole image
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # as for the other formats: several images are decoded at once
Scaled = TypeVar("Scaled")
Scale = Callable[[Image.Image, int], Scaled]  # of a decoded image, to sides of so many pixels
_SIGNATURES = (jpeg_segments.SIGNATURE, png_chunks.SIGNATURE, b"GIF8")


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
        source: a PIL image, or a JPEG, PNG, WebP, GIF or AVIF (its first frame) as bytes, as the path of a file or as
            a file opened for reading bytes.
        size: side of the square in pixels.
        max_pixels: files with more pixels are refused without being decoded.

    Returns:
        (3, size, size) uint8, RGB.

    Raises:
        UnsupportedImage, ImageTooLarge, UnreadableImage: the image is at fault.
        TypeError: ``source`` is none of these; the message names its type.
        OSError: the path cannot be read.
    """
    return _read(source, size, max_pixels, to_square)


def read_thumbnail(source: ImageSource, *, side: int, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image and scale it down to at most ``side`` pixels a side, upright and in RGB.

    The proportions stay, and so does the size of an image that is smaller. Errors as for :func:`read_image`.
    """
    return _read(source, side, max_pixels, to_thumbnail)


def _read(source: ImageSource, size: int, max_pixels: int, scale: Scale[Scaled]) -> Scaled:
    content = image_content(source)
    try:
        if isinstance(content, Image.Image):
            return scale(content, size)
        return _decode(_without_metadata(content), size, max_pixels, scale)
    except InvalidPost:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise UnreadableImage("the photo's bytes are damaged") from error


def _without_metadata(content: bytes) -> bytes:
    """Hide from Pillow what may be damaged or expensive although the pixels do not depend on it."""
    if content.startswith(jpeg_segments.SIGNATURE):
        return jpeg_segments.without_metadata(content)
    if content.startswith(png_chunks.SIGNATURE):
        return png_chunks.without_metadata(content)
    return webp_chunks.without_metadata(content) if is_webp(content) else content


def _decode(content: bytes, size: int, max_pixels: int, scale: Scale[Scaled]) -> Scaled:
    if content.startswith(jpeg_segments.SIGNATURE) and not jpeg_segments.has_end(content):
        content, *others = jpeg_segments.completions(content) or [content]
        if others and any(_digest(other, max_pixels) != _digest(content, max_pixels) for other in others):
            raise UnreadableImage("the photo ends before its last pixels")
    return _first_frame(content, size, max_pixels, scale)


def _first_frame(content: bytes, size: int, max_pixels: int, scale: Scale[Scaled]) -> Scaled:
    if header := webp_size(content):  # Pillow allocates a WebP's whole canvas when it opens it
        pixels = _check_size(*header, max_pixels=max_pixels)
        with _large_image_lock(pixels), _open(content, max_pixels) as image:
            return scale(image, size)
    with _open(content, max_pixels) as image:
        pixels = image.width * image.height
        image.draft("RGB", (_DRAFT_MARGIN * size, _DRAFT_MARGIN * size))
        if "progressive" not in image.info:  # libjpeg keeps all coefficients of a progressive one at any scale
            pixels = image.width * image.height
        if image.format == "AVIF":
            pixels = _coded_pixels(content, max_pixels)
        with _large_image_lock(pixels):
            return scale(image, size)


def _digest(content: bytes, max_pixels: int) -> bytes:
    """A checksum of all pixels at full size, which even the last bits of a JPEG change."""
    digest = hashlib.blake2b()
    with _open(content, max_pixels) as image, _large_image_lock(image.width * image.height):
        rows = max(1, BAND_PIXELS // image.width)
        for top in range(0, image.height, rows):
            digest.update(image.crop((0, top, image.width, min(top + rows, image.height))).tobytes())
    return digest.digest()


def _open(content: bytes, max_pixels: int) -> Image.Image:
    """Read the header and check format, size and scans, without decoding."""
    try:
        if content[4:8] == b"ftyp":  # AVIF and its kin
            check_extents(content)
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own, higher limit
        raise ImageTooLarge(pixels=f"more than {Image.MAX_IMAGE_PIXELS}", limit=max_pixels) from error
    except Exception as error:
        if content.startswith(_SIGNATURES) or is_webp(content) or is_avif(content):
            raise UnreadableImage("the photo's header is damaged") from error
        raise _unsupported(content) from error
    _check_size(*image.size, max_pixels=max_pixels)
    scans = jpeg_segments.count_scans(content) if image.format in ("JPEG", "MPO") else 1
    if scans > _MAX_SCANS:
        raise UnreadableImage(f"the photo has {scans} scans, at most {_MAX_SCANS} are decoded")
    return image


def _unsupported(content: bytes) -> UnsupportedImage:
    if name := name_file_type(content):
        return UnsupportedImage(f"the photo is {name}; JPEG, PNG, WebP, GIF and AVIF are read")
    return UnsupportedImage("the photo is not a JPEG, PNG, WebP, GIF or AVIF file")


def _check_size(width: int, height: int, *, max_pixels: int) -> int:
    pixels = width * height
    if pixels > max_pixels:
        raise ImageTooLarge(pixels=f"{width} × {height} = {pixels}", limit=max_pixels)
    return pixels


def _coded_pixels(content: bytes, max_pixels: int) -> int:
    """The pixels of all pictures that an AVIF consists of, which its header may conceal."""
    sizes = [_check_size(*size, max_pixels=max_pixels) for size in coded_sizes(content)]
    if sum(sizes) > _MAX_AVIF_LAYERS * max_pixels:
        raise ImageTooLarge(pixels=f"{sum(sizes)} in {len(sizes)} pictures", limit=_MAX_AVIF_LAYERS * max_pixels)
    return sum(sizes)


def _large_image_lock(pixels: int) -> AbstractContextManager[object]:
    """Serializes decoding of large images."""
    return _LARGE_IMAGE_LOCK if pixels > _LARGE_PIXELS else nullcontext()
