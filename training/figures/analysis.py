"""What the figures show: how text and photo lie in the network, and which errors it makes.

Notation: P posts with a photo, E entities found in them, d width of the text encoder.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from model import SMNER
from model.decoding import decode
from model.modeling.bottleneck import Gaussian
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabelledPost
from training.scoring.evaluation import Predictions

NOTHING = "nothing"  # the row of spurious entities and the column of missed ones


@dataclass(frozen=True, slots=True)
class Representations:
    """Text and photo at the three stages of the paper's figure 3.

    Attributes:
        text, image: as encoded, h_t^g and h_v^g, (P, d).
        text_posterior, image_posterior: behind the bottleneck, (P, d) each; None without CMIB.
        apart: cosine of each entity's span s_t and the photo as the bottleneck leaves it, z_v (h_v^g without CMIB),
            which is what the classifier would be given without CMA, (E,).
        attended: cosine of s_t and what CMA makes of span and photo, s_tv, (E,); None without CMA. A residual
            connection carries s_t into s_tv, so some of the similarity is there by construction.
    """

    text: Tensor
    image: Tensor
    text_posterior: Gaussian | None
    image_posterior: Gaussian | None
    apart: Tensor
    attended: Tensor | None


@torch.inference_mode()
def represent(
    model: SMNER, dataset: PostDataset, collator: Collator, *, batch_size: int = 32
) -> Representations | None:
    """Run the posts that have a photo through the network and keep what figure 3 shows; None if there are none."""
    training = model.training
    model.eval()
    with_image = [i for i in range(len(dataset)) if dataset.has_image(i)]
    rows: list[tuple[Tensor, ...]] = []
    similarities: list[tuple[Tensor, ...]] = []
    for batch in DataLoader(Subset(dataset, with_image), batch_size=batch_size, collate_fn=collator.inputs):
        if "image_mask" not in batch:
            continue
        seen = batch["image_mask"].to(model.device)
        with _outputs_of(model) as outputs:
            output = model(**{key: tensor.to(model.device) for key, tensor in batch.items()})
        image = outputs["image_projection"][:, 0]  # h_v^g
        row = [outputs["text_encoder"].last_hidden_state[:, 0], image]
        if output.text_posterior is not None:
            row += [*output.text_posterior, *output.image_posterior]
            image = output.image_posterior.mean
        rows.append(tuple(part[seen].float().cpu() for part in row))
        found = [[span.index for span in spans] for spans in decode(output.logits, output.spans)]
        for post in seen.nonzero()[:, 0].tolist():
            spans = output.spans.place(outputs["span_encoder"])[post, found[post]]  # s_t of the entities
            pair = [F.cosine_similarity(spans, image[post], dim=-1)]
            if model.cross_modal_attention is not None:
                attended = output.spans.place(outputs["cross_modal_attention"].states)[post, found[post]]
                pair.append(F.cosine_similarity(spans, attended, dim=-1))
            similarities.append(tuple(part.float().cpu() for part in pair))
    model.train(training)
    if not rows:
        return None
    text, image, *posteriors = (torch.cat(parts) for parts in zip(*rows, strict=True))
    apart, *attended = (torch.cat(parts) for parts in zip(*similarities, strict=True))
    text_posterior, image_posterior = (
        (Gaussian(*posteriors[:2]), Gaussian(*posteriors[2:])) if posteriors else (None, None)
    )
    return Representations(text, image, text_posterior, image_posterior, apart, attended[0] if attended else None)


@contextmanager
def _outputs_of(model: SMNER) -> Iterator[dict[str, Any]]:
    """What the parts of the network gave in the calls within."""
    kept: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            kept[name] = output

        return hook

    parts = ("text_encoder", "image_projection", "span_encoder", "cross_modal_attention")
    modules = {name: getattr(model, name) for name in parts}
    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items() if module is not None]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def modality_gap(text: Tensor, image: Tensor) -> float:
    """How far the two clouds, (P, d) each, lie apart: the distance of their centres over the spread about them.

    The spread is the root mean square distance of a point from the centre of its own cloud, so that the figure does not
    depend on the scale of the space. It is infinite where both clouds are single points.
    """
    centres = text.mean(0), image.mean(0)
    spread = torch.cat([text - centres[0], image - centres[1]]).square().sum(1).mean().sqrt()
    return float((centres[0] - centres[1]).norm() / spread)


def principal_plane(*clouds: Tensor) -> list[Tensor]:
    """Each cloud, (P, d), in the plane of the first two principal components of all of them together: (P, 2)."""
    together = torch.cat(clouds)
    centred = together - together.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:2]  # (2, d)
    return list((centred @ directions.T).split([len(cloud) for cloud in clouds]))


def confusion(posts: Sequence[LabelledPost], predicted: Predictions, types: Sequence[str]) -> list[list[int]]:
    """Count entities by gold type (rows) and predicted type (columns), both with NOTHING last.

    Two entities meet if they are the same words: one that is found with other bounds is missed once and spurious once.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for post, own in zip(posts, predicted, strict=True):
        gold = {(entity.start, entity.end): entity.type for entity in post.entities or ()}
        found = {(entity.start, entity.end): entity.type for entity in own}
        counts.update((gold.get(words, NOTHING), found.get(words, NOTHING)) for words in gold.keys() | found.keys())
    names = [*types, NOTHING]
    return [[counts[row, column] for column in names] for row in names]
