"""Two files beside the answers: ``_RUN.json``, which begins a run, and ``_SUMMARY.json``, which says that it is over.

Names with an underscore are ignored by what reads folders of tables (Spark, pyarrow).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from model.bulk.addresses import SUFFIXES
from model.bulk.counts import Counts
from model.bulk.plan import InputFile, Part
from model.bulk.stores import Folder
from model.device import Precision

RUN_FILE = "_RUN.json"
SUMMARY_FILE = "_SUMMARY.json"
_PACKAGES = ("smner", "torch", "torchvision", "transformers", "tokenizers", "pillow", "pyarrow")


def begin_run(
    outputs: Folder,
    names: Iterable[str],
    done: Sequence[Part],
    inputs: Sequence[InputFile],
    *,
    checkpoint: str,
    precision: Precision,
) -> None:
    """Note which files and which checkpoint the answers come from, before the first of them is written.

    Args:
        names: of all files in ``outputs``, which may have answers to other posts, too.
        done: parts of this run that are answered there.

    Raises:
        FileExistsError: answers that are there come from another checkpoint or precision, or from other files.
    """
    earlier = _read(outputs)
    files = {file.name: file.version for file in inputs}
    if done and earlier is None:
        raise FileExistsError(f"{outputs.name(done[0].output)} exists, but {RUN_FILE} does not; choose another output")
    if earlier is not None and any(name.endswith(SUFFIXES) for name in names):
        _check_model(outputs, earlier, checkpoint=checkpoint, precision=precision)
        _check_files(outputs, earlier["inputs"], done, files)
        files = earlier["inputs"] | files  # other files of posts may have been answered in the same folder
    run = {"checkpoint": checkpoint, "precision": precision, "inputs": files}
    if run != earlier:
        write_json(outputs, RUN_FILE, run)


def _check_model(outputs: Folder, earlier: Mapping[str, Any], **now: str) -> None:
    for key, value in now.items():
        if earlier[key] != value:
            raise FileExistsError(
                f"{outputs.address} has answers with {key} {earlier[key]}, not {value}; choose another output"
            )


def _check_files(outputs: Folder, answered: Mapping[str, str], done: Sequence[Part], files: Mapping[str, str]) -> None:
    for part in done:
        if answered.get(part.source) != files[part.source]:
            raise FileExistsError(
                f"{part.source} has changed since {outputs.name(part.output)} was written; "
                "remove that, or choose another output"
            )


def write_summary(
    outputs: Folder, counts: Counts, *, files: int, checkpoint: Mapping[str, str], precision: Precision
) -> None:
    """Say that every file has been answered; the same for the same posts, however they were shared out."""
    versions = {package: version(package) for package in _PACKAGES}
    summary = {
        "posts": counts.posts,
        "answered": counts.posts - counts.failed,
        "failed": counts.failed,
        "images_used": counts.images_used,
        "entities": counts.entities,
        "files": files,
        "checkpoint": checkpoint,
        "precision": precision,
        "versions": versions,
    }
    write_json(outputs, SUMMARY_FILE, summary)


def write_json(folder: Folder, name: str, content: object) -> None:
    """Put a JSON file in place."""
    with folder.put(name) as path:
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _read(outputs: Folder) -> dict[str, Any] | None:
    content = outputs.read(RUN_FILE)
    if content is None:
        return None
    try:
        run: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise FileExistsError(f"{outputs.name(RUN_FILE)} is not JSON; choose another output") from error
    return run
