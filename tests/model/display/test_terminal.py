import pytest

from model import Entity
from model.display.terminal import show, summary
from tests.model.display.terminals import STYLE, terminal

TEXT = "Kawhi Leonard is in Oslo"
FOUND = [Entity("PER", "Kawhi Leonard", 0, 13, 0.987), Entity("LOC", "Oslo", 20, 24, 0.5)]


def test_entities_are_colored_by_type(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen:
        show(TEXT, FOUND, has_image=False)
        printed = screen.styled()
    assert STYLE.sub("", printed) == " Kawhi Leonard PER 0.99  is in  Oslo LOC 0.50 \n2 entities, without a photo\n"
    assert "\x1b[30;46m Kawhi Leonard " in printed
    assert "\x1b[30;42m Oslo " in printed


@pytest.mark.parametrize(
    "environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": "dumb", "COLORTERM": "truecolor"}]
)
def test_without_color_there_are_brackets(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    with terminal(monkeypatch, **environment) as screen:
        show(TEXT, FOUND, has_image=True)
        assert screen.styled() == "[Kawhi Leonard PER 0.99] is in [Oslo LOC 0.50]\n2 entities, with a photo\n"


def test_an_empty_no_color_means_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """As https://no-color.org says."""
    with terminal(monkeypatch, NO_COLOR="") as screen:
        show(TEXT, FOUND, has_image=True)
        assert "\x1b[30;46m" in screen.styled()


def test_escape_sequences_of_posts_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\x1b[31mred\x1b]0;title\x07 \x1b]8;;http://example.com\x1b\\link\x9b2J \x08\x0c"
    with terminal(monkeypatch) as screen:
        show(text, [Entity("\x1b[5mPER", text[:8], 0, 8, 0.5)], has_image=False)
        printed = screen.plain()
    assert printed.startswith(" ␛[31mred ␛[5mPER 0.50 ␛]0;title␇ ␛]8;;http://example.com␛\\link\\u009b2J ␈␌")
    assert not set(printed) & {"\x1b", "\x07", "\x9b", "\x08", "\x0c"}


@pytest.mark.parametrize(
    "text",
    [
        "[bold]x[/bold] [/] [link=a]b :smile: 12:30 'a' http://a.b",
        "one\n\n  two  \n\n",
        "東京タワー 👩‍🚀 שלום e\u0301",
        "long " * 100,
        "",
    ],
)
def test_a_text_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """No markup is read, and the terminal itself breaks lines, so what is copied from it is the post."""
    with terminal(monkeypatch, COLUMNS="20") as screen:
        show(text, [], has_image=False)
        assert screen.plain() == f"{text}\nno entities, without a photo\n"


def test_wide_letters_are_marked_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch, NO_COLOR="1") as screen:
        show("👩‍🚀 東京タワー!", [Entity("LOC", "東京タワー", 4, 9, 1)], has_image=False)
        assert screen.styled().startswith("👩‍🚀 [東京タワー LOC 1.00]!\n")


def test_one_entity_is_not_called_entities() -> None:
    assert summary(FOUND[:1], has_image=True) == "1 entity, with a photo"
