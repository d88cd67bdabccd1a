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


def main() -> None:
    """Measure in turns and print a line for each way."""
    options = _options()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    posts = load_posts(options.posts).posts[-options.posts :]
    recognizer = Recognizer.from_pretrained(options.checkpoint, device=options.device)
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        rates["recognize_batch"].append(_direct(recognizer, posts))
        for actors in (1, 2):
            rates[f"Ray, {actors} actors" if actors > 1 else "Ray, 1 actor"].append(_bulk(options, actors, posts))
        rates["recognize_batch"].append(_direct(recognizer, posts))
    ceiling = statistics.median(rates["recognize_batch"])
    print(f"{len(posts)} posts a file, {default_workers()} cores, load {os.getloadavg()[0]:.1f}")
    for way, found in rates.items():
        rate = statistics.median(found)
        shown = ", ".join(f"{one:.1f}" for one in found)
        print(f"{way}: {rate:.1f} posts/s ({shown}), {rate / ceiling:.2f} of recognize_batch")


def _direct(recognizer: Recognizer, posts: Sequence[Post]) -> float:
    """Posts per second of the call that needs nothing else; all cores are its own."""
    torch.set_num_threads(default_workers())
    start = time.perf_counter()
    for first in range(0, len(posts), _WINDOW):
        chosen = posts[first : first + _WINDOW]
        recognizer.recognize_batch([post.text for post in chosen], [post.image for post in chosen])
    return len(posts) / (time.perf_counter() - start)


def _bulk(options: argparse.Namespace, actors: int, posts: Sequence[Post]) -> float:
    """Posts per second while all actors are at work; each answers a file."""
    table = pyarrow.table({"text": [post.text for post in posts], "image": [post.image for post in posts]})
    with tempfile.TemporaryDirectory() as folder, cluster(LOCAL):
        for actor in range(actors):
            (Path(folder) / "posts").mkdir(exist_ok=True)
            parquet.write_table(table, Path(folder) / "posts" / f"{actor}.parquet")
        run = BulkRun(f"{folder}/posts", f"{folder}/answers", Share(), checkpoint=options.checkpoint)
        job = Job(
            inputs=run.addresses[0], outputs=run.addresses[1], checkpoint=options.checkpoint, device=options.device
        )
        engine = RayEngine(job, revision=run.revision, actors=actors)
        times: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for event in engine.run(run.left):
            if isinstance(event, Progress):
                times[event.part.source].append((time.perf_counter(), event.counts.posts))
    start, end = max(own[0][0] for own in times.values()), min(own[-1][0] for own in times.values())
    return sum(count for own in times.values() for at, count in own if start < at <= end) / (end - start)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=1024, help="posts a file, which is what an actor answers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpoint", help="folder or name (default: smner-compact)")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    main()
