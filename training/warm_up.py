"""A head start for the bottleneck: fitted to what the encoders say before anything else is trained.

From scratch, beside encoders that move and dropout in them, a few hundred batches of photos pass before InfoNCE leaves
chance. On the states of the pretrained encoders, which are computed once, it takes seconds.
"""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from model import SMNER
from model.bottleneck import CrossModalBottleneck
from training.dataset import Collator, PostDataset
from training.recipe import Recipe

_ENCODING_BATCH = 64


def warm_up_bottleneck(model: SMNER, recipe: Recipe, parts: list[PostDataset], collator: Collator) -> None:
    """Train W_v and CMIB alone for ``recipe.cmib_warm_up`` epochs over the posts with photos.

    Does nothing without CMIB or with fewer than two such posts.
    """
    if model.bottleneck is None or not recipe.cmib_warm_up:
        return
    texts, images = _encode(model, parts, collator)
    if len(texts) < 2:
        return
    parameters = [*model.image_projection.parameters(), *model.bottleneck.parameters()]
    batches = max(len(texts) // recipe.batch_size, 1)
    optimizer = torch.optim.AdamW(parameters, lr=recipe.head_learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.head_learning_rate, total_steps=recipe.cmib_warm_up * batches, pct_start=recipe.warmup
    )
    progress = tqdm(total=recipe.cmib_warm_up * batches, desc="warming up the bottleneck", unit="batch")
    for _ in range(recipe.cmib_warm_up):
        order = torch.randperm(len(texts))
        for rows in order[: batches * recipe.batch_size].chunk(batches):
            info_nce, kl, rank = _loss(model.bottleneck, texts[rows], model.image_projection(images[rows]))
            optimizer.zero_grad()
            (info_nce + recipe.cmib_beta * kl).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            progress.update()
        progress.set_postfix(info_nce=f"{info_nce.item():.2f}", kl=f"{kl.item():.0f}", rank=f"{rank.item():.1f}")
    progress.close()
    optimizer.zero_grad()


@torch.no_grad()
def _encode(model: SMNER, parts: list[PostDataset], collator: Collator) -> tuple[Tensor, Tensor]:
    """h_t^g (N, d) and the global image features (N, C) of every post with a photo, encoders in evaluation mode."""
    texts, images = [torch.empty(0)], [torch.empty(0)]
    training = model.training
    model.eval()
    for part in parts:
        with_photo = Subset(part, [i for i in range(len(part)) if part.has_image(i)])
        for batch in DataLoader(with_photo, _ENCODING_BATCH, collate_fn=collator.inputs):
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            real = batch["image_mask"]
            states = model.text_encoder(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).last_hidden_state
            features = batch.get("image_features")
            if features is None:
                features = model.encode_images(batch["pixel_values"])
            texts.append(states[real, 0])
            images.append(features[real, 0])
    model.train(training)
    return torch.cat(texts[1:] or texts), torch.cat(images[1:] or images)


def _loss(bottleneck: CrossModalBottleneck, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    text_posterior, image_posterior = bottleneck.text_posterior(text), bottleneck.image_posterior(image)
    return bottleneck.loss(text_posterior, image_posterior, text_posterior.sample(), image_posterior.sample())
