"""What people at home in transformers know: AutoConfig, AutoModel and pipeline."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoTokenizer, pipeline

from model import SMNER, Recognizer, SMNERConfig
from model.checkpoint import load_model, save_checkpoint
from model.preprocessing.processor import SMNERProcessor

TEXT = "Kawhi Leonard wins the NBA award"


@pytest.fixture
def found(tiny_checkpoint: Path) -> Any:
    return pipeline("multimodal-ner", model=tiny_checkpoint, device="cpu")


def expected(recognizer: Recognizer, text: str, image: Any = None) -> list[dict[str, Any]]:
    keys = ("entity_group", "word", "start", "end", "score")
    return [{key: getattr(e, key) for key in keys} for e in recognizer.recognize(text, image)]


def test_auto_classes_know_the_model(tiny_checkpoint: Path) -> None:
    assert isinstance(AutoConfig.from_pretrained(tiny_checkpoint), SMNERConfig)
    model = AutoModel.from_pretrained(tiny_checkpoint)
    assert isinstance(model, SMNER)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), load_model(tiny_checkpoint).parameters(), strict=True)
    )
    assert AutoTokenizer.from_pretrained(tiny_checkpoint).tokenize("hi") == ["h", "##i"]


def test_a_pipeline_answers_as_the_recognizer(found: Any, recognizer: Recognizer, image: Image.Image) -> None:
    assert found(TEXT) == expected(recognizer, TEXT)
    assert found({"text": TEXT, "image": image}) == expected(recognizer, TEXT, image)
    assert found([TEXT, {"text": "Oslo"}, ""]) == [expected(recognizer, TEXT), expected(recognizer, "Oslo"), []]
    assert found(TEXT)


def test_half_precision_is_computed_in_single(
    smner: SMNER, processor: SMNERProcessor, tmp_path: Path, recognizer: Recognizer
) -> None:
    """The network's heads have no half precision on the CPU."""
    save_checkpoint(tmp_path / "half", smner, processor, card={"README.md": b"# half\n"}, weight_format="float16")
    found = pipeline("multimodal-ner", model=str(tmp_path / "half"), device="cpu")
    assert found.model.dtype == torch.float32
    assert [e["word"] for e in found(TEXT)] == [
        e.word for e in Recognizer.from_pretrained(tmp_path / "half").recognize(TEXT)
    ]


@pytest.mark.parametrize(
    ("post", "problem"),
    [
        ({"txt": "Oslo"}, r"a dictionary with text and image, not one with \['txt'\]"),
        ({"text": "Oslo", "photo": "a.jpg"}, r"not one with \['text', 'photo'\]"),
        ({"text": None}, "a text is a str, not NoneType"),
    ],
)
def test_other_posts_are_refused(found: Any, post: dict[str, Any], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        found(post)


def test_unknown_options_are_refused(found: Any) -> None:
    with pytest.raises(TypeError, match="multimodal-ner has no option aggregation_strategy"):
        found(TEXT, aggregation_strategy="simple")


def test_a_pipeline_reads_8_bits(smner: SMNER, processor: SMNERProcessor, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "small", smner, processor, card={"README.md": b"# small\n"}, weight_format="int8")
    found = pipeline("multimodal-ner", model=str(tmp_path / "small"), device="cpu")
    assert found(TEXT) == expected(Recognizer.from_pretrained(tmp_path / "small", device="cpu"), TEXT)


def test_the_embedded_checkpoint_is_the_default(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        found = pipeline("multimodal-ner", device="cpu")
    assert found.recognizer.name == "smner-compact"
    assert {e["word"] for e in found("Eileen Collins flew for NASA")} == {"Eileen Collins", "NASA"}
