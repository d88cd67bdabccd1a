"""What the figures show: how the network represents text and image, and which errors it makes.

Notation: P posts with an image, E entities found in them, d width of the text encoder.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model import SMNER
from model.decoding import decode
from model.modeling.bottleneck import Gaussian
from model.preprocessing.processor import Batch
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost
from training.scoring.prediction import run_model
from training.scoring.scores import Predictions

NOTHING = "nothing"  # the row of spurious entities and the column of missed ones


@dataclass(frozen=True, slots=True)
class Representations:
    """Text and image at the three stages of the paper's figure 3.

    Attributes:
        text, image: as encoded, h_t^g and h_v^g, (P, d).
        text_posterior, image_posterior: after the bottleneck, (P, d) each; None without CMIB.
        apart: cosine of each entity's span s_t and the image after the bottleneck, z_v (h_v^g without CMIB), which is
            what the classifier would get without CMA, (E,).
        attended: cosine of s_t and s_tv, CMA's output for span and image, (E,); None without CMA. Some of the
            similarity is there by construction, since a residual connection carries s_t into s_tv.
    """

    text: Tensor
    image: Tensor
    text_posterior: Gaussian | None
    image_posterior: Gaussian | None
    apart: Tensor
    attended: Tensor | None


def represent(model: SMNER, dataset: PostDataset, collator: Collator) -> Representations | None:
    """Run posts through the network and keep, of those with an image, what figure 3 shows; None without any."""
    seen = [post for post in run_model(model, dataset, collator.inputs, _read) if post is not None]
    if not seen:
        return None
    states, similarities = zip(*seen, strict=True)
    text, image, *posteriors = (torch.stack(parts) for parts in zip(*states, strict=True))
    apart, *attended = (torch.cat(parts) for parts in zip(*similarities, strict=True))
    pair: tuple[Gaussian | None, Gaussian | None] = (None, None)
    if posteriors:
        pair = (Gaussian(*posteriors[:2]), Gaussian(*posteriors[2:]))
    return Representations(text, image, *pair, apart, attended[0] if attended else None)


def _read(model: SMNER, batch: Batch) -> list[tuple[list[Tensor], list[Tensor]] | None]:
    """For each post with an image, its states, (d,) each, and the similarities of its entities, (E,) each."""
    posts: list[tuple[list[Tensor], list[Tensor]] | None] = [None] * len(batch["input_ids"])
    if "image_mask" not in batch:
        return posts
    with _outputs_of(model) as outputs:
        output = model(**batch)
    image = outputs["image_projection"][:, 0]  # h_v^g
    states = [outputs["text_encoder"].last_hidden_state[:, 0], image]
    if output.text_posterior is not None:
        states += [*output.text_posterior, *output.image_posterior]
        image = output.image_posterior.mean
    found = [[span.index for span in spans] for spans in decode(output.logits, output.spans)]
    for post in batch["image_mask"].nonzero()[:, 0].tolist():
        spans = output.spans.place(outputs["span_encoder"])[post, found[post]]  # s_t of the entities
        similarities = [F.cosine_similarity(spans, image[post], dim=-1)]
        if model.cross_modal_attention is not None:
            attended = output.spans.place(outputs["cross_modal_attention"].states)[post, found[post]]
            similarities.append(F.cosine_similarity(spans, attended, dim=-1))
        posts[post] = [own[post].float().cpu() for own in states], [own.float().cpu() for own in similarities]
    return posts


@contextmanager
def _outputs_of(model: SMNER) -> Iterator[dict[str, Any]]:
    """Keep the output of each part of the network while the context is open."""
    kept: dict[str, Any] = {}
    parts = ("text_encoder", "image_projection", "span_encoder", "cross_modal_attention")
    handles = [
        part.register_forward_hook(lambda *call, name=name: kept.__setitem__(name, call[-1]))
        for name in parts
        if (part := getattr(model, name)) is not None
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def modality_gap(text: Tensor, image: Tensor) -> float:
    """How far apart two clouds, (P, d) each, lie: the distance of their centers divided by the spread around them.

    The spread is the root mean square distance of a point from the center of its own cloud, which makes the gap
    independent of the scale of the space. It is infinite if both clouds are single points.
    """
    centers = text.mean(0), image.mean(0)
    spread = torch.cat([text - centers[0], image - centers[1]]).square().sum(1).mean().sqrt()
    return float((centers[0] - centers[1]).norm() / spread)


def principal_plane(*clouds: Tensor) -> list[Tensor]:
    """Project each cloud, (P, d), onto the first two principal components of all of them together: (P, 2)."""
    together = torch.cat(clouds)
    centered = together - together.mean(0)
    directions = torch.linalg.svd(centered, full_matrices=False).Vh[:2]  # (2, d)
    return list((centered @ directions.T).split([len(cloud) for cloud in clouds]))


def confusion(posts: Sequence[LabeledPost], predicted: Predictions, types: Sequence[str]) -> list[list[int]]:
    """Count entities by gold type (rows) and predicted type (columns), both with NOTHING last.

    Two entities match if they have the same words; one found with other bounds counts as missed and as spurious.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for post, own in zip(posts, predicted, strict=True):
        gold = {(entity.start, entity.end): entity.type for entity in post.entities or ()}
        found = {(entity.start, entity.end): entity.type for entity in own}
        counts.update((gold.get(words, NOTHING), found.get(words, NOTHING)) for words in gold.keys() | found.keys())
    names = [*types, NOTHING]
    return [[counts[row, column] for column in names] for row in names]
