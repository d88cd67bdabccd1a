"""The mistakes of a checkpoint as one HTML file, to be read in a browser: the tags beside what was found.

The file needs no other: photos are in it, scripts are not.
"""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from model.display.marked_text import cut, harmless
from model.display.type_colors import type_color
from model.entities import Entity
from model.errors import InvalidPost
from model.preprocessing.images import read_thumbnail
from training.data.posts import LabeledPost, TypedWords
from training.scoring.mistakes import Kind, Mistake, find_mistakes
from training.scoring.scores import ScoredPredictions, score, without_scores

MAX_SHOWN = 200  # of each kind; those that the model was surest of
_PHOTO_SIDE = 240  # pixels
_JPEG_QUALITY = 70
_MEANINGS = {
    Kind.MISSED: "tagged, but not found",
    Kind.INVENTED: "found, but not tagged",
    Kind.WRONG_TYPE: "the same words, another type",
    Kind.WRONG_BORDER: "some of the same words; the type may differ, too",
}


class _Mark(NamedTuple):
    """A piece of a text; an entity also has its type, a color, its score if it was found, and whether it is wrong."""

    text: str
    type: str = ""
    color: str = ""
    score: str = ""
    wrong: bool = False


class _Text(NamedTuple):
    """A post's words as one text, and where each begins and ends."""

    text: str
    places: list[tuple[int, int]]


def mistakes_page(title: str, posts: Sequence[LabeledPost], predicted: ScoredPredictions) -> str:
    """The page, with at most MAX_SHOWN mistakes of each kind."""
    mistakes = list(find_mistakes(posts, predicted))
    groups = [_group(kind, [each for each in mistakes if each.kind == kind], posts, predicted) for kind in Kind]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("training.figures").joinpath("mistakes.html").read_text("utf-8"))
    scores = score(posts, without_scores(predicted))
    return template.render(title=harmless(title), groups=groups, scores=scores, posts=len(posts))


def _group(
    kind: Kind, mistakes: Sequence[Mistake], posts: Sequence[LabeledPost], predicted: ScoredPredictions
) -> dict[str, Any]:
    surest = sorted(mistakes, key=lambda mistake: -mistake.found.score if mistake.found is not None else 0)
    cards = [_card(mistake, posts[mistake.post], predicted) for mistake in surest[:MAX_SHOWN]]
    anchor = kind.value.replace(" ", "-")
    return {"kind": kind.value, "anchor": anchor, "meaning": _MEANINGS[kind], "count": len(mistakes), "cards": cards}


def _card(mistake: Mistake, post: LabeledPost, predicted: ScoredPredictions) -> dict[str, Any]:
    tagged = [(entity, None) for entity in post.entities or ()]
    found = [(own.entity, own.score) for own in predicted[mistake.post]]
    text = _joined(post)
    return {
        "post": harmless(post.id),
        "photo": "" if post.image is None else _photo(post.image),
        "tagged": list(_marks(text, tagged, mistake.tagged)),
        "found": list(_marks(text, found, mistake.found and mistake.found.entity)),
    }


def _joined(post: LabeledPost) -> _Text:
    """Words that begin a line stay there; all others are separated by blanks."""
    gaps = ["\n" if i in post.line_starts else " " for i in range(1, len(post.words))]
    text, places = "", []
    for word, gap in zip(post.words, [*gaps, ""], strict=True):
        places.append((len(text), len(text) + len(word)))
        text += word + gap
    return _Text(text, places)


def _marks(
    text: _Text, entities: Iterable[tuple[TypedWords, float | None]], wrong: TypedWords | None
) -> Iterator[_Mark]:
    """The text in pieces, of which the entity ``wrong`` stands out."""
    placed = {}
    for words, probability in entities:
        start, end = text.places[words.start][0], text.places[words.end][1]
        placed[Entity(words.type, text.text[start:end], start, end, probability or 0.0)] = (words, probability)
    for shown, span in cut(text.text, placed):
        if not isinstance(span, Entity):
            yield _Mark(shown)
            continue
        words, probability = placed[span]
        number = "" if probability is None else f"{probability:.2f}"
        yield _Mark(shown, harmless(words.type), type_color(words.type).hex, number, words == wrong)


def _photo(path: Path) -> str:
    """The photo as a small JPEG in a data URL; empty if it cannot be read."""
    try:
        thumbnail = read_thumbnail(path, side=_PHOTO_SIDE)
    except (InvalidPost, OSError):
        return ""
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
