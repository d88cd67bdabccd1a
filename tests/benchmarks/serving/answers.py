"""Compares the entities that two ways of asking give."""

import json
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.serving.load import Result

Answers = Sequence[list[dict[str, Any]]]

_SCORE_TOLERANCE = 1e-4


def read_answers(result: Result, count: int) -> Answers:
    """The entities of the first ``count`` posts; raises RuntimeError if one was not answered."""
    bodies = {exchange.post: exchange.body for exchange in result.exchanges if exchange.outcome == "200"}
    if missing := [post for post in range(count) if post not in bodies]:
        raise RuntimeError(f"posts {missing} were not answered: {dict(result.outcomes)}")
    return [json.loads(bodies[post])["entities"] for post in range(count)]


def count_differing(expected: Answers, found: Answers) -> int:
    """How many posts have other entities, or scores that differ by more than the tolerance."""
    return sum(not _same(*pair) for pair in zip(expected, found, strict=True))


def _same(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> bool:
    return len(expected) == len(found) and all(
        all(one[key] == other[key] for key in ("entity_group", "word", "start", "end"))
        and abs(one["score"] - other["score"]) <= _SCORE_TOLERANCE
        for one, other in zip(expected, found, strict=True)
    )
