import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from training.data.posts import LabeledPost, TypedWords
from training.figures.mistakes_page import MAX_SHOWN, mistakes_page
from training.scoring.scores import ScoredEntity, ScoredPredictions

OSLO = TypedWords(3, 3, "LOC")


def post(*entities: TypedWords, image: Path | None = None) -> LabeledPost:
    return LabeledPost("p1", ("Anna", "is", "in", "Oslo"), entities, image)


def found(*entities: TypedWords, score: float = 0.75) -> tuple[ScoredEntity, ...]:
    return tuple(ScoredEntity(entity, score) for entity in entities)


def page(posts: list[LabeledPost], predicted: ScoredPredictions) -> str:
    return mistakes_page("Mistakes of tiny", posts, predicted)


def counts(html: str) -> dict[str, tuple[int, int]]:
    """How many mistakes of each kind there are, and are shown."""
    rows = re.findall(
        r'<a href="#[\w-]+">([\w ]+)</a></td><td class="number">(\d+)</td>\s*<td class="number">(\d+)', html
    )
    return {kind: (int(number), int(shown)) for kind, number, shown in rows}


def test_mistakes_are_grouped_by_kind() -> None:
    tagged, other = TypedWords(0, 0, "PER"), TypedWords(3, 3, "ORG")
    html = page(
        [post(tagged, OSLO), post(OSLO), post()],
        [found(TypedWords(0, 1, "PER"), other), (), found(OSLO)],
    )
    assert counts(html) == {"missed": (1, 1), "invented": (1, 1), "wrong type": (1, 1), "wrong border": (1, 1)}
    assert re.findall(r"<h2>(.*)</h2>", html) == ["missed: 1", "invented: 1", "wrong type: 1", "wrong border: 1"]
    assert "3 posts, 3 tagged entities" in html


def test_tags_and_answer_are_side_by_side() -> None:
    html = page([post(TypedWords(0, 0, "PER"), OSLO)], [found(TypedWords(0, 0, "PER"), TypedWords(3, 3, "ORG"))])
    tags, model = re.findall(r"<h3>(?:tags|model)</h3>\s*<p dir=\"auto\">(.*?)</p>", html, re.DOTALL)
    assert re.sub(' style="[^"]*"', "", tags) == (
        '<mark>Anna <b>PER</b></mark> is in <mark class="wrong">Oslo <b>LOC</b></mark>'
    )
    assert re.sub(' style="[^"]*"', "", model) == (
        '<mark>Anna <b>PER 0.75</b></mark> is in <mark class="wrong">Oslo <b>ORG 0.75</b></mark>'
    )


def test_lines_of_a_post_are_kept() -> None:
    lines = LabeledPost("p", ("Anna", "Oslo", "Rome"), (TypedWords(1, 1, "LOC"),), line_starts=(1,))
    html = page([lines], [()])
    assert re.search(r">Anna\n<mark [^>]*>Oslo <b>LOC</b></mark> Rome</p>", html)


def test_photos_are_small_and_inside(tmp_path: Path, image: Image.Image) -> None:
    image.resize((2000, 1000)).save(tmp_path / "a.png")
    html = page([post(OSLO, image=tmp_path / "a.png")], [()])
    (encoded,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as photo:
        assert (photo.format, photo.size) == ("JPEG", (240, 120))
    assert len(encoded) < 30_000


@pytest.mark.parametrize("content", [None, b"\x89PNG"])
def test_a_lost_photo_costs_no_mistake(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    html = page([post(OSLO, image=tmp_path / "a.png")], [()])
    assert "<img" not in html
    assert "post p1, without a photo" in html


def test_posts_cannot_write_html() -> None:
    words = ("<script>alert(1)</script>", '"&\x1b[31m', "Oslo")
    hostile = LabeledPost('<img src="x">', words, (TypedWords(2, 2, "<b>"),))
    html = mistakes_page("<i>", [hostile], [found(TypedWords(0, 0, '"><i>'))])
    assert not re.search("<script|<img|<i>", html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "␛[31m" in html


class Addresses(HTMLParser):
    """The addresses that a page names, and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]


def test_the_file_needs_no_other(tmp_path: Path, image: Image.Image) -> None:
    image.save(tmp_path / "a.png")
    html = page([post(OSLO, image=tmp_path / "a.png")], [()])
    read = Addresses(html)
    assert all(address.startswith(("#", "data:image/jpeg;base64,")) for address in read.addresses)
    assert read.elements.isdisjoint({"script", "link", "iframe", "form"})
    assert "default-src 'none'" in html
    assert not re.search(r"url\(|@import|https?://", html)


def test_thousands_are_cut_short_and_counted() -> None:
    number = MAX_SHOWN + 300
    html = page([post()] * number, [found(OSLO, score=i / number) for i in range(number)])
    assert counts(html)["invented"] == (number, MAX_SHOWN)
    assert html.count("<article>") == MAX_SHOWN
    assert f"{MAX_SHOWN} of {number} are shown, those with the highest" in html
    assert "LOC 1.00" in html
    assert "LOC 0.10" not in html


def test_no_mistakes_leave_an_empty_table() -> None:
    html = page([post(OSLO)], [found(OSLO)])
    assert set(counts(html).values()) == {(0, 0)}
    assert "<section" not in html


def test_light_and_dark_are_supported() -> None:
    html = page([post(OSLO)], [()])
    assert "color-scheme: light dark" in html
    assert "prefers-color-scheme: dark" in html
