"""Which entities of a split are wrong, and how."""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from training.data.posts import LabeledPost, TypedWords
from training.scoring.scores import ScoredEntity, ScoredPredictions


class Kind(StrEnum):
    """How the tags and the model differ."""

    MISSED = "missed"
    INVENTED = "invented"
    WRONG_TYPE = "wrong type"
    WRONG_BORDER = "wrong border"


class Mistake(NamedTuple):
    """A tagged entity and the one that the model found instead; one of them is None if it was missed or invented."""

    post: int
    tagged: TypedWords | None
    found: ScoredEntity | None

    @property
    def kind(self) -> Kind:
        """Other borders outweigh another type."""
        if self.found is None:
            return Kind.MISSED
        if self.tagged is None:
            return Kind.INVENTED
        same_words = self.tagged[:2] == self.found.entity[:2]
        return Kind.WRONG_TYPE if same_words else Kind.WRONG_BORDER


def find_mistakes(posts: Sequence[LabeledPost], predicted: ScoredPredictions) -> Iterator[Mistake]:
    """The mistakes of each post, in text order.

    Each entity belongs to one mistake. If several overlap, those that share most words are compared.
    """
    for index, (post, own) in enumerate(zip(posts, predicted, strict=True)):
        tagged = post.entities or ()
        right = {found.entity for found in own} & set(tagged)
        missed = [entity for entity in tagged if entity not in right]
        wrong = [found for found in own if found.entity not in right]
        yield from sorted((Mistake(index, *pair) for pair in _paired(missed, wrong)), key=_position)


def _paired(
    missed: list[TypedWords], wrong: list[ScoredEntity]
) -> Iterable[tuple[TypedWords | None, ScoredEntity | None]]:
    overlapping = [(_shared_words(tagged, found.entity), tagged, found) for tagged in missed for found in wrong]
    for shared, tagged, found in sorted(overlapping, key=lambda pair: -pair[0]):
        if shared > 0 and tagged in missed and found in wrong:
            missed.remove(tagged)
            wrong.remove(found)
            yield tagged, found
    yield from ((tagged, None) for tagged in missed)
    yield from ((None, found) for found in wrong)


def _shared_words(left: TypedWords, right: TypedWords) -> int:
    return min(left.end, right.end) - max(left.start, right.start) + 1


def _position(mistake: Mistake) -> int:
    return min(
        entity.start for entity in (mistake.tagged, mistake.found and mistake.found.entity) if entity is not None
    )
