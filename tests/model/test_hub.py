"""A checkpoint on the hub: what is pushed arrives, and loads again by its name."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from huggingface_hub import ModelCard
from transformers import BertConfig

from model import SMNER, Recognizer, SMNERConfig, SMNERProcessor
from model.checkpoint import save_checkpoint, verify_checkpoint
from tests.hub import Hub, metadata_errors, serving
from tests.model.hub_client import TEXT

ROOT = Path(__file__).parents[2]
CARD = b"---\nlicense: mit\nlibrary_name: smner\npipeline_tag: token-classification\n---\n# tiny\n"


class Visit(NamedTuple):
    """The hub after somebody pushed two checkpoints to it, these, and what came back."""

    hub: Hub
    checkpoint: Path
    small: Path
    saw: dict[str, Any]


@pytest.fixture(scope="module")
def visit(processor: SMNERProcessor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    folder = tmp_path_factory.mktemp("hub")
    text = BertConfig(
        vocab_size=len(processor.tokenizer), hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=128,
    )  # fmt: skip
    network = SMNER(SMNERConfig(text_config=text, image_encoder="timm:test_efficientnet", attention_heads=2)).eval()
    checkpoint, small = folder / "checkpoint", folder / "small"
    save_checkpoint(checkpoint, network, processor, card={"README.md": CARD, "reliability.png": b"\x89PNG"})
    save_checkpoint(small, network, processor, card={"README.md": CARD}, weight_format="int8")
    with serving() as hub:
        hub.repositories["someone/pickle"] = {
            "config.json": (checkpoint / "config.json").read_bytes(),
            "pytorch_model.bin": b"a pickle",
        }
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "home"),
            "HF_TOKEN": "hf_of_the_test",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DISABLE_SAFETENSORS_CONVERSION": "1",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "tests.model.hub_client"]
        done = subprocess.run(
            [*command, checkpoint, small, folder / "downloaded"],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr + "\n".join(hub.asked)
        yield Visit(hub, checkpoint, small, json.loads(done.stdout.splitlines()[-1]))


def test_what_is_pushed_loads_by_name(visit: Visit) -> None:
    """By AutoModel and by SMNER; the weights in 8 bits, too."""
    assert visit.saw["parts"]
    assert visit.saw["whole"]


def test_model_processor_and_card_arrive(visit: Visit, processor: SMNERProcessor) -> None:
    files = visit.hub.repositories["someone/parts"]
    assert files.keys() >= {"config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"}
    assert [name for name in files if name.endswith((".safetensors", ".bin", ".pt", ".pkl"))] == ["model.safetensors"]
    assert files["README.md"].decode() == str(ModelCard(CARD.decode()))
    assert visit.saw["tokens"] == processor.tokenize(TEXT).input_ids


def test_a_folder_arrives_whole_and_verifies(visit: Visit) -> None:
    files = visit.hub.repositories["someone/whole"]
    assert files == {path.name: path.read_bytes() for path in visit.small.iterdir()}
    assert visit.saw["revision"] == verify_checkpoint(visit.small)


def test_a_pipeline_answers_from_the_hub(visit: Visit) -> None:
    for name, folder in (("someone/parts", visit.checkpoint), ("someone/whole", visit.small)):
        expected = Recognizer.from_pretrained(folder, device="cpu", fold=False).recognize(TEXT)
        assert f"GET /api/models/{name}" in visit.hub.asked  # once for all: the processor is of the same revision
        assert [(e["word"], e["score"]) for e in visit.saw["answers"][name]] == [(e.word, e.score) for e in expected]


def test_pickles_and_missing_repositories_are_refused(visit: Visit) -> None:
    assert "model.safetensors" in visit.saw["pickle"]
    assert "GET /someone/pickle/resolve/main/pytorch_model.bin" not in visit.hub.asked
    assert "someone/absent" in visit.saw["absent"]


def test_the_hub_refuses_a_bad_card(visit: Visit) -> None:
    assert '"license" must be one of the known ones' in visit.saw["bad card"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("license: [mit]", '"license" must be a string'),
        ("tags: ner", '"tags" must be an array of strings'),
        ("language: English", '"language" must be an ISO 639 code'),
        ("base_model: /home/me/bert", '"base_model" must be an id on the hub'),
        ("model-index: [{name: a, results: [{task: {type: b}}]}]", "Invalid `model_index`"),
    ],
)
def test_the_double_knows_the_hubs_rules(line: str, error: str) -> None:
    assert any(error in found for found in metadata_errors(f"---\n{line}\n---\n"))
