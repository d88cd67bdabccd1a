import base64
import gzip
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from model.errors import UnsupportedImage
from model.preprocessing.file_types import is_avif, name_file_type
from model.preprocessing.images import read_image


def media(*brands: bytes) -> bytes:
    box = brands[0] + bytes(4) + b"".join(brands[1:])
    return (8 + len(box)).to_bytes(4, "big") + b"ftyp" + box + bytes(100)


def file_of(format_: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, format_)
    return buffer.getvalue()


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.jpg", b"")
    return buffer.getvalue()


def numpy_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


JPEG, PNG = file_of("JPEG"), file_of("PNG")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "an empty file"),
        (media(b"heic", b"mif1", b"heic"), "a HEIC file"),
        (media(b"heix", b"mif1"), "a HEIC file"),
        (media(b"mif1", b"heic"), "a HEIC file"),
        (media(b"mif1", b"xxxx"), "a HEIF file"),
        (media(b"isom", b"iso2", b"avc1", b"mp41"), "an MP4 video"),
        (media(b"mp42"), "an MP4 video"),
        (media(b"qt  "), "a QuickTime (MOV) video"),
        (b"\0\0\0\x08wide\0\0\x10\0mdat", "a QuickTime (MOV) video"),
        (media(b"3gp4"), "a 3GP video"),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "a WebM or Matroska video"),
        (b"RIFF\0\0\0\0AVI LIST", "an AVI video"),
        (b"%PDF-1.7\n", "a PDF file"),
        (b"8BPS\0\1", "a PSD file"),
        (b"\xff\x0a\xfa\x7f", "a JPEG XL file"),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "a JPEG XL file"),
        (file_of("JPEG2000"), "a JPEG 2000 file"),
        (file_of("TIFF"), "a TIFF file"),
        (file_of("BMP"), "a BMP file"),
        (file_of("ICO"), "an ICO file"),
        (file_of("PPM"), "a PBM, PGM or PPM file"),
        (zip_file(), "a ZIP file"),
        (gzip.compress(JPEG), "a gzip file"),
        (numpy_file(), "a NumPy file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG file"),
        (b"\n<?xml version='1.0'?>\n<!-- drawn -->\n<svg width='5'/>", "an SVG file"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><note/>", "an XML file"),
        (b"<!DOCTYPE html><html><svg></svg>", "an HTML page"),
        (b"\r\n<HTML><head>", "an HTML page"),
        (json.dumps({"error": "not found"}).encode(), "JSON"),
        (b"[]", "JSON"),
        (base64.b64encode(JPEG), "base64 text, not the bytes that it stands for"),
        (base64.encodebytes(PNG), "base64 text, not the bytes that it stands for"),
        (base64.b64encode(media(b"avif")), "base64 text, not the bytes that it stands for"),
        (b"data:image/png;base64," + base64.b64encode(PNG), "a data: URL, not the bytes that it stands for"),
        (b"https://example.org/photo.jpg\n", "the address of a file, not its bytes"),
        (JPEG.hex().encode(), "hexadecimal digits, not the bytes that they stand for"),
        (PNG.replace(b"\r\n", b"\n"), "a PNG file whose line ends were converted"),
        (JPEG.decode("utf-8", "replace").encode(), "bytes that were decoded as text, which lost some of them"),
        (JPEG.decode("latin-1").encode(), "a JPEG file whose bytes were encoded as UTF-8"),
        ("photo".encode("utf-16"), "UTF-16 text"),
        (b"I'm free tonight", "plain text"),
        (b"BMW is a car", "plain text"),
        ("é".encode() * 5000, "plain text"),
        (b"photo.jpg", "plain text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_named(content: bytes, name: str) -> None:
    assert name_file_type(content) == name
    with pytest.raises(UnsupportedImage) as caught:
        read_image(content, size=8)
    assert str(caught.value) == f"the photo is {name}; JPEG, PNG, WebP, GIF and AVIF are read"


@pytest.mark.parametrize("content", [b"\0\1\2\3", b"\x89PNG", b"RIFF\0\0\0\0", bytes(range(256)), b"\xff"])
def test_unknown_bytes_are_said_not_to_be_photos(content: bytes) -> None:
    assert name_file_type(content) is None
    with pytest.raises(UnsupportedImage, match="the photo is not a JPEG, PNG, WebP, GIF or AVIF file"):
        read_image(content, size=8)


def test_avif_is_told_by_any_brand() -> None:
    assert is_avif(media(b"avif"))
    assert is_avif(media(b"mif1", b"avif"))
    assert not is_avif(media(b"mif1", b"heic"))
