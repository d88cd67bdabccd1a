"""Weights in 8 bits: what is stored, what comes back, and how large the files are."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model import SMNER, SMNERProcessor
from model.checkpoint import CHECKSUM_FILE, load_model, save_checkpoint, verify_checkpoint
from model.errors import InvalidCheckpoint
from model.weights import INDEX_FILE, max_file_size, restore, round_weights, stored_weights, weight_files


def test_a_group_of_64_has_one_scale() -> None:
    """Two groups in a row: 127 steps of 1 and of 0.5; 5.2 is 5 steps, −10.2 is −20 steps."""
    row = torch.zeros(1, 128)
    row[0, 0], row[0, 1], row[0, 64], row[0, 65] = 127, 5.2, 63.5, -10.2
    stored = stored_weights({"a.weight": row}, "int8")
    assert stored["a.weight.scale"].tolist() == [[1, 0.5]]
    assert stored["a.weight"][0, [0, 1, 64, 65]].tolist() == [127, 5, 127, -20]
    assert round_weights({"a.weight": row}, "int8")["a.weight"][0, [0, 1, 64, 65]].tolist() == [127, 5, 63.5, -10]


def test_odd_shapes_have_a_scale_per_row() -> None:
    kernel = torch.randn(6, 4, 3, 3)
    stored = stored_weights({"a.weight": kernel}, "int8")
    assert (stored["a.weight"].shape, stored["a.weight.scale"].shape) == ((6, 4, 3, 3), (6, 1))


def test_what_is_no_matrix_is_kept() -> None:
    state = {"b.weight": torch.randn(6), "n": torch.tensor(3), "positions": torch.randn(2, 64)}
    torch.testing.assert_close(stored_weights(state, "int8"), state, rtol=0, atol=0)


def test_a_scale_of_another_weight_is_refused() -> None:
    """One with fewer rows was stretched over the whole weight."""
    steps = torch.ones(6, 64, dtype=torch.int8)
    with pytest.raises(RuntimeError, match="size of tensor"):
        restore(steps, torch.ones(3, 1, dtype=torch.float16))
    with pytest.raises(ValueError, match="int8 without its scale"):
        restore(steps, None)


def test_zeros_and_tiny_weights_stay_finite() -> None:
    weights = torch.tensor([[0.0, 0.0], [1e-9, -1e-9], [3e4, 1.0]])
    restored = round_weights({"a.weight": weights}, "int8")["a.weight"]
    torch.testing.assert_close(restored, weights, atol=120, rtol=0)
    assert restored[:2].abs().max() < 1e-8


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_hidden(bad: float) -> None:
    restored = round_weights({"a.weight": torch.tensor([[1.0, bad], [1.0, 2.0]])}, "int8")["a.weight"]
    assert not restored[0].isfinite().all()


def test_rounding_twice_changes_nothing() -> None:
    once = round_weights({"a.weight": torch.randn(50, 192)}, "int8")
    torch.testing.assert_close(round_weights(once, "int8"), once)


def test_several_files_are_read_as_one(
    smner: SMNER, processor: SMNERProcessor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.checkpoint.max_file_size", lambda _: "100KB")
    save_checkpoint(tmp_path, smner, processor, card={"README.md": b"# tiny\n"}, weight_format="int8")
    files = weight_files(tmp_path)
    assert len(files) > 1
    assert (tmp_path / INDEX_FILE).is_file()
    stored = stored_weights(smner.state_dict(), "int8")
    torch.testing.assert_close({k: v for path in files for k, v in load_file(path).items()}, stored)
    torch.testing.assert_close(load_model(tmp_path).state_dict(), round_weights(smner.state_dict(), "int8"))
    sums = (tmp_path / CHECKSUM_FILE).read_text("utf-8").splitlines(keepends=True)
    unlisted = "".join(line for line in sums if not line.endswith(f"  {files[-1].name}\n"))
    (tmp_path / CHECKSUM_FILE).write_text(unlisted, "utf-8")
    with pytest.raises(InvalidCheckpoint, match=f"does not list {files[-1].name}"):
        verify_checkpoint(tmp_path)
    (tmp_path / INDEX_FILE).write_text("[]", "utf-8")
    with pytest.raises(InvalidCheckpoint, match="not an index of weights"):
        verify_checkpoint(tmp_path)


def test_only_8_bit_files_are_kept_small() -> None:
    assert (max_file_size("int8"), max_file_size("float16")) == ("95MB", "100GB")
