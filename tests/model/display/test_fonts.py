import pytest
from PIL import ImageFont

from model.display import fonts
from model.display.fonts import fit_lines, font_for


@pytest.fixture
def no_system_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_SYSTEM_FONTS", ("absent.ttf",))


def test_latin_is_drawn_in_pillows_font() -> None:
    """So pictures look the same everywhere."""
    own = ImageFont.load_default(20)
    assert isinstance(own, ImageFont.FreeTypeFont)
    assert font_for("Kawhi Leonard, 98 %", 20).getname() == own.getname()


def test_a_font_that_has_the_letters_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        ImageFont.truetype("DejaVuSans.ttf", 20)
    except OSError:
        pytest.skip("DejaVu is not installed")
    monkeypatch.setattr(fonts, "_SYSTEM_FONTS", ("absent.ttf", "DejaVuSans.ttf"))
    assert font_for("Афины", 20).getname() == ("DejaVu Sans", "Book")


@pytest.mark.parametrize("text", ["東京", "👩‍🚀", "שלום", "ไทย", "a b", ""])
def test_missing_letters_neither_fail_nor_warn(no_system_fonts: None, text: str) -> None:
    font = font_for(text, 20)
    assert font.size == 20
    assert fit_lines(text, font, 500, lines=1) == [text]


def test_lines_break_between_words() -> None:
    font = font_for("a", 20)
    rows = fit_lines("one two three\n\nfour", font, font.getlength("one two th"), lines=9)
    assert rows == ["one two", "three", "", "four"]


def test_a_long_word_is_broken() -> None:
    font = font_for("x", 20)
    rows = fit_lines("x" * 50, font, font.getlength("x" * 20), lines=9)
    assert rows == ["x" * 20, "x" * 20, "x" * 10]


def test_too_many_lines_end_in_an_ellipsis() -> None:
    font = font_for("x", 20)
    rows = fit_lines("x" * 500, font, 100, lines=2)
    assert len(rows) == 2
    assert rows[1].endswith("x…")
    assert font.getlength(rows[1]) <= 100


def test_a_width_of_nothing_still_ends() -> None:
    assert fit_lines("xyz", font_for("x", 20), 0, lines=9) == ["x", "y", "z", ""]
