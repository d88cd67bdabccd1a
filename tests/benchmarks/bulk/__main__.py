"""Measures bulk work on Ray with one and two actors, against ``recognize_batch`` on the same posts in the same run.

``make bench-bulk``; OPTIONS="--posts 256 --rounds 1" for less. Photos are in the tables, so they are decoded as well.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow
import torch
from pyarrow import parquet
from transformers.utils import logging

from model import Recognizer
from model.bulk.ray_engine import LOCAL, RayEngine, cluster
from model.bulk.recognition import BulkRun, Share
from model.bulk.worker import Job, Progress
from model.post_files.read_ahead import default_workers
from tests.benchmarks.serving.posts import Post, load_posts

_WINDOW = 128  # posts in a call of recognize_batch: as many as a worker sorts by length


class Cost(NamedTuple):
    """Posts per second, and seconds of processor time for each post, which what runs beside does not change."""

    rate: float
    cpu: float


class Moment(NamedTuple):
    """When so many more posts of a file had been answered, and the processor time until then."""

    time: float
    cpu: float
    posts: int


def main() -> None:
    """Measure in turns and print a line for each way."""
    options = _options()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    posts = load_posts(options.posts).posts[-options.posts :]
    recognizer = Recognizer.from_pretrained(options.checkpoint, device=options.device)
    costs: dict[str, list[Cost]] = defaultdict(list)
    for _ in range(options.rounds):
        costs["recognize_batch"].append(_direct(recognizer, posts))
        for actors in (1, 2):
            costs[f"Ray, actors: {actors}"].append(_bulk(options, actors, posts))
        costs["recognize_batch"].append(_direct(recognizer, posts))
    print(f"{len(posts)} posts a file, {default_workers()} cores, load {os.getloadavg()[0]:.1f}")
    ceiling = _median(costs["recognize_batch"])
    for way, found in costs.items():
        cost = _median(found)
        print(
            f"{way}: {cost.rate:.1f} posts/s, {cost.rate / ceiling.rate:.2f} of recognize_batch; "
            f"{cost.cpu * 1000:.1f} ms of processor time a post, {cost.cpu / ceiling.cpu:.2f} of recognize_batch; "
            f"rates: {', '.join(f'{one.rate:.1f}' for one in found)}"
        )


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(cost.rate for cost in costs), statistics.median(cost.cpu for cost in costs))


def _direct(recognizer: Recognizer, posts: Sequence[Post]) -> Cost:
    """The call that needs nothing else; all cores are its own."""
    torch.set_num_threads(default_workers())
    start, cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(posts), _WINDOW):
        chosen = posts[first : first + _WINDOW]
        recognizer.recognize_batch([post.text for post in chosen], [post.image for post in chosen])
    return Cost(len(posts) / (time.perf_counter() - start), (time.process_time() - cpu) / len(posts))


def _bulk(options: argparse.Namespace, actors: int, posts: Sequence[Post]) -> Cost:
    """While all actors are at work, each on a file of its own; the processor time is that of all of Ray."""
    table = pyarrow.table({"text": [post.text for post in posts], "image": [post.image for post in posts]})
    moments: dict[str, list[Moment]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, cluster(LOCAL):
        (Path(folder) / "posts").mkdir()
        for actor in range(actors):
            parquet.write_table(table, Path(folder) / "posts" / f"{actor}.parquet", write_batch_size=16)
        run = BulkRun(f"{folder}/posts", f"{folder}/answers", Share(), checkpoint=options.checkpoint)
        source, output = run.addresses
        job = Job(inputs=source, outputs=output, checkpoint=options.checkpoint, device=options.device)
        for event in RayEngine(job, revision=run.revision, actors=actors).run(run.left):
            if isinstance(event, Progress):
                moments[event.part.source].append(Moment(time.perf_counter(), _cpu_seconds(), event.counts.posts))
    start = max(own[0] for own in moments.values())
    end = min(own[-1] for own in moments.values())
    count = sum(moment.posts for own in moments.values() for moment in own if start.time < moment.time <= end.time)
    return Cost(count / (end.time - start.time), (end.cpu - start.cpu) / count)


def _cpu_seconds() -> float:
    """Of this process and of those that it has started, which are Ray's."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return float(sum(found.user + found.system for found in times))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=1024, help="posts a file, which is what an actor answers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpoint", help="folder or name (default: smner-compact)")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    main()
