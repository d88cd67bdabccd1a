"""Weights in 8 bits, loaded by transformers as any others."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel

from model import SMNER, SMNERProcessor
from model.checkpoint import save_checkpoint
from model.weights import WEIGHTS_FILE, round_weights


@pytest.fixture
def small(smner: SMNER, processor: SMNERProcessor, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "small", smner, processor, card={"README.md": b"# small\n"}, weight_format="int8")
    return tmp_path / "small"


@pytest.mark.parametrize("loader", [AutoModel, SMNER])
def test_transformers_restores_the_weights(small: Path, smner: SMNER, loader: type[SMNER]) -> None:
    loaded = loader.from_pretrained(small)
    torch.testing.assert_close(loaded.state_dict(), round_weights(smner.state_dict(), "int8"), atol=0, rtol=0)
    assert loaded.config.weight_format == "float32"


def test_another_precision_can_be_asked_for(small: Path) -> None:
    loaded = SMNER.from_pretrained(small, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}


def test_what_was_read_is_saved_in_floating_point(small: Path, tmp_path: Path) -> None:
    loaded = SMNER.from_pretrained(small)
    loaded.save_pretrained(tmp_path / "again")
    with safe_open(tmp_path / "again" / WEIGHTS_FILE, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} <= {"F32", "I64"}  # noqa: SIM118
    again = SMNER.from_pretrained(tmp_path / "again")
    torch.testing.assert_close(again.state_dict(), loaded.state_dict(), atol=0, rtol=0)
