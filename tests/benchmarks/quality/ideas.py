"""One idea at a time, against the same seed without it.

An idea is a row of ``IDEAS``: a title and the recipe keys it changes. All are tried with the text-only span classifier,
which is level with SMNER on splits without images and takes two thirds of the time, on posts with gold tags. Delete
the row of an idea that lost: ``results.jsonl`` keeps its scores and its title.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from tests.benchmarks.quality.systems import Inputs, System, span_trainer
from training.learning.trainer import SMNERTrainer


def _trainer(inputs: Inputs, *, teachers_tags: bool = False) -> SMNERTrainer:
    data = inputs.data if teachers_tags else inputs.data.gold_only()
    return span_trainer(replace(inputs, data=data), text_only=True)


def _idea(title: str, *, teachers_tags: bool = False, **changes: Any) -> System:
    return System(title, partial(_trainer, teachers_tags=teachers_tags), changes)


BASELINE = "as-it-is"

IDEAS = {
    BASELINE: _idea("as it is"),
    "no-morph-inputs": _idea("no morph inputs", morph_inputs=False),
    "no-compounds": _idea("compounds not split", split_compounds=False),
    "no-max-pooling": _idea("no max pooling", max_pooling=False),
    "r-drop": _idea("R-Drop, weight 2", consistency_weight=2.0),
    "teachers-tags": _idea("with the teacher's tags", teachers_tags=True),
    "longer": _idea("twice the epochs", epochs=4.0),
}
