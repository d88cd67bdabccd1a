"""Letters for pictures: a font that has them, and lines that fit."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache, lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont
_PROBED_SIZE = 20
_NO_CHARACTER = "\U0010ffff"  # which every font draws as the box that stands for missing ones
# Looked for where the system keeps its fonts if Pillow's own, which is Latin, does not do
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJK-VF.ttf.ttc",
    "NotoSansCJKjp-Regular.otf",
    "DroidSansFallbackFull.ttf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "FreeSans.ttf",
    "unifont.otf",
)


def font_for(text: str, size: int) -> Font:
    """The font that has most of the characters of a text without control characters; others are drawn as boxes."""
    characters = {character for character in text if not character.isspace()}
    best, most = "", -1
    for name in ("", *_SYSTEM_FONTS):
        covered = sum(_covers(name, character) for character in characters)
        if covered > most:
            best, most = name, covered
        if covered == len(characters):
            break
    font = _load(best, size)
    assert font is not None  # one that covers anything has been loaded
    return font


@cache
def _load(name: str, size: int) -> Font | None:
    if not name:
        font = ImageFont.load_default(size)
        assert isinstance(font, Font)  # Pillow's wheels have FreeType
        return font
    try:
        return ImageFont.truetype(name, size)
    except OSError:  # not installed
        return None


@lru_cache(maxsize=10_000)
def _covers(name: str, character: str) -> bool:
    font = _probe(name)
    return font is not None and _drawn(font, character) != _drawn(font, _NO_CHARACTER)


@cache
def _probe(name: str) -> Font | None:
    """The font without shaping, which single characters may fail."""
    font = _load(name, _PROBED_SIZE)
    return None if font is None else font.font_variant(layout_engine=ImageFont.Layout.BASIC)


def _drawn(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def fit_lines(text: str, font: Font, width: float, *, lines: int) -> list[str]:
    """Break a text into at most ``lines`` lines of ``width`` pixels; one that goes on ends in an ellipsis."""
    rows = [row.rstrip() for line in text.split("\n") for row in _broken(line, font, width)]
    if len(rows) <= lines:
        return rows
    last = rows[lines - 1] + "…"
    while len(last) > 1 and font.getlength(last) > width:
        last = last[:-2] + "…"
    return [*rows[: lines - 1], last]


def _broken(line: str, font: Font, width: float) -> Iterator[str]:
    row = ""
    for word in re.findall(r"\s*\S+\s*|\s+", line):
        rest = word
        while font.getlength((row + rest).rstrip()) > width:
            if not row:  # longer than a line
                fitting = _fitting(rest, font, width)
                row, rest = rest[:fitting], rest[fitting:]
            yield row
            row = ""
        row += rest
    yield row


def _fitting(word: str, font: Font, width: float) -> int:
    """How many characters of a word fit into a line, at least one."""
    return max(1, bisect_right(range(1, len(word) + 1), width, key=lambda end: font.getlength(word[:end])))
