"""The bottleneck aligns: where photos show what texts speak of, each text finds its own photo, and only with CMIB.

A post names three things, and its photo has a vector for each of them in one of three regions, and noise. Training sees
other combinations than the posts that are kept out; there is no valid split, so that the last epoch is kept. A recipe,
a run and its checkpoint, nothing in place of them.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import BertConfig, BertTokenizerFast

from model import Recognizer
from training.cli.figures import history
from training.data.sources import DataSource
from training.figures.analysis import Representations, modality_gap, represent
from training.learning.objective import kl_divergence, mean_rank
from training.learning.run import train
from training.recipes.recipe import Recipe
from training.scoring.inputs import inputs_for

ANIMALS = "dog cat horse cow pig goat duck swan fox wolf".split()  # noqa: SIM905 - reads better
THINGS = "car boat bike train plane bus van tram ship truck".split()  # noqa: SIM905
PLACES = "beach park street forest desert lake garden river field mountain".split()  # noqa: SIM905
NAMES = ("Ann", "Bob", "Eve", "Dan")
TRAIN, KEPT_OUT, CHANNELS = 480, 200, 32


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    folder = tmp_path_factory.mktemp("posts")
    chance = random.Random(0)
    torch.manual_seed(0)
    looks = {word: torch.randn(CHANNELS) for word in ANIMALS + THINGS + PLACES}
    combinations = [(a, b, c) for a in ANIMALS for b in THINGS for c in PLACES]
    chosen = chance.sample(combinations, TRAIN + KEPT_OUT)
    texts, features = [], []
    for i, words in enumerate(chosen):
        name, (animal, thing, place) = chance.choice(NAMES), words
        tagged = [(name, "B-PER"), *((word, "O") for word in ("and", "a", animal, "near", "the", thing, "at", place))]
        texts.append(f"IMGID:{i}\n" + "".join(f"{word}\t{tag}\n" for word, tag in tagged))
        regions = torch.stack([looks[word] for word in words]) + torch.randn(3, CHANNELS) / 4
        features.append(torch.cat([regions.mean(0, keepdim=True), regions]))
    (folder / "train.txt").write_text("\n".join(texts[:TRAIN]), "utf-8")
    (folder / "held_out.txt").write_text("\n".join(texts[TRAIN:]), "utf-8")
    metadata = {"image_ids": json.dumps([str(i) for i in range(len(chosen))]), "encoder": "looks"}
    save_file({"features": torch.stack(features)}, folder / "looks.safetensors", metadata)
    return DataSource(folder, image_features=folder / "looks.safetensors")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("text-encoder")
    words = [*ANIMALS, *THINGS, *PLACES, *map(str.lower, NAMES), "and", "a", "near", "the", "at"]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]), "utf-8")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True)
    tokenizer.save_pretrained(folder)
    BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        initializer_range=0.2,
    ).save_pretrained(folder)
    return Recipe(
        name="aligned",
        text_encoder=str(folder),
        image_encoder=None,
        pretrained=False,
        attention_heads=2,
        epochs=8,
        batch_size=32,
        encoder_learning_rate=1e-2,
        head_learning_rate=1e-2,
        image_dropout=0.0,
        critic="cosine",
        cmib_weight=0.5,
        cmib_beta=3e-4,
    )


@dataclass(frozen=True, slots=True)
class Trained:
    """A run's network, how it sees the posts kept out, and what its training logged."""

    recognizer: Recognizer
    seen: Representations
    kl: list[float]


def trained(recipe: Recipe, source: DataSource, output: Path) -> Trained:
    recognizer = Recognizer.from_pretrained(train(recipe, [source], output).checkpoint, device="cpu")
    seen = represent(recognizer.model, *inputs_for(recognizer, source, source.read("held_out")))
    assert seen is not None
    return Trained(recognizer, seen, [entry["kl"] for entry in history(output / "run") if "kl" in entry])


@pytest.fixture(scope="module")
def with_cmib(recipe: Recipe, source: DataSource, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(recipe, source, tmp_path_factory.mktemp("with") / "run")


@pytest.fixture(scope="module")
def without_cmib(recipe: Recipe, source: DataSource, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    changed = recipe.model_copy(update={"use_cmib": False})
    return trained(changed, source, tmp_path_factory.mktemp("without") / "run")


def retrieval(scores: list[torch.Tensor]) -> tuple[float, float]:
    """Share of texts that score their own photo highest, and the mean rank it has, for groups of posts."""
    own = torch.cat([group.argmax(1) == torch.arange(len(group)) for group in scores])
    return float(own.float().mean()), float(torch.stack([mean_rank(group) for group in scores]).mean())


def cosines(text: torch.Tensor, image: torch.Tensor) -> list[torch.Tensor]:
    """Of every text and photo within each hundred."""
    pairs = zip(*(torch.split(F.normalize(side, dim=1), 100) for side in (text, image)), strict=True)
    return [texts @ images.T for texts, images in pairs]


@pytest.mark.slow
@torch.inference_mode()
def test_with_cmib_texts_retrieve_their_images(with_cmib: Trained) -> None:
    """At chance the own photo comes first for 1 % and has rank 50.5 in the mean."""
    bottleneck, seen = with_cmib.recognizer.model.bottleneck, with_cmib.seen
    assert bottleneck is not None
    assert seen.text_posterior is not None
    assert seen.image_posterior is not None
    means = seen.text_posterior.mean, seen.image_posterior.mean
    groups = zip(*(torch.split(mean, 100) for mean in means), strict=True)
    first, rank = retrieval([bottleneck.critic(texts, images) for texts, images in groups])
    print(f"with CMIB: own photo first for {first:.1%}, mean rank {rank:.1f}")
    assert first >= 0.05
    assert rank < 25


@pytest.mark.slow
def test_without_cmib_retrieval_is_at_chance(without_cmib: Trained) -> None:
    """The mean rank of 200 posts at chance, 50.5, has a standard deviation of 2; 3 of 200 are first with 1 in 7."""
    seen = without_cmib.seen
    assert seen.text_posterior is None
    first, rank = retrieval(cosines(seen.text, seen.image))
    print(f"without CMIB: own photo first for {first:.1%}, mean rank {rank:.1f}")
    assert first < 0.05
    assert rank == pytest.approx(50.5, abs=8)


@pytest.mark.slow
def test_the_distance_between_the_posteriors_falls_in_training(with_cmib: Trained) -> None:
    assert len(with_cmib.kl) >= 5
    print("KL in training:", *(round(kl) for kl in with_cmib.kl))
    assert with_cmib.kl[-1] < 0.8 * with_cmib.kl[0]


@pytest.mark.slow
def test_image_posterior_is_nearest_to_its_text(with_cmib: Trained) -> None:
    text, image = with_cmib.seen.text_posterior, with_cmib.seen.image_posterior
    assert text is not None
    assert image is not None
    own = kl_divergence(image, text).mean()
    others = kl_divergence(image, type(text)(text.mean.roll(1, 0), text.deviation.roll(1, 0))).mean()
    print(f"KL to the own text {own:.0f}, to another's {others:.0f}")
    assert own < 0.8 * others


@pytest.mark.slow
def test_bottleneck_narrows_the_modality_gap(with_cmib: Trained) -> None:
    """Figure 3 (a) and (b) of the paper, as numbers."""
    seen = with_cmib.seen
    assert seen.text_posterior is not None
    assert seen.image_posterior is not None
    before = modality_gap(seen.text, seen.image)
    after = modality_gap(seen.text_posterior.mean, seen.image_posterior.mean)
    print(f"gap before CMIB {before:.2f}, behind it {after:.2f}")
    assert after < before
