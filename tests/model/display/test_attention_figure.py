from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model import Attention, Entity
from model.display import attention_figure
from model.display.attention_figure import PANEL, check_figure_path, draw_attention, save_figure
from model.display.fonts import fit_lines

LOOKED = Attention(0.51, [[0.01] * 7 for _ in range(7)])


def entities(count: int, word: str = "Oslo") -> list[Entity]:
    return [Entity("LOC", word, 0, 4, 0.9, LOOKED)] * count


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that is written into pictures."""
    written = []

    def spy(text: str, *arguments: Any, **options: Any) -> list[str]:
        written.append(text)
        return fit_lines(text, *arguments, **options)

    monkeypatch.setattr(attention_figure, "fit_lines", spy)
    return written


def test_each_entity_has_a_panel(texts: list[str], image: Image.Image) -> None:
    draw_attention("Oslo and Rome", [*entities(1), *entities(1, "Rome")], image)
    assert texts[:2] == ["photo", "Oslo"]
    assert texts.count("LOC 0.90") == texts.count("whole photo 51 %, regions 49 %") == 2
    assert {"Rome", "Oslo and Rome", "share of the attention that one of 7 by 7 regions got"} <= set(texts)


def test_many_entities_fill_several_rows(image: Image.Image) -> None:
    """Nine entities and the photo: three rows of four."""
    one, nine = (draw_attention("Oslo", entities(count), image) for count in (1, 9))
    assert nine.width == 4 * PANEL + 3 * 50 + 2 * 75
    assert 2 * PANEL < nine.height - one.height < 3 * PANEL


def test_rows_are_about_the_same_length(image: Image.Image) -> None:
    """Four entities and the photo: three and two, not four and one."""
    assert draw_attention("Oslo", entities(4), image).width == 3 * PANEL + 2 * 50 + 2 * 75


def test_hundreds_of_entities_are_cut_short(texts: list[str], image: Image.Image) -> None:
    drawn = draw_attention("Oslo", entities(300), image)
    assert drawn.height < 15 * PANEL * 1.5
    assert texts[-1] == "the first 47 of 300 entities"


def test_no_entities_are_said(texts: list[str], image: Image.Image) -> None:
    draw_attention("hello", [], image)
    assert texts == ["photo", "hello", "no entities"]


def test_what_got_no_attention_stays_dark(image: Image.Image) -> None:
    """Rounded to four decimals, all regions may be 0."""
    nowhere = Attention(1.0, [[0.0] * 7 for _ in range(7)])
    assert draw_attention("Oslo", [Entity("LOC", "Oslo", 0, 4, 0.9, nowhere)], image).getextrema()


@pytest.mark.parametrize("word", ["x" * 300, "東京タワー", "👩‍🚀", "שלום", "\x1b[31m\n\ud83d", " "])
@pytest.mark.parametrize("size", [(3, 2000), (2000, 3), (1, 1)])
def test_any_word_and_photo_can_be_drawn(word: str, size: tuple[int, int]) -> None:
    drawn = draw_attention(f"{word}\n" * 100, entities(1, word), Image.new("RGB", size, "red"))
    assert drawn.width == 2 * PANEL + 50 + 2 * 75
    margin = np.asarray(drawn)[:, -75:]
    assert (margin == 255).all()


@pytest.mark.parametrize("name", ["a.png", "A.PNG"])
def test_pngs_are_made_for_print(tmp_path: Path, name: str) -> None:
    save_figure(Image.new("RGB", (30, 30)), tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == "PNG"
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_pdf_is_as_large_as_printed(tmp_path: Path) -> None:
    """300 pixels are one inch, 72 points."""
    save_figure(Image.new("RGB", (300, 600)), tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"[ 0 0 72.0 144.0 ]" in content


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.svg", "a.svg: a picture is written as .png or .pdf, not as .svg"),
        ("a", "a: a picture is written as .png or .pdf, but it has no suffix"),
        ("absent/a.png", "absent/a.png: there is no such folder"),
    ],
)
def test_a_path_is_checked_first(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises((ValueError, NotADirectoryError)) as caught:
        check_figure_path(tmp_path / name)
    assert str(caught.value) == f"{tmp_path}/{message}"
