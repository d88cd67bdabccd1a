"""What `smner-base` promises, the checkpoint for a GPU that comes with the package in 8 bits."""

from pathlib import Path

import pytest
from transformers import pipeline

from model import Recognizer, SMNERConfig
from model.checkpoint import checkpoint_folder
from training.data.sources import DataSource
from training.scoring.report import evaluate

POSTS = 200  # of each valid split


@pytest.fixture(scope="module")
def base() -> Recognizer:
    return Recognizer.from_pretrained("smner-base", device="cpu")


def test_its_files_fit_into_a_repository() -> None:
    sizes = [path.stat().st_size for path in checkpoint_folder("smner-base").iterdir()]
    assert sum(sizes) <= 140_000_000
    assert max(sizes) < 100_000_000
    assert SMNERConfig.from_pretrained(checkpoint_folder("smner-base")).weight_format == "int8"


def test_it_recognizes_a_real_post(base: Recognizer, jpeg: bytes) -> None:
    text = "  Kawhi Leonard meets LeBron James in San Francisco 🏀 "
    for image in (None, jpeg):
        assert [(entity.entity_group, entity.word) for entity in base.recognize(text, image)] == [
            ("PER", "Kawhi Leonard"),
            ("PER", "LeBron James"),
            ("LOC", "San Francisco"),
        ]


def test_transformers_answers_the_same(base: Recognizer) -> None:
    text = "Eileen Collins flew for NASA"
    found = pipeline("multimodal-ner", model=checkpoint_folder("smner-base"), device="cpu")(text)
    assert [(entity["entity_group"], entity["word"]) for entity in found] == [
        (entity.entity_group, entity.word) for entity in base.recognize(text)
    ]


@pytest.mark.parametrize(("dataset", "floor"), [("twitter2015", 0.74), ("twitter2017", 0.86)])
def test_f1_on_the_first_posts_of_valid(
    base: Recognizer, shared_data: Path, tmp_path: Path, dataset: str, floor: float
) -> None:
    posts = (shared_data / dataset / "valid.txt").read_text("utf-8").split("\n\n")[:POSTS]
    (tmp_path / "valid.txt").write_text("\n\n".join(posts) + "\n", "utf-8")
    assert evaluate(base, DataSource(tmp_path), "valid")["f1"] >= floor
