import re

from model.display.type_colors import type_color


def brightness(color: str) -> float:
    """The relative luminance of WCAG 2, without its gamma: enough to tell light from dark."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_benchmarks_types_differ() -> None:
    colors = [type_color(name) for name in ("PER", "LOC", "ORG", "MISC")]
    assert len({color.hex for color in colors}) == len({color.terminal for color in colors}) == 4


def test_black_letters_are_legible_on_all() -> None:
    colors = {type_color(f"type-{i}").hex for i in range(100)} | {type_color("PER").hex}
    assert len(colors) == 6
    assert all(re.fullmatch("#[0-9a-f]{6}", color) and brightness(color) > 0.7 for color in colors)


def test_other_types_keep_their_color() -> None:
    """Python's own hash of a text would differ from process to process."""
    assert [type_color(name).hex for name in ("SHIP", "FILM")] == ["#d5d5d5", "#a9ece2"]
    assert type_color("\udc80").hex  # half of a surrogate pair
