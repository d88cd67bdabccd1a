"""The subfolder ``run`` of a run's output: its recipe, data, progress, and where to resume."""

import json
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from model.device import choose_device, device_name, has_bfloat16
from training.data.dataset import PostDataset
from training.data.training_data import TrainingData
from training.features.cache import images_sha256
from training.recipes.recipe import Recipe

RUN_FOLDER = "run"
CHECKPOINTS_FOLDER = "checkpoints"
METRICS_FILE = "metrics.jsonl"
_STATE_FILE = "trainer_state.json"  # the last file that Trainer writes to a checkpoint
_LIBRARIES = ("torch", "torchvision", "transformers", "accelerate", "timm", "tokenizers", "safetensors", "pillow")


def claim(run: Path, recipe: Recipe, data: TrainingData, *, resume: bool, teacher: str | None = None) -> None:
    """Claim the folder for a new run, or check that it holds this one.

    ``teacher`` is the revision of a teacher that is not trained by this run.

    Raises:
        FileExistsError: it holds another run, or other files.
        ValueError: the run to resume began with another recipe or other data.
    """
    digests = {f"{part.name} {use}": digest for part in data.parts for use, digest in part.checksums.items()}
    digests |= {f"{part.name} images": images_sha256(images) for part in data.parts if (images := part.images())}
    digests |= {"teacher": teacher} if teacher else {}
    record = {"recipe": recipe.model_dump(mode="json"), "data": digests, "versions": _versions()}
    file = run / "recipe.json"
    if not file.is_file():
        if run.parent.is_dir() and any(path.name != RUN_FOLDER for path in run.parent.iterdir()):
            raise FileExistsError(f"{run.parent} is not empty: choose another folder")
        run.mkdir(parents=True, exist_ok=True)
        (run / "held_out.txt").write_text("".join(f"{name}\n" for name in data.held_out), "utf-8")
        write_json(file, record)
        return
    if not resume:
        raise FileExistsError(f"{run.parent} holds another run: choose another folder, or continue it with --resume")
    begun = json.loads(file.read_text("utf-8"))
    if changed := [*_changes(begun["recipe"], record["recipe"]), *_changes(begun["data"], record["data"])]:
        raise ValueError(f"--resume continues with the recipe and data the run began with, but: {', '.join(changed)}")
    if changed := _changes(begun.get("versions", {}), record["versions"]):
        print(f"the weights may differ in their last bits from those of an uninterrupted run: {', '.join(changed)}")


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [f"{key} {before.get(key)} → {now.get(key)}" for key in before | now if before.get(key) != now.get(key)]


def _versions() -> dict[str, str]:
    """Versions and hardware that the weights depend on."""
    device = choose_device("auto")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        "device": device_name(device),
        "bfloat16": "yes" if has_bfloat16(device) else "no",
    }


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` so that the file is complete or absent."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    partial.replace(path)


@dataclass(frozen=True, slots=True)
class Resumption:
    """A complete Trainer checkpoint to resume from; ``finished`` if no step was left when it was written."""

    checkpoint: str
    finished: bool
    best: str


def last_checkpoint(folder: Path) -> Resumption | None:
    """Find the checkpoint to resume from; remove those that are only partly written or deleted."""
    whole: dict[int, tuple[Path, dict[str, Any]]] = {}
    for path in folder.glob("checkpoint-*"):
        try:
            whole[int(path.name.rpartition("-")[2])] = path, json.loads((path / _STATE_FILE).read_text("utf-8"))
        except (OSError, ValueError):  # missing, or cut off
            shutil.rmtree(path, ignore_errors=True)
    if not whole:
        return None
    path, state = whole[max(whole)]
    control = state["stateful_callbacks"]["TrainerControl"]["args"]
    best = folder / Path(state["best_model_checkpoint"] or path).name  # the folder may have been moved since
    return Resumption(str(path), control["should_training_stop"], str(best))


class MetricsFile(TrainerCallback):
    """Writes Trainer's log, with each epoch's losses and scores, as JSON lines."""

    def __init__(self, run: Path) -> None:
        self._path = run / METRICS_FILE

    def on_log(self, _: TrainingArguments, state: TrainerState, control: TrainerControl, **__: Any) -> None:  # noqa: ARG002
        """Rewrite the file: a resumed run drops what was logged after its checkpoint."""
        if state.is_world_process_zero:
            self._path.write_text("".join(json.dumps(entry) + "\n" for entry in state.log_history), "utf-8")


def list_unusable_images(path: Path, datasets: Iterable[tuple[str, PostDataset]]) -> None:
    """Write a TSV list of the posts whose images cannot be used."""
    lines = ["source\tpost\treason\timage\n"]
    for source, dataset in datasets:
        for index, post in enumerate(dataset.posts):
            if (lost := dataset.unusable_image(index)) is not None:
                lines.append(f"{source}\t{post.id}\t{lost.reason}\t{lost.image}\n")
    path.write_text("".join(lines), "utf-8")
