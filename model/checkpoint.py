"""Checkpoint folders: never half-written, read only if every file matches its checksum.

A checkpoint is ``config.json``, the weights (:mod:`model.weights`), the tokenizer's files, the image settings, a model
card and ``SHA256SUMS`` in the format of sha256sum(1). Loading reads no pickle and nothing outside the folder.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError

from model.errors import InvalidCheckpoint
from model.modeling.configuration import NO_ENTITY, SMNERConfig
from model.modeling.smner import SMNER
from model.preprocessing.processor import IMAGE_SETTINGS_FILE, SMNERProcessor
from model.weights import (
    INDEX_FILE,
    WEIGHTS_FILE,
    WeightFormat,
    max_file_size,
    stored_weights,
    weight_files,
)

CONFIG_FILE = "config.json"
MODEL_CARD_FILE = "README.md"
CHECKSUM_FILE = "SHA256SUMS"
_PARTIAL_FOLDER = ".partial"
REQUIRED_FILES = (CONFIG_FILE, IMAGE_SETTINGS_FILE, "tokenizer.json", MODEL_CARD_FILE)
DEFAULT_CHECKPOINT = "smner-compact"


def checkpoint_folder(name: str | Path | None = None) -> Path:
    """The folder of a checkpoint that is part of the package, by its name; any other name is a folder itself.

    A folder that has the name of such a checkpoint needs its path, ``./smner-compact``.
    """
    name = DEFAULT_CHECKPOINT if name is None else name
    return bundled_checkpoints().get(str(name), Path(name))


def bundled_checkpoints() -> dict[str, Path]:
    """The folders of the checkpoints that are part of the package, by name."""
    found = Path(str(files("model"))).glob(f"*/{CHECKSUM_FILE}")
    return {path.parent.name: path.parent for path in sorted(found)}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(
    folder: Path,
    model: SMNER,
    processor: SMNERProcessor,
    *,
    card: Mapping[str, bytes],
    weight_format: WeightFormat = "float32",
) -> None:
    """Write a complete checkpoint into ``folder``; ``card`` has the model card and the files that go with it.

    Everything is written to a temporary folder and flushed to disk first, so a failure leaves ``folder`` unchanged. The
    files are then moved one by one, the checksums last, so half a checkpoint never passes verification.

    Raises:
        OSError: the files cannot be written.
    """
    partial = folder / _PARTIAL_FOLDER
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        weights = stored_weights(model.state_dict(), weight_format)
        model.config.weight_format = weight_format
        model.save_pretrained(partial, state_dict=weights, max_shard_size=max_file_size(weight_format))
        processor.save_pretrained(partial)
        for name, content in card.items():
            (partial / name).write_bytes(content)
        write_checksums(partial)
        for path in partial.iterdir():
            # safetensors makes files private to their owner, but trainer and server may be different users
            shutil.copymode(partial / MODEL_CARD_FILE, path)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        for path in sorted(partial.iterdir(), key=lambda path: path.name == CHECKSUM_FILE):
            path.replace(folder / path.name)
    except SafetensorError as error:
        raise OSError(f"{folder / WEIGHTS_FILE}: could not be written ({error})") from error
    finally:
        model.config.weight_format = "float32"
        shutil.rmtree(partial, ignore_errors=True)


def write_checksums(folder: Path) -> None:
    """List every file of ``folder`` in ``SHA256SUMS``."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != CHECKSUM_FILE)
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in names]
    (folder / CHECKSUM_FILE).write_text("".join(lines), "utf-8")


def replace_files(folder: Path, contents: Mapping[str, bytes]) -> str:
    """Replace files of a verified checkpoint, or add some, and return its new revision.

    Each file is whole at any moment. Between the first and the checksums, which come last, the checkpoint does not pass
    verification.

    Raises:
        OSError: a file cannot be written.
    """
    sums = _checksums(folder) | {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    for name, content in [*contents.items(), (CHECKSUM_FILE, lines.encode())]:
        partial = folder / f"{name}{_PARTIAL_FOLDER}"
        partial.write_bytes(content)
        partial.replace(folder / name)
    return file_sha256(folder / CHECKSUM_FILE)


def verify_checkpoint(folder: Path) -> str:
    """Check every file against ``SHA256SUMS``.

    Returns:
        The checkpoint's revision: the SHA-256 of ``SHA256SUMS``, which changes when any file does.

    Raises:
        InvalidCheckpoint: a file is missing, changed or unreadable; the message names it.
    """
    try:
        return _verify(folder)
    except OSError as error:
        raise InvalidCheckpoint(f"{error.filename or folder}: cannot be read ({error.strerror})") from error


def _verify(folder: Path) -> str:
    if not folder.is_dir():
        known = ", ".join(bundled_checkpoints())
        raise InvalidCheckpoint(f"{folder}: no such folder; the checkpoints that come along are {known}")
    if not (folder / CHECKSUM_FILE).is_file():
        raise InvalidCheckpoint(f"{folder / CHECKSUM_FILE}: missing, the checkpoint is incomplete")
    sums = _checksums(folder)
    for name in (*REQUIRED_FILES, *_weight_names(folder)):
        if name not in sums:
            raise InvalidCheckpoint(f"{folder / CHECKSUM_FILE}: does not list {name}")
    for name, digest in sums.items():
        path = folder / name
        if not path.is_file():
            raise InvalidCheckpoint(f"{path}: missing, though {CHECKSUM_FILE} lists it")
        if file_sha256(path) != digest:
            raise InvalidCheckpoint(f"{path}: changed, its SHA-256 is not the one in {CHECKSUM_FILE}")
    return file_sha256(folder / CHECKSUM_FILE)


def _checksums(folder: Path) -> dict[str, str]:
    lines = (folder / CHECKSUM_FILE).read_text("utf-8", errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _weight_names(folder: Path) -> list[str]:
    try:
        return [path.name for path in weight_files(folder)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidCheckpoint(f"{folder / INDEX_FILE}: not an index of weights ({error!r})") from error


def load_model(folder: Path) -> SMNER:
    """Load a verified checkpoint's network: float32, in evaluation mode, on the CPU.

    Raises:
        InvalidCheckpoint: the configuration is malformed, or the weights do not fit it.
    """
    config_file, weights_file = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    try:
        config = SMNERConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise InvalidCheckpoint(f"{config_file}: {error}") from error
    try:
        model, report = SMNER.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # reported, like the other problems
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise InvalidCheckpoint(f"{weights_file}: cannot be read ({error})") from error
    for name, stored, expected in report["mismatched_keys"]:
        if name.startswith("classifier.") and expected[0] == config.num_labels != stored[0]:
            labels = ", ".join((NO_ENTITY, *config.entity_types))
            raise InvalidCheckpoint(
                f"{config_file}: {config.num_labels} labels ({labels}), but the weights have {stored[0]} classes"
            )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[problem]:
            names = ", ".join(sorted(map(str, report[problem]))[:3])
            raise InvalidCheckpoint(f"{weights_file}: does not fit {CONFIG_FILE}, {problem.replace('_', ' ')}: {names}")
    model.config.weight_format = "float32"
    network: SMNER = model.eval()
    return network
