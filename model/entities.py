"""The answer: typed spans of the text."""

from dataclasses import dataclass


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
