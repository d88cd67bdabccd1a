"""Writes a checkpoint's README.md: its data, recipe, scores and limitations."""

import re
from collections.abc import Mapping
from pathlib import Path

from training.recipes.recipe import Recipe
from training.scoring.scores import Scores


def model_card(
    recipe: Recipe,
    *,
    scores: Mapping[str, Scores],
    parameters: int,
    types: list[str],
    posts: Mapping[str, int],
    images: Mapping[str, int],
    checksums: Mapping[str, str | None],
    held_out: int,
) -> str:
    """Markdown with the front matter that the Hugging Face hub reads.

    Args:
        scores: scores on each valid split.
        posts, images: training posts of each source, and how many have a usable image.
        checksums: SHA-256 of each source's training file.
        held_out: untagged posts kept out of training.
    """
    benchmark = any(_BENCHMARK.fullmatch(name) for name in posts)
    modules = [name for name, used in (("CMIB", recipe.use_cmib), ("CMA", recipe.use_cma)) if used]
    data = "\n".join(f"| {name} | {posts[name]} | {images[name]} | `{checksums[name]}` |" for name in posts)
    figures = "\n".join(
        f"| {name} | {s.precision:.4f} | {s.recall:.4f} | {s.f1:.4f} | {s.support} |" for name, s in scores.items()
    )
    keys = "\n".join(f"| {key} | {_public(value)} |" for key, value in recipe.model_dump().items())
    notes = []
    if recipe.teacher is not None:
        notes.append(
            f"A text-only model, `{_public(recipe.teacher)}`, taught the network its span scores on all of these "
            "posts, and is all that it learned from on posts without tags."
        )
    if held_out:
        notes.append(f"{held_out} posts without tags were kept out of training.")
    if recipe.casing_share:
        notes.append(f"{recipe.casing_share:.0%} of the posts were also seen in small letters, as many in capitals.")
    return _CARD.format(
        name=recipe.name,
        parameters=f"{parameters / 1e6:.1f}",
        types=", ".join(types),
        modules=" and ".join(modules) or "neither CMIB nor CMA",
        text_encoder=_public(recipe.text_encoder),
        image_encoder=recipe.image_encoder,
        data=data,
        notes="".join(f"{note}\n" for note in notes),
        figures=figures or "| – | – | – | – | – |",
        keys=keys,
        width=recipe.max_span_width,
        terms="license: apache-2.0\nlanguage: en\n" if benchmark else "",
        chosen=", which also chose the epoch" if scores else "; there is none, so the last epoch was kept",
        origin=_OF_BENCHMARKS if benchmark else _OF_OTHERS,
    )


def _public(value: object) -> object:
    """Return a recipe's value; reduce a local path to its name."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


_BENCHMARK = re.compile(r"twitter201[57](-\d+)*")  # numbered if several sources have the same name
_OF_BENCHMARKS = """\
The training data are mostly English posts of 2014 to 2017; expect worse results on other languages, dialects and times.
Names that are common in the training data (politicians, athletes and singers of those years) are favored. Where the
benchmarks disagree (whether a @handle is an entity), the model is inconsistent too."""
_OF_OTHERS = """\
Expect worse results on languages, dialects and times other than the training data's. Names that are common in the
training data are favored."""


_CARD = """\
---
{terms}pipeline_tag: token-classification
tags: [named-entity-recognition, multimodal, social-media]
---
# {name}

SMNER (Xu et al., LREC-COLING 2024) with {modules}: {parameters} million parameters, entity types {types}.
Text encoder `{text_encoder}`, image encoder `{image_encoder}`.

## Data

| source | training posts | with a photo | SHA-256 of the file |
| --- | --- | --- | --- |
{data}

{notes}
## Figures

Entity-level, exact span and type, on the valid splits{chosen}:

| valid split | precision | recall | F1 | entities |
| --- | --- | --- | --- | --- |
{figures}

## Limits

{origin}
Entities are at most {width} words long. The model sees the gist of a photo, but does not read the writing in it or
recognize faces. Do not use it for decisions about people.

## Recipe

| key | value |
| --- | --- |
{keys}
"""
