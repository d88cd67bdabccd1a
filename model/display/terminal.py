"""An answer on a terminal: the text with its entities marked."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from model.display.marked_text import MarkedSpan, cut, label
from model.display.type_colors import type_color


def show(text: str, entities: Sequence[MarkedSpan], *, has_image: bool) -> None:
    """Print the text with its entities in color, or in brackets where NO_COLOR is set or the terminal is dumb."""
    console = Console(highlight=False)
    colored = console.color_system is not None and not console.no_color
    marked = Text()
    for piece in cut(text, entities):
        if piece.entity is None:
            marked.append(piece.text)
        elif colored:
            style = f"black on {type_color(piece.entity.entity_group).terminal}"
            marked.append(f" {piece.text} ", style).append(f"{label(piece.entity)} ", f"bold {style}")
        else:
            marked.append(f"[{piece.text} {label(piece.entity)}]")
    console.print(marked, soft_wrap=True)  # the terminal breaks lines, so what is copied from it is the post
    console.print(Text(summary(entities, has_image=has_image), "dim" if colored else ""), soft_wrap=True)


def summary(entities: Sequence[MarkedSpan], *, has_image: bool) -> str:
    """How many entities there are, and whether a photo was read."""
    count = {0: "no entities", 1: "1 entity"}.get(len(entities), f"{len(entities)} entities")
    return f"{count}, {'with' if has_image else 'without'} a photo"
