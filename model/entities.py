"""The answer: typed spans of the text."""

from collections.abc import Iterable
from dataclasses import dataclass

from model.display.notebook import entity_html, marked_html


@dataclass(frozen=True, slots=True)
class Attention:
    """Where an entity's span looked in the image: attention weights averaged over the heads, which sum to 1.

    ``overall`` is the weight of the whole image (z_v); ``regions`` are those of its grid, row by row from the top left.
    """

    overall: float
    regions: list[list[float]]


@dataclass(frozen=True, slots=True)
class Entity:
    """A named entity: ``text[start:end] == word`` in Unicode code points.

    ``score`` is the probability of its type, in (0, 1]; ``scores``, where it is explained, those of all types. All
    numbers have four decimals.
    """

    entity_group: str
    word: str
    start: int
    end: int
    score: float
    attention: Attention | None = None
    scores: dict[str, float] | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return entity_html(self.word, self)


class Answer(list[Entity]):
    """The entities of one post, in text order. A notebook shows them marked in the post's ``text``."""

    def __init__(self, text: str, entities: Iterable[Entity]) -> None:
        super().__init__(entities)
        self.text = text

    def _repr_html_(self) -> str:
        return marked_html(self.text, self)
