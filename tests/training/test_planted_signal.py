"""The cross-modal path works: where only the photo tells an entity's type, the network reads it off the photo.

Names are made up and say nothing of their type. Each post has ready features of a photo with 16 regions of noise, one
of which, at a random place, has a code added: that there is something, and of which type. Nothing is replaced: a
recipe, a run, its checkpoint and its evaluation on posts kept out of training. There is no valid split, so that the
last epoch is kept.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertTokenizerFast

from model import Recognizer
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost
from training.data.readers import read_posts
from training.data.sources import DataSource
from training.features.image_features import ImageFeatureFile
from training.learning.run import train
from training.recipes.recipe import Recipe
from training.scoring.report import evaluate

TYPES = ("PER", "LOC", "ORG", "MISC")
REGIONS, CHANNELS = 16, 16
TRAIN, KEPT_OUT = 480, 100
GUESSED = 0.4  # the four types are equally many: right for a quarter, with a standard deviation of 0.04 over 100 posts
TEMPLATES = (
    "so happy with {} right now",
    "{} is trending again",
    "can't wait for {} tonight !",
    "RT @ fan : just saw {} , wow",
    "thinking about {} today # blessed",
    "Who else loves {} ?",
    "This is why {} matters",
    "new photo of {} on my feed",
)

Tagged = list[tuple[str, str]]  # words with their tags


def name(type_: str, count: int, chance: random.Random) -> Tagged:
    """Made-up words, such as Quxo Xiqa, tagged."""
    words = ["".join(chance.choice("qxz") + chance.choice("aeiou") for _ in range(2)).title() for _ in range(count)]
    return [(word, f"{'I' if i else 'B'}-{type_}") for i, word in enumerate(words)]


def made_posts(chance: random.Random) -> Iterator[tuple[str, Tagged]]:
    """Types in turn, in sentences that go with each."""
    while True:
        for type_ in TYPES:
            before, after = chance.choice(TEMPLATES).split("{}")
            words = [[(word, "O") for word in part.split()] for part in (before, after)]
            yield type_, [*words[0], *name(type_, chance.choice((1, 2)), chance), *words[1]]


def real_posts(path: Path, chance: random.Random) -> Iterator[tuple[str, Tagged]]:
    """Types in turn, in tweets with one entity, whose name is another now."""
    single = [post for post in read_posts(path) if len(post.entities or ()) == 1 and len(post.words) <= 16]
    chance.shuffle(single)
    by_type = [[post for post in single if post.entities and post.entities[0].type == type_] for type_ in TYPES]
    for group in zip(*by_type, strict=False):
        for post in group:
            yield renamed(post, chance)


def renamed(post: LabeledPost, chance: random.Random) -> tuple[str, Tagged]:
    (entity,) = post.entities or ()
    words = [(word, "O") for word in post.words]
    return entity.type, [*words[: entity.start], *name(entity.type, 1, chance), *words[entity.end + 1 :]]


@dataclass(frozen=True, slots=True)
class Planted:
    """The posts with their photos' features, as they are, exchanged among the posts kept out, and not at all.

    ``places`` is the key of :attr:`SMNEROutput.attentions` that holds the code, for each post's id.
    """

    right: DataSource
    shuffled: DataSource
    text: DataSource
    places: dict[str, int]


def plant(folder: Path, posts: Iterator[tuple[str, Tagged]], chance: random.Random) -> Planted:
    thing, *kinds = torch.linalg.qr(torch.randn(CHANNELS, 1 + len(TYPES))).Q.T  # orthonormal: equally easy to find
    codes = {type_: 4 * (thing + kind) for type_, kind in zip(TYPES, kinds, strict=True)}
    features, places = {}, {}
    for split, count in (("train", TRAIN), ("held_out", KEPT_OUT)):
        lines = []
        for i, (type_, words) in zip(range(count), posts, strict=False):
            post = f"{split}-{i}"
            regions = torch.randn(REGIONS, CHANNELS) / 2
            place = chance.randrange(REGIONS)
            regions[place] += codes[type_]
            features[post] = torch.cat([regions.mean(0, keepdim=True), regions])
            places[post] = 1 + place  # behind the global vector
            lines.append(f"IMGID:{post}\n" + "".join(f"{word}\t{tag}\n" for word, tag in words))
        assert len(lines) == count
        (folder / f"{split}.txt").write_text("\n".join(lines), "utf-8")
    ids = list(features)
    exchanged = ids[:TRAIN] + chance.sample(ids[TRAIN:], KEPT_OUT)
    sources = []
    for stem, names in (("right", ids), ("shuffled", exchanged)):
        file = folder / f"{stem}.safetensors"
        metadata = {"image_ids": json.dumps(names), "encoder": "planted"}
        save_file({"features": torch.stack(list(features.values()))}, file, metadata)
        sources.append(DataSource(folder, image_features=file))
    return Planted(sources[0], sources[1], DataSource(folder), places)


@pytest.fixture(scope="module", params=["made", "real"])
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    chance = random.Random(0)
    torch.manual_seed(0)
    if request.param == "real":
        tweets = request.getfixturevalue("shared_data") / "twitter2015" / "train.txt"
        return plant(tmp_path_factory.mktemp("real"), real_posts(tweets, chance), chance)
    return plant(tmp_path_factory.mktemp("made"), made_posts(chance), chance)


@pytest.fixture(scope="module")
def recipe(tokenizer: BertTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Random encoders; at a width of 24 the usual weights, N(0, 0.02²), would let next to nothing through."""
    folder = tmp_path_factory.mktemp("text-encoder")
    tokenizer.save_pretrained(folder)
    BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=256,
        initializer_range=0.2,
    ).save_pretrained(folder)
    return Recipe(
        name="planted",
        text_encoder=str(folder),
        image_encoder="timm:test_efficientnet",
        pretrained=False,
        max_span_width=2,
        attention_heads=1,
        epochs=6,
        encoder_learning_rate=1e-2,
        head_learning_rate=5e-3,
        critic="cosine",
        cmib_beta=3e-4,
    )


@pytest.fixture(scope="module")
def with_images(planted: Planted, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """Trained on the posts and their photos."""
    result = train(recipe, [planted.right], tmp_path_factory.mktemp("with-photos"))
    return Recognizer.from_pretrained(result.checkpoint, device="cpu")


@pytest.fixture(scope="module")
def text_f1(planted: Planted, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> float:
    """F1 of the same recipe without photos."""
    result = train(recipe, [planted.text], tmp_path_factory.mktemp("text"))
    return f1(Recognizer.from_pretrained(result.checkpoint, device="cpu"), planted.text)


def f1(recognizer: Recognizer, source: DataSource) -> float:
    return float(evaluate(recognizer, source, "held_out")["f1"])


@pytest.mark.slow
def test_smner_reads_the_type_off_the_image(planted: Planted, with_images: Recognizer, text_f1: float) -> None:
    print(f"F1 {f1(with_images, planted.right):.3f}, text alone {text_f1:.3f}")
    assert f1(with_images, planted.right) >= 0.95
    assert text_f1 <= GUESSED


@pytest.mark.slow
def test_shuffled_images_bring_back_text_only_f1(planted: Planted, with_images: Recognizer, text_f1: float) -> None:
    shuffled = f1(with_images, planted.shuffled)
    print(f"F1 with other posts' photos {shuffled:.3f}, text alone {text_f1:.3f}")
    assert shuffled <= GUESSED
    assert shuffled == pytest.approx(text_f1, abs=0.15)


@pytest.mark.slow
@torch.inference_mode()
def test_entities_attend_to_the_telling_region(planted: Planted, with_images: Recognizer) -> None:
    """Looking everywhere alike, a span would give each of 17 keys 0.06."""
    model, file = with_images.model, planted.right.image_features
    assert file is not None
    posts = planted.right.read("held_out")
    dataset = PostDataset(posts, with_images.processor, features=ImageFeatureFile(file), features_by_id=True)
    collator = Collator(with_images.processor, model.config.label2id, model.config.max_span_width)
    batch = collator([dataset[i] for i in range(len(dataset))])
    rows, entities = (batch.pop("labels") > 0).nonzero(as_tuple=True)
    weights = model(**batch, output_attentions=True).attentions.mean(1)[rows, entities]  # (entities, 1 + m)
    places = torch.tensor([planted.places[posts[row].id] for row in rows])
    weight = float(weights[torch.arange(len(rows)), places].mean())
    most = float((weights.argmax(1) == places).float().mean())
    print(f"weight of the region {weight:.2f}, of all keys the highest for {most:.0%} of the entities")
    assert weight > 0.5
    assert most >= 0.9
