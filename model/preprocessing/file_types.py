"""Names the type of a file that is not read as an image, so that its sender learns what was sent."""

import codecs
import re

_SIGNATURES = {  # by the first bytes
    "a PDF file": rb"%PDF-",
    "a TIFF file": rb"II[*+]\0|MM\0[*+]",
    "a BMP file": rb"BM.{4}\0{4}",
    "an ICO file": rb"\0\0\x01\0.\0",
    "a CUR file": rb"\0\0\x02\0.\0",
    "a PSD file": rb"8BPS\0",
    "a JPEG XL file": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "a JPEG 2000 file": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
    "a JPEG XR file": rb"II\xbc",
    "a PBM, PGM or PPM file": rb"P[1-6]\s+(#|\d+\s)|P7\nWIDTH|P[Ff]\n\d",
    "a QOI file": rb"qoif\0",
    "an OpenEXR file": rb"\x76\x2f\x31\x01",
    "a Radiance HDR file": rb"#\?RADIANCE",
    "a GIMP file": rb"gimp xcf",
    "a DjVu file": rb"AT&TFORM",
    "a WMF file": rb"\xd7\xcd\xc6\x9a",
    "a PostScript file": rb"%!PS|\xc5\xd0\xd3\xc6",
    "an AVI video": rb"RIFF.{4}AVI ",
    "a WebM or Matroska video": rb"\x1aE\xdf\xa3",
    "a QuickTime (MOV) video": rb"\0.{3}(moov|mdat|wide|free|skip|pnot)",  # the newer ones have brands
    "a Flash video": rb"FLV\x01",
    "an MPEG video": rb"\0\0\x01[\xba\xb3]",
    "a WAV file": rb"RIFF.{4}WAVE",
    "an Ogg file": rb"OggS\0",
    "an MP3 file": rb"ID3[\x02-\x04]",
    "a FLAC file": rb"fLaC\0",
    "a ZIP file": rb"PK(\x03\x04|\x05\x06)",
    "a gzip file": rb"\x1f\x8b",
    "a bzip2 file": rb"BZh[1-9]1AY&SY",
    "an xz file": rb"\xfd7zXZ\0",
    "a Zstandard file": rb"\x28\xb5\x2f\xfd",
    "a 7z file": rb"7z\xbc\xaf\x27\x1c",
    "a RAR file": rb"Rar!\x1a\x07",
    "an old Office document": rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "an SQLite database": rb"SQLite format 3\0",
    "a program": rb"\x7fELF|MZ.{58}",
    "a NumPy file": rb"\x93NUMPY",
    "a pickle": rb"\x80[\x02-\x05][\x95}\](]",
    "UTF-16 text": rb"\xff\xfe|\xfe\xff",
    # bytes that were taken for text on their way
    "a PNG file whose line ends were converted": rb"\x89PNG(\n|\r\r)",
    "a PNG file whose bytes were encoded as UTF-8": rb"\xc2\x89PNG",
    "a JPEG file whose bytes were encoded as UTF-8": rb"\xc3\xbf\xc3\x98\xc3\xbf",
    "bytes that were decoded as text, which lost some of them": rb"\xef\xbf\xbd",
}
_MEDIA_BRANDS = {  # of ISO base media files, MP4 and its kin
    "a HEIC file": rb"hei[cxms]|hev[cxms]",
    "a HEIF file": rb"mif1|msf1|avci|avcs",
    "a CR3 file": rb"crx ",
    "a QuickTime (MOV) video": rb"qt  ",
    "a 3GP video": rb"3g[pg2s].",
    "an M4A file": rb"M4[AB] ",
}
_TEXTS = {  # the first that matches, white space apart
    "a data: URL, not the bytes that it stands for": rb"data:[\w.+-]+/[\w.+-]+[;,]",
    "the address of a file, not its bytes": rb"(?i:https?)://\S+\s*\Z",
    "an SVG file": rb"(?i:<svg[\s>]|<!DOCTYPE svg|(<\?xml|<!--)[^\0]*?<svg[\s>])",
    "an HTML page": rb"(?i:<!doctype html|<(html|head|body)[\s>])",
    "an XML file": rb"<\?xml",
    "JSON": rb'\{\s*["}]|\[\s*["{\[\]\d-]',
    "hexadecimal digits, not the bytes that they stand for": (
        rb"(?i:(0x|\\x)?(ffd8ff|89504e47|47494638|52494646)[0-9a-f]{8})"
    ),
    # the beginnings of JPEG, PNG, GIF, WebP, AVIF or HEIC, BMP, TIFF, PDF and SVG
    "base64 text, not the bytes that it stands for": (
        rb"/9j/|iVBORw0KGgo|R0lGOD|UklGR|AAAA..Z0eX|Qk[0-3].{3}A|SUkqA|TU0AK|JVBERi0|PHN2Zy|PD94bWwg"
    ),
    "plain text": rb"",
}
_HEAD = 4096  # bytes that tell what kind of text it is


def name_file_type(content: bytes) -> str | None:
    """Name the type of a file by its first bytes, such as "a HEIC file"; None if it is not known."""
    if not content:
        return "an empty file"
    if content[4:8] == b"ftyp":
        return _name_media_file(_brands(content))
    return _first_match(_SIGNATURES, content) or _name_text(content)


def is_avif(content: bytes) -> bool:
    """Whether the file says that it is an AVIF file."""
    return content[4:8] == b"ftyp" and not {b"avif", b"avis"}.isdisjoint(_brands(content))


def _first_match(patterns: dict[str, bytes], content: bytes) -> str | None:
    return next((name for name, pattern in patterns.items() if re.match(pattern, content, re.DOTALL)), None)


def _brands(content: bytes) -> list[bytes]:
    """The major brand, then the compatible ones (ISO/IEC 14496-12, section 4.3)."""
    box = content[8 : min(int.from_bytes(content[:4], "big"), 256)]
    return [box[:4], *(box[i : i + 4] for i in range(8, len(box), 4))]


def _name_media_file(brands: list[bytes]) -> str:
    name = _first_match(_MEDIA_BRANDS, brands[0]) or "an MP4 video"
    if name == "a HEIF file":  # a container, whose other brands tell what is in it
        names = [_first_match(_MEDIA_BRANDS, brand) for brand in brands]
        return "a HEIC file" if "a HEIC file" in names else name
    return name


def _name_text(content: bytes) -> str | None:
    head = content[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return None
    if not text or any(character < " " and not character.isspace() for character in text):
        return None
    return _first_match(_TEXTS, head)
