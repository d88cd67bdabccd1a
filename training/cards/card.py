"""Writes the model card and the files that belong to it."""

import math
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

from model import SMNER
from model.checkpoint import MODEL_CARD_FILE
from model.display.marked_text import harmless
from training.cards.measurement import Measurement
from training.cards.metadata import metadata
from training.cards.quality import CASINGS, SplitQuality, calibration_of, examples
from training.cards.record import RECORD_FILE, TrainingRecord
from training.figures.plots import as_png, reliability
from training.scoring.scores import Scores
from training.scoring.speed import PHOTO_SIZE, REPEATS

DIAGRAM_FILE = "reliability.png"
_BENCHMARK = re.compile(r"twitter201[57](-\d+)*")  # numbered if several sources have the same name
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#&])")
_MEANINGS = {
    "PER": "people",
    "LOC": "places",
    "ORG": "organizations, companies, teams",
    "MISC": "other names: events, works, products",
}


def card_files(record: TrainingRecord, network: SMNER, measured: Measurement) -> dict[str, bytes]:
    """The card, its picture if anything was found, and the record, by file name."""
    calibration = calibration_of(measured.quality)
    picture = {} if calibration is None else {DIAGRAM_FILE: as_png(reliability(calibration))}
    text = _render(record, network, measured, ece=None if calibration is None else calibration.ece)
    return {MODEL_CARD_FILE: text.encode(), RECORD_FILE: record.to_json().encode(), **picture}


def _render(record: TrainingRecord, network: SMNER, measured: Measurement, *, ece: float | None) -> str:
    recipe, config = record.recipe, network.config
    benchmark = any(_BENCHMARK.fullmatch(source.name) for source in record.sources)
    modules = [name for name, used in (("CMIB", config.use_cmib), ("CMA", config.use_cma)) if used]
    return _template().render(
        metadata=metadata(recipe, measured.quality, benchmark=benchmark),
        recipe=recipe,
        sources=record.sources,
        held_out=record.held_out,
        remarks=record.remarks,
        benchmark=benchmark,
        modules=" and ".join(modules) or "neither CMIB nor CMA",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        types=config.entity_types,
        meanings=_MEANINGS,
        examples=examples(measured.quality, config.entity_types),
        quality=measured.quality,
        ece=ece,
        temperature=config.score_temperature,
        shift=-math.log(recipe.no_entity_weight) if recipe.undo_no_entity_weight else 0,
        weight_bytes=measured.weight_bytes,
        speed=measured.speed,
        repeats=REPEATS,
        photo_size=PHOTO_SIZE,
    )


def _template() -> Template:
    environment = Environment(  # noqa: S701 - Markdown, whose names are escaped by `md`
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["md"] = escape_markdown
    environment.globals |= {"split_rows": _rows, "row_of": _row}
    return environment.from_string(files("training.cards").joinpath("card.md").read_text("utf-8"))


def escape_markdown(text: str) -> str:
    """A name from somebody's data, as it is and in one line."""
    return _MARKUP.sub(r"\\\1", " ".join(harmless(text).split()))


def _rows(split: SplitQuality) -> Iterator[tuple[str, Mapping[str, Scores]]]:
    yield "all", split.overall
    yield from split.by_type.items()


def _row(scores: Mapping[str, Scores]) -> str:
    written, *others = (scores[casing] for casing in CASINGS)
    numbers = [written.precision, written.recall, written.f1, *(own.f1 for own in others)]
    return " | ".join([*(f"{number:.4f}" for number in numbers), str(written.support)])
