import errno
import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import nn

from model import SMNER, InvalidCheckpoint, Recognizer, SMNERConfig, SMNERProcessor
from model.checkpoint import (
    CHECKSUM_FILE,
    CONFIG_FILE,
    MODEL_CARD_FILE,
    bundled_checkpoints,
    checkpoint_folder,
    load_model,
    replace_files,
    save_checkpoint,
    verify_checkpoint,
    write_checksums,
)
from model.preprocessing.processor import IMAGE_SETTINGS_FILE
from model.weights import WEIGHTS_FILE, round_weights

FILES = [CONFIG_FILE, WEIGHTS_FILE, IMAGE_SETTINGS_FILE, "tokenizer.json", "tokenizer_config.json", MODEL_CARD_FILE]


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def test_a_checkpoint_has_every_file_and_nothing_else(tiny_checkpoint: Path) -> None:
    assert sorted(path.name for path in tiny_checkpoint.iterdir()) == sorted([*FILES, CHECKSUM_FILE])


def test_all_files_have_the_same_permissions(tiny_checkpoint: Path) -> None:
    assert len({path.stat().st_mode for path in tiny_checkpoint.iterdir()}) == 1


def test_sha256sum_verifies_the_checksums(tiny_checkpoint: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", CHECKSUM_FILE], cwd=tiny_checkpoint, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.count(": OK") == len(FILES)


def test_the_revision_changes_with_any_file(tiny_checkpoint: Path) -> None:
    before = verify_checkpoint(tiny_checkpoint)
    assert verify_checkpoint(tiny_checkpoint) == before
    (tiny_checkpoint / MODEL_CARD_FILE).write_text("# other\n", "utf-8")
    write_checksums(tiny_checkpoint)
    assert verify_checkpoint(tiny_checkpoint) != before


@pytest.mark.parametrize("name", [*FILES, CHECKSUM_FILE])
def test_a_changed_byte_is_refused(tiny_checkpoint: Path, name: str) -> None:
    path = tiny_checkpoint / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match=name if name != CHECKSUM_FILE else "SHA256SUMS|not list"):
        Recognizer.from_pretrained(tiny_checkpoint)


@pytest.mark.parametrize("name", [*FILES, CHECKSUM_FILE])
def test_a_missing_file_is_refused(tiny_checkpoint: Path, name: str) -> None:
    (tiny_checkpoint / name).unlink()
    why = "though SHA256SUMS lists it" if name != CHECKSUM_FILE else "the checkpoint is incomplete"
    with pytest.raises(InvalidCheckpoint, match=f"{name}: missing, {why}"):
        Recognizer.from_pretrained(tiny_checkpoint)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="absent: no such folder"):
        Recognizer.from_pretrained(tmp_path / "absent")


def test_an_unreadable_file_is_refused(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because tests may run as root, who can read every file."""
    opened = Path.open

    def open_(path: Path, *given: Any, **more: Any) -> Any:
        if path.name == WEIGHTS_FILE:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *given, **more)

    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(InvalidCheckpoint, match=r"model\.safetensors: cannot be read \(Permission denied\)"):
        Recognizer.from_pretrained(tiny_checkpoint)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE, IMAGE_SETTINGS_FILE, "tokenizer.json", MODEL_CARD_FILE])
def test_checksums_must_list_every_required_file(tiny_checkpoint: Path, name: str) -> None:
    path = tiny_checkpoint / CHECKSUM_FILE
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.endswith(f"  {name}")]
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(InvalidCheckpoint, match=f"does not list {name}"):
        verify_checkpoint(tiny_checkpoint)


def test_checksums_that_are_not_text_are_refused(tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / CHECKSUM_FILE).write_bytes(b"\xff\x00\xfe")
    with pytest.raises(InvalidCheckpoint, match=CHECKSUM_FILE):
        verify_checkpoint(tiny_checkpoint)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (CONFIG_FILE, b"{", ""),
        (IMAGE_SETTINGS_FILE, b"{", ": not image settings"),
        (IMAGE_SETTINGS_FILE, b"{}", ": not image settings"),
        (IMAGE_SETTINGS_FILE, b'{"size": 64}', ": not image settings"),
        (WEIGHTS_FILE, b"not tensors", ": cannot be read"),
        (WEIGHTS_FILE, save(nn.Linear(2, 2).state_dict(), {"format": "pt"}), ": does not fit config.json, missing"),
    ],
)
def test_malformed_files_are_refused(tiny_checkpoint: Path, name: str, content: bytes, message: str) -> None:
    (tiny_checkpoint / name).write_bytes(content)
    write_checksums(tiny_checkpoint)
    with pytest.raises(InvalidCheckpoint, match=re.escape(name) + message):
        Recognizer.from_pretrained(tiny_checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (labels("O", "PER"), r"config\.json: 2 labels \(O, PER\), but the weights have 5 classes"),
        (labels("B-PER", "I-PER", "B-LOC", "I-LOC", "O"), r"config\.json: labels must be 'O' at index 0"),
        ({"use_cmib": False}, "unexpected keys: bottleneck"),
        ({"max_span_width": 8}, "mismatched keys: .*span_encoder.length.weight"),
        ({"image_encoder": "timm:test_resnet"}, "missing keys: image_encoder"),
    ],
)
def test_weights_must_fit_the_configuration(tiny_checkpoint: Path, change: dict[str, Any], message: str) -> None:
    path = tiny_checkpoint / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    write_checksums(tiny_checkpoint)
    with pytest.raises(InvalidCheckpoint, match=message):
        Recognizer.from_pretrained(tiny_checkpoint)


def test_a_missing_tensor_is_named(tiny_checkpoint: Path) -> None:
    tensors = load_file(tiny_checkpoint / WEIGHTS_FILE)
    del tensors["no_image"]
    save_file(tensors, tiny_checkpoint / WEIGHTS_FILE, metadata={"format": "pt"})
    write_checksums(tiny_checkpoint)
    with pytest.raises(InvalidCheckpoint, match="missing keys: no_image"):
        load_model(tiny_checkpoint)


def test_saving_and_loading_keeps_weights_and_logits(
    smner: SMNER, processor: SMNERProcessor, tmp_path: Path, jpeg: bytes
) -> None:
    """Including the statistics of the image encoder's batch norms, which are buffers, not parameters."""
    smner.train()(**processor(["a"] * 4, [jpeg] * 4))
    save_checkpoint(tmp_path, smner.eval(), processor, card={"README.md": b"# tiny\n"})
    batch = processor(["Kawhi Leonard", "hi"], [jpeg, None])
    loaded = load_model(tmp_path)
    assert not loaded.training
    torch.testing.assert_close(loaded.state_dict(), smner.state_dict(), atol=0, rtol=0)
    torch.testing.assert_close(loaded(**batch).logits, smner(**batch).logits, atol=1e-6, rtol=0)  # memory alignment


def test_half_precision_weights_are_loaded_as_float32(smner: SMNER, processor: SMNERProcessor, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, smner.half(), processor, card={"README.md": b"# tiny\n"})
    loaded = load_model(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.no_image, smner.no_image.float())


def test_8_bit_weights_are_restored(smner: SMNER, processor: SMNERProcessor, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, smner, processor, card={"README.md": b"# tiny\n"}, weight_format="int8")
    stored = load_file(tmp_path / WEIGHTS_FILE)
    assert {tensor.dtype for name, tensor in stored.items() if name.endswith(".weight") and tensor.dim() > 1} == {
        torch.int8
    }
    restored = round_weights(smner.state_dict(), "int8")
    loaded = load_model(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), restored, atol=0, rtol=0)
    assert loaded.config.weight_format == smner.config.weight_format == "float32"


def test_8_bits_without_their_scales_are_refused(smner: SMNER, processor: SMNERProcessor, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, smner, processor, card={"README.md": b"# tiny\n"}, weight_format="int8")
    stored = load_file(tmp_path / WEIGHTS_FILE)
    del stored["image_projection.weight.scale"]
    save_file(stored, tmp_path / WEIGHTS_FILE, {"format": "pt"})
    with pytest.raises(InvalidCheckpoint, match=r"model.safetensors: cannot be read"):
        load_model(tmp_path)


@pytest.mark.parametrize("ablation", [{"use_cmib": False}, {"use_cma": False}, {"image_encoder": None}])
def test_ablations_are_saved_and_loaded(
    config: SMNERConfig, processor: SMNERProcessor, tmp_path: Path, ablation: dict[str, Any]
) -> None:
    arguments = {"text_config": config.text_config, "attention_heads": 2, "image_feature_size": 24}
    model = SMNER(SMNERConfig(**arguments | {"image_encoder": "timm:test_efficientnet"} | ablation)).eval()
    save_checkpoint(tmp_path, model, processor, card={"README.md": b"# tiny\n"})
    batch = processor(["Kawhi Leonard"])
    assert torch.equal(load_model(tmp_path)(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("dying", ["model", "processor"])
def test_a_failed_save_keeps_the_old_checkpoint(
    tiny_checkpoint: Path, smner: SMNER, processor: SMNERProcessor, monkeypatch: pytest.MonkeyPatch, dying: str
) -> None:
    """It once lost its checksums first, and then its content file by file."""
    revision, files = verify_checkpoint(tiny_checkpoint), sorted(tiny_checkpoint.iterdir())

    def die(folder: Path, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr({"model": smner, "processor": processor}[dying], "save_pretrained", die)
    with torch.no_grad():
        smner.no_image.add_(1)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tiny_checkpoint, smner, processor, card={"README.md": b"# another\n"})
    assert verify_checkpoint(tiny_checkpoint) == revision
    assert sorted(tiny_checkpoint.iterdir()) == files


def test_files_of_a_checkpoint_can_be_replaced(tiny_checkpoint: Path) -> None:
    before, names = verify_checkpoint(tiny_checkpoint), {path.name for path in tiny_checkpoint.iterdir()}
    revision = replace_files(tiny_checkpoint, {"README.md": b"# again\n", "picture.png": b"png"})
    assert before != revision == verify_checkpoint(tiny_checkpoint)
    assert {path.name for path in tiny_checkpoint.iterdir()} == names | {"picture.png"}
    assert (tiny_checkpoint / "README.md").read_bytes() == b"# again\n"


def test_loading_needs_no_network(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(*arguments: Any, **options: Any) -> None:
        asked.append(str(arguments))
        raise OSError("no network in this test")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    Recognizer.from_pretrained(tiny_checkpoint, device="cpu").recognize("Kawhi Leonard")
    assert asked == []


def test_checkpoints_that_come_along_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smner-compact").mkdir()
    monkeypatch.chdir(tmp_path)
    compact = bundled_checkpoints()["smner-compact"]
    assert compact.parts[-2:] == ("model", "smner-compact")
    assert [checkpoint_folder(name) for name in (None, "smner-compact", Path("smner-compact"))] == [compact] * 3
    assert checkpoint_folder("./smner-compact").resolve() == tmp_path / "smner-compact"
    with pytest.raises(InvalidCheckpoint, match=r"smner-huge: no such folder; .* come along are .*smner-compact"):
        Recognizer.from_pretrained("smner-huge")
