import re
import subprocess
import sys

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
    """Python's own hash of a text differs from process to process."""
    code = "from model.display.type_colors import type_color; print([type_color(n).hex for n in ('SHIP', '\\udc80')])"
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(2)}
    assert len(runs) == 1
    assert type_color("SHIP").hex in runs.pop()
