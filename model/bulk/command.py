"""The part of ``smner-recognize`` that answers folders."""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from model.bulk.addresses import SUFFIXES
from model.bulk.outcome import Outcome
from model.bulk.recognition import BulkRun, Share, here
from model.bulk.stores import Folder, reaching
from model.bulk.worker import Job, Worker
from model.checkpoint import bundled_checkpoints
from model.post_files.read_ahead import default_workers
from model.recognizer import Recognizer

Log = Callable[[str], None]


def recognize_folder(options: argparse.Namespace, log: Log) -> Outcome:
    """Answer the posts that ``options`` name.

    Raises:
        SMNERError, OSError, ValueError, RuntimeError: nothing could be done, or the run had to stop.
    """
    if options.output == "-" or options.output.endswith(SUFFIXES):
        raise ValueError(f"--output {options.output}: the answers go into a folder, a file for each file of posts")
    if options.ray is not None and find_spec("ray") is None:
        raise ValueError(f"--ray {options.ray} needs the extra smner[bulk]")
    share, images = Share.parse(options.shard), _images(options.images)
    run = BulkRun(options.input, options.output, share, checkpoint=options.checkpoint, precision=options.precision)
    inputs, outputs = run.addresses
    job = Job(
        inputs=inputs,
        outputs=outputs,
        images=images,
        checkpoint=_known_everywhere(options.checkpoint),
        device=options.device,
        precision=options.precision,
    )
    return _on_ray(run, job, options, log) if options.ray is not None else _here(run, job, log)


def _here(run: BulkRun, job: Job, log: Log) -> Outcome:
    if not run.left:
        return run.finish()
    recognizer = Recognizer.from_pretrained(job.checkpoint, device=job.device, precision=job.precision)
    return run.answer(here(Worker(recognizer, job, threads=default_workers())), log)


def _on_ray(run: BulkRun, job: Job, options: argparse.Namespace, log: Log) -> Outcome:
    from model.bulk.ray_engine import RayEngine, cluster  # which takes seconds, and need not be installed

    with cluster(options.ray):
        return run.answer(RayEngine(job, revision=run.revision, actors=options.actors).run, log)


def _images(address: str | None) -> str | None:
    if address is None:
        return None
    folder = Folder(address)
    with reaching(address):
        found = folder.fs.isdir(folder.root) or address.startswith("http")  # where folders need not exist
    if not found:
        raise FileNotFoundError(f"--images {address}: there is no such folder")
    return folder.address


def _known_everywhere(checkpoint: str | None) -> str | None:
    """Not relative to the current folder, which is another for Ray's actors."""
    return checkpoint if checkpoint is None or checkpoint in bundled_checkpoints() else str(Path(checkpoint).resolve())
