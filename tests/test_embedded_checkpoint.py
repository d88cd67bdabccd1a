"""What the embedded checkpoint promises, measured on the real data if it is present."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model import SMNER, Entity, Post, Recognizer, SMNERProcessor
from model.checkpoint import checkpoint_folder
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost
from training.data.sources import DataSource
from training.data.training_data import held_out_posts
from training.features.image_features import ImageFeatureFile
from training.figures.analysis import modality_gap, represent
from training.learning.objective import mean_rank
from training.scoring.report import evaluate


@pytest.fixture(scope="module")
def embedded() -> Recognizer:
    return Recognizer.from_pretrained(device="cpu")


def test_it_recognizes_a_real_post(embedded: Recognizer, jpeg: bytes) -> None:
    text = "  Kawhi Leonard meets LeBron James in San Francisco 🏀 "
    entities = embedded.recognize(text, jpeg)
    assert [(entity.entity_group, entity.word) for entity in entities] == [
        ("PER", "Kawhi Leonard"),
        ("PER", "LeBron James"),
        ("LOC", "San Francisco"),
    ]
    assert all(text[entity.start : entity.end] == entity.word for entity in entities)


def test_it_answers_the_same_after_a_restart(embedded: Recognizer, jpeg: bytes) -> None:
    text = "RT @NBA: Kawhi Leonard is in Toronto"
    again = Recognizer.from_pretrained(device="cpu").recognize(text, jpeg)
    assert [(e.entity_group, e.start, e.end) for e in again] == [
        (e.entity_group, e.start, e.end) for e in embedded.recognize(text, jpeg)
    ]
    assert [e.score for e in again] == pytest.approx([e.score for e in embedded.recognize(text, jpeg)], abs=1e-4)


def test_the_network_loads_without_a_recognizer(jpeg: bytes) -> None:
    """In single precision, from the half-precision weights."""
    folder = checkpoint_folder()
    network, processor = SMNER.from_pretrained(folder), SMNERProcessor.from_pretrained(folder)
    output = network.eval()(**processor(["Kawhi Leonard", "Toronto"], [jpeg, None]))
    assert output.logits.dtype == torch.float32
    assert output.logits.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "floor"), [("twitter2017", 0.866), ("twitter2015", 0.748)])
def test_f1_on_both_benchmarks_without_images(
    embedded: Recognizer, shared_data: Path, dataset: str, floor: float
) -> None:
    report = evaluate(embedded, DataSource(shared_data / dataset), "valid")
    assert report["f1"] >= floor


def test_images_do_not_hurt_benchmark_f1(embedded: Recognizer, shared_data: Path, tmp_path: Path) -> None:
    pairs = shared_data / "pairs"
    without = tmp_path / "pairs.jsonl"
    records = [json.loads(line) for line in (pairs / "pairs.jsonl").read_text("utf-8").splitlines()]
    without.write_text("".join(json.dumps({**record, "image": None}) + "\n" for record in records), "utf-8")
    with_images = evaluate(embedded, DataSource(pairs), "pairs")
    text_only = evaluate(embedded, DataSource(tmp_path), "pairs")
    assert (with_images["without_image"], text_only["without_image"]) == (0, len(records))
    assert with_images["f1"] >= text_only["f1"]


@pytest.fixture(scope="module")
def unseen(
    embedded: Recognizer, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[LabeledPost], ImageFeatureFile]:
    """The 500 posts kept out of training, their images encoded once for all tests."""
    posts = held_out_posts(DataSource(shared_data / "posts" / "posts.jsonl").read("train"), 500)
    images = [post.image for post in posts if post.image is not None]
    features: list[torch.Tensor] = []
    for first in range(0, len(images), 20):
        features += embedded.encode_images([embedded.processor.decode_image(i) for i in images[first : first + 20]])
    file = tmp_path_factory.mktemp("unseen") / "features.safetensors"
    save_file({"features": torch.stack(features)}, file, {"image_ids": json.dumps([image.stem for image in images])})
    return posts, ImageFeatureFile(file)


@pytest.mark.slow
def test_images_change_few_entities_of_unseen_posts(
    embedded: Recognizer, shared_data: Path, unseen: tuple[list[LabeledPost], ImageFeatureFile]
) -> None:
    posts, features = unseen
    lines = (shared_data / "posts" / "posts.jsonl").read_text("utf-8").splitlines()
    texts = {str(post["id"]): post["text"] for post in map(json.loads, lines)}
    without = [embedded.prepare(texts[post.id]) for post in posts]
    attached = [
        replace(prepared, image_features=features[post.image.stem].features.float())
        for prepared, post in zip(without, posts, strict=True)
        if post.image is not None
    ]
    alone, with_image = _found(embedded, without), _found(embedded, attached)
    gone, new = len(alone - with_image), len(with_image - alone)
    print(f"{len(alone)} entities without the photo; with it {new} new, {gone} gone")
    changed = max(gone, new)
    assert changed <= 0.05 * len(alone), f"{changed} of {len(alone)} entities changed"


@pytest.mark.slow
@torch.inference_mode()
def test_the_bottleneck_ranks_an_unseen_posts_image(
    embedded: Recognizer, unseen: tuple[list[LabeledPost], ImageFeatureFile]
) -> None:
    """At chance, the right one of 100 images comes first for 1 % of the posts and has a mean rank of 50.5.

    The bottleneck brings text and image representations together that are far apart before it (figure 3 of the paper).
    """
    posts, features = unseen
    dataset = PostDataset(posts, embedded.processor, features=features)
    collator = Collator(embedded.processor, embedded.model.config.label2id, embedded.model.config.max_span_width)
    seen = represent(embedded.model, dataset, collator)
    assert seen is not None
    assert embedded.model.bottleneck is not None
    assert seen.text_posterior is not None
    assert seen.image_posterior is not None
    text, image = seen.text_posterior.mean, seen.image_posterior.mean
    groups = [slice(first, first + 100) for first in range(0, len(text) // 100 * 100, 100)]
    scores = [embedded.model.bottleneck.critic(text[group], image[group]) for group in groups]
    first = torch.cat([each.argmax(1) == torch.arange(100) for each in scores]).float().mean()
    rank = torch.stack([mean_rank(each) for each in scores]).mean()
    before, after = modality_gap(seen.text, seen.image), modality_gap(text, image)
    print(f"own photo first for {first:.1%}, mean rank {rank:.1f}; gap {before:.2f}, after CMIB {after:.2f}")
    assert first >= 0.05
    assert rank < 30
    assert after < before / 2


def _found(recognizer: Recognizer, posts: list[Post]) -> set[tuple[int, str, int, int]]:
    """The entities of all posts, run in batches of similar length."""
    order = sorted(range(len(posts)), key=lambda i: posts[i].tokens)
    answers: list[tuple[int, Entity]] = []
    for first in range(0, len(order), 20):
        chunk = order[first : first + 20]
        found = recognizer.run([posts[i] for i in chunk])
        answers += [(i, entity) for i, own in zip(chunk, found, strict=True) for entity in own]
    return {(i, entity.entity_group, entity.start, entity.end) for i, entity in answers}
