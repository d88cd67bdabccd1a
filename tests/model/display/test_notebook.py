import re

from model import Answer, Entity, Recognizer
from model.display.notebook import marked_html

TEXT = "Anna & <b>Bob</b>\nin Oslo"
FOUND = [Entity("PER", "Anna", 0, 4, 0.987), Entity("LOC", "Oslo", 21, 25, 0.5)]


def test_an_answer_is_its_marked_text(recognizer: Recognizer) -> None:
    text = "Kawhi Leonard wins the NBA award"
    answer = recognizer.recognize(text)
    assert isinstance(answer, Answer)
    assert answer
    html = answer._repr_html_()
    assert all(f"{e.word} <b" in html and f">{e.entity_group} {e.score:.2f}</b>" in html for e in answer)
    assert html.count("<mark") == len(answer)
    (batched,) = recognizer.recognize_batch([text])
    assert batched._repr_html_() == html  # type: ignore[attr-defined]


def test_an_entity_shows_word_type_and_score() -> None:
    assert re.fullmatch(r"<mark style=.*>Anna <b style=.*>PER 0\.99</b></mark>", FOUND[0]._repr_html_())


def test_the_post_cannot_write_html() -> None:
    html = marked_html(TEXT + "\x00<script>", [Entity("<i>", "Anna", 0, 4, 1)])
    assert "Anna <b" in html
    assert "&amp; &lt;b&gt;Bob&lt;/b&gt;\nin Oslo␀&lt;script&gt;" in html
    assert "&lt;i&gt; 1.00" in html


def test_styles_are_in_the_elements() -> None:
    """GitHub and JupyterLab remove style sheets, scripts and classes."""
    html = marked_html(TEXT, FOUND)
    assert html.startswith('<div dir="auto" style="white-space:pre-wrap')
    assert not re.search("<style|<script|class=", html)
