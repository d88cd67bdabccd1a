"""A picture of where each entity looked in the photo, after figure 4 of the paper, to be printed.

The photo comes first, then a panel for each entity. All panels share one scale.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from model.display.fonts import fit_lines, font_for
from model.display.heat_map import color_bar, lay_over
from model.display.marked_text import harmless, label
from model.display.type_colors import type_color
from model.entities import Attention, Entity

_DOTS_PER_INCH = 300
_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"dpi": (_DOTS_PER_INCH, _DOTS_PER_INCH)},
    ".pdf": {"resolution": float(_DOTS_PER_INCH), "quality": 95},
}
PANEL = 600  # pixels, the longer side of the photo in a panel
_GAP, _MARGIN = 50, 75
_LARGE, _SMALL = 38, 30  # font sizes in pixels: 9 and 7 points
_LEADING = 1.35
_COLUMNS = 4
_MAX_ENTITIES = 47  # with the photo, 12 rows; a long text may have hundreds
_MAX_CHARACTERS, _MAX_LINES = 2_000, 8  # of the text above
_BAR = (PANEL, 30)


def check_figure_path(path: Path) -> None:
    """Refuse a path that nothing can be drawn to.

    Raises:
        ValueError: its suffix is none of those that are written.
        NotADirectoryError: its folder does not exist.
    """
    if path.suffix.lower() not in _OPTIONS:
        found = f"not as {path.suffix}" if path.suffix else "but it has no suffix"
        raise ValueError(f"{path}: a picture is written as {' or '.join(_OPTIONS)}, {found}")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"{path}: there is no such folder")


def save_figure(figure: Image.Image, path: Path) -> None:
    """Write the picture at 300 dots per inch."""
    figure.save(path, **_OPTIONS[path.suffix.lower()])


def draw_attention(text: str, entities: Sequence[Entity], photo: Image.Image) -> Image.Image:
    """Draw a post: its text, its photo, and the photo as each entity with ``attention`` saw it."""
    shown = [(entity, entity.attention) for entity in entities if entity.attention is not None]
    panels = _panels(shown[:_MAX_ENTITIES], _enlarged(photo))
    columns = max(2, -(-len(panels) // -(-len(panels) // _COLUMNS)))  # rows of about the same length
    width = columns * PANEL + (columns - 1) * _GAP
    parts = [_text(harmless(text)[:_MAX_CHARACTERS], width, _LARGE, lines=_MAX_LINES)]
    parts += [_row(panels[first : first + columns], width) for first in range(0, len(panels), columns)]
    parts.append(_legend(shown, width) if shown else _text("no entities", width, _LARGE))
    if len(shown) > _MAX_ENTITIES:
        parts.append(_text(f"the first {_MAX_ENTITIES} of {len(shown)} entities", width, _SMALL))
    return _column(parts, width)


def _enlarged(photo: Image.Image) -> Image.Image:
    ratio = PANEL / max(photo.size)
    return photo.resize((max(1, round(photo.width * ratio)), max(1, round(photo.height * ratio))))


def _panels(shown: Sequence[tuple[Entity, Attention]], photo: Image.Image) -> list[Image.Image]:
    highest = _highest(shown)
    return [
        _panel(photo, "photo"),
        *(_panel(lay_over(photo, seen.regions, highest=highest), entity.word, entity, seen) for entity, seen in shown),
    ]


def _panel(
    photo: Image.Image, title: str, entity: Entity | None = None, attention: Attention | None = None
) -> Image.Image:
    """A photo over its title and, of an entity, its type and where its attention went."""
    parts = [photo, _text(" ".join(harmless(title).split()), PANEL, _LARGE, lines=2)]
    if entity is not None and attention is not None:
        parts.append(_chip(label(entity), type_color(entity.entity_group).hex))
        whole = round(100 * attention.overall)
        parts.append(_text(f"whole photo {whole} %, regions {100 - whole} %", PANEL, _SMALL))
    return _stacked(parts, PANEL, gap=_GAP // 4)


def _legend(shown: Sequence[tuple[Entity, Attention]], width: int) -> Image.Image:
    """What the colors mean: the share of an entity's attention that one region got."""
    regions = shown[0][1].regions
    title = f"share of the attention that one of {len(regions)} by {len(regions[0])} regions got"
    bar, ends = color_bar(*_BAR), Image.new("RGB", (_BAR[0], round(_SMALL * _LEADING)), "white")
    draw, highest = ImageDraw.Draw(ends), f"{100 * _highest(shown):.1f} %"
    font = font_for(highest, _SMALL)
    draw.text((0, 0), "0 %", "black", font)
    draw.text((_BAR[0], 0), highest, "black", font, anchor="ra")
    return _stacked([_text(title, width, _SMALL), bar, ends], width, gap=_GAP // 4)


def _highest(shown: Sequence[tuple[Entity, Attention]]) -> float:
    """The largest weight of any region; not 0, which it is if rounding left nothing."""
    return max((weight for _, seen in shown for row in seen.regions for weight in row), default=0) or 1.0


def _text(text: str, width: int, size: int, *, lines: int = 1) -> Image.Image:
    font = font_for(text, size)
    rows, height = fit_lines(text, font, width, lines=lines), round(size * _LEADING)
    image = Image.new("RGB", (width, height * len(rows)), "white")
    draw = ImageDraw.Draw(image)
    for number, row in enumerate(rows):
        draw.text((0, number * height), row, "black", font)
    return image


def _chip(text: str, color: str) -> Image.Image:
    """A short text on a colored ground."""
    font = font_for(text, _SMALL)
    (row,) = fit_lines(text, font, PANEL - _SMALL, lines=1)
    width, height = round(font.getlength(row)) + _SMALL, round(_SMALL * 1.6)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), _SMALL // 3, color)
    draw.text((_SMALL // 2, height // 2), row, "black", font, anchor="lm")
    return image


def _row(panels: Sequence[Image.Image], width: int) -> Image.Image:
    image = Image.new("RGB", (width, max(panel.height for panel in panels)), "white")
    for number, panel in enumerate(panels):
        image.paste(panel, (number * (PANEL + _GAP), 0))
    return image


def _stacked(parts: Sequence[Image.Image], width: int, *, gap: int) -> Image.Image:
    """Put pictures below each other, aligned on the left."""
    image = Image.new("RGB", (width, sum(part.height + gap for part in parts) - gap), "white")
    top = 0
    for part in parts:
        image.paste(part, (0, top))
        top += part.height + gap
    return image


def _column(parts: Sequence[Image.Image], width: int) -> Image.Image:
    """The whole page, with a margin."""
    content = _stacked(parts, width, gap=_GAP)
    page = Image.new("RGB", (width + 2 * _MARGIN, content.height + 2 * _MARGIN), "white")
    page.paste(content, (_MARGIN, _MARGIN))
    return page
