"""The two comparisons: SMNER against its peers, and each idea against the recipe as it is."""

from dataclasses import dataclass

from tests.benchmarks.quality import ideas, systems
from tests.benchmarks.quality.systems import System


@dataclass(frozen=True, slots=True)
class Comparison:
    """Systems that are compared, and the document that shows them.

    Attributes:
        baseline: the system that Δ is measured from.
        settings: recipe overrides that the command's own ``--set`` may override.
        document: file name of the tables.
        head: the document's title and introduction.
    """

    systems: dict[str, System]
    baseline: str
    settings: list[str]
    document: str
    head: str


COMPARISONS = {
    "systems": Comparison(
        systems.SYSTEMS,
        systems.BASELINE,
        [],
        "results.md",
        """\
# SMNER and its peers

All systems share text encoder, tokenizer, posts, order, epochs, learning rates and the choice of the epoch; what
differs is in `tests/benchmarks/quality/systems.py`.""",
    ),
    "ideas": Comparison(
        ideas.IDEAS,
        ideas.BASELINE,
        ["epochs=2", "consistency_weight=0"],
        "ideas.md",
        """\
# What each idea is worth

A text-only span classifier on the posts with gold tags, each idea alone against the same seed without it. Rows come
from `tests/benchmarks/quality/ideas.py`; the code of ideas that lost is deleted, their rows stay.""",
    ),
}
