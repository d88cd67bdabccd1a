"""A dataset of eight posts, a text encoder small enough to train in seconds, and a recipe for both."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from skimage import data as free_images
from transformers import BertConfig, BertTokenizerFast

from training.data.sources import DataSource
from training.learning.run import RunResult, train
from training.recipes.recipe import Recipe

BY_HEART: dict[str, Any] = {"epochs": 20, "patience": 0, "encoder_learning_rate": 1e-2, "head_learning_rate": 1e-2}
SAYS = "{per}\tB-PER\nvisits\tO\n{loc}\tB-LOC\n!\tO\n"
TELLS = "in\tO\n{loc}\tB-LOC\nI\tO\nmet\tO\n{per}\tB-PER\nSmith\tI-PER\n"


@pytest.fixture(scope="session")
def text_encoder(tokenizer: BertTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration of a BERT of width 24 and its tokenizer."""
    folder = tmp_path_factory.mktemp("text-encoder")
    tokenizer.save_pretrained(folder)
    BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def write_dataset() -> Callable[[Path], DataSource]:
    """Writes eight tagged posts, 8 PER and 8 LOC, as both splits; posts 0, 2, 4 and 6 have a photo."""

    def write(folder: Path) -> DataSource:
        (folder / "images").mkdir(parents=True)
        names = [(per, loc) for per in ("Anna", "Bob") for loc in ("Paris", "Rome")]
        texts = [text.format(per=per, loc=loc) for per, loc in names for text in (SAYS, TELLS)]
        content = "\n".join(f"IMGID:{i}\n{text}" for i, text in enumerate(texts))
        for split in ("train", "valid"):
            (folder / f"{split}.txt").write_text(content, "utf-8")
        free: Any = free_images  # scikit-image's functions have no annotations
        pictures = [free.astronaut(), free.chelsea(), free.coffee(), free.rocket()]
        for i, pixels in enumerate(pictures):
            Image.fromarray(pixels).resize((96, 96)).save(folder / "images" / f"{2 * i}.png")
        return DataSource(folder, folder / "images")

    return write


@pytest.fixture
def source(tmp_path: Path, write_dataset: Callable[[Path], DataSource]) -> DataSource:
    """The eight posts, in a folder that the test may change."""
    return write_dataset(tmp_path / "eight")


@pytest.fixture(scope="session")
def recipe(text_encoder: Path) -> Recipe:
    """Two epochs of two batches with random encoders: it learns nothing, but does everything."""
    return Recipe(
        name="tiny",
        text_encoder=str(text_encoder),
        image_encoder="timm:test_efficientnet",
        pretrained=False,
        epochs=2,
        batch_size=4,
        encoder_learning_rate=5e-3,
        head_learning_rate=5e-3,
    )


@pytest.fixture(scope="session")
def overfitted(
    recipe: Recipe, write_dataset: Callable[[Path], DataSource], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunResult, DataSource]:
    """A run that has learned its eight posts by heart; not to be written into."""
    folder = tmp_path_factory.mktemp("overfitted")
    source = write_dataset(folder / "eight")
    return train(recipe.model_copy(update=BY_HEART), [source], folder / "run"), source


@pytest.fixture
def untagged(source: DataSource, tmp_path: Path) -> DataSource:
    """The eight texts without tags, the first four with a photo."""
    records = [{"id": f"u{i}", "tokens": post.words} for i, post in enumerate(source.read("train"))]
    for i, record in enumerate(records[:4]):
        record["image"] = f"eight/images/{2 * i}.png"
    path = tmp_path / "untagged.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return DataSource(path)
