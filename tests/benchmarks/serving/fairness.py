"""How long a client with one post waits beside clients with batches: ``python -m tests.benchmarks.serving.fairness``.

The same posts are sent in batches of 32 and by 32 clients with a single post each, so that the ratio shows what
batches cost the others.
"""

import argparse
import asyncio
import base64
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import count, cycle
from typing import NamedTuple

from model.checkpoint import checkpoint_folder
from tests.benchmarks.serving.posts import Post, load_posts
from tests.benchmarks.serving.report import percentile
from tests.benchmarks.serving.systems import running, smner
from tests.benchmarks.serving.wire import Connection, Request

_BATCH = 32
_stamps = count(2**40)  # makes every photo new


class Waits(NamedTuple):
    """The seconds of each lone post, and the other clients' posts a second."""

    seconds: list[float]
    rate: float

    def text(self, name: str) -> str:
        median, late = (1000 * percentile(self.seconds, percent) for percent in (50, 99))
        return f"| {name} | {len(self.seconds)} | {median:.0f} | {late:.0f} | {self.rate:.1f} |"


def batch_request(posts: list[Post]) -> tuple[bytes, ...]:
    """``POST /recognize/batch`` with new photos."""
    items = [
        {"text": post.text, "image": base64.b64encode(post.image + next(_stamps).to_bytes(8)).decode()}
        for post in posts
    ]
    body = json.dumps({"posts": items}).encode()
    head = (
        "POST /recognize/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode(), body


async def _ask_lone(connection: Connection, posts: Iterator[Post]) -> int:
    reply = await connection.ask(Request.of(next(posts)).stamped(next(_stamps)))
    return int(reply.status == 200)


async def _ask_batch(connection: Connection, posts: Iterator[Post]) -> int:
    reply = await connection.ask(batch_request([next(posts) for _ in range(_BATCH)]))
    results = json.loads(reply.body).get("results", [])
    return sum("entities" in result for result in results)


Ask = Callable[[Connection, Iterator[Post]], Awaitable[int]]


async def measure(port: int, posts: list[Post], *, others: int, ask: Ask, seconds: float) -> Waits:
    """Ask with one post after the other while ``others`` clients keep asking."""
    source, answered, waits = cycle(posts), 0, []

    async def load() -> None:
        nonlocal answered
        connection = Connection(port)
        while True:
            newly = await ask(connection, source)  # apart, since += would read the sum before it waits
            answered += newly

    tasks = [asyncio.create_task(load()) for _ in range(others)]
    connection = Connection(port)
    await asyncio.sleep(2 if others else 0)  # until the queue is full
    started, before = time.perf_counter(), answered
    while time.perf_counter() - started < seconds:
        sent = time.perf_counter()
        if await _ask_lone(connection, source):
            waits.append(time.perf_counter() - sent)
    rate = (answered - before) / (time.perf_counter() - started)
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)
    return Waits(waits, rate)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.serving.fairness", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=lambda name: checkpoint_folder(name).resolve(), default=checkpoint_folder()
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each row is measured (%(default)s)")
    parser.add_argument("--posts", type=int, default=200, help="distinct posts (%(default)s)")
    options = parser.parse_args()
    posts = load_posts(options.posts).posts
    print("| beside the lone client | posts | p50 ms | p99 ms | the others' posts/s |\n| --- | --- | --- | --- | --- |")
    with running(smner(options.checkpoint.resolve(), "cpu", cache_mb=0)) as (port, _):
        for name, others, ask in (
            ("nobody", 0, _ask_lone),
            ("1 client with batches of 32", 1, _ask_batch),
            ("4 clients with batches of 32", 4, _ask_batch),
            ("32 clients with a post each", _BATCH, _ask_lone),
        ):
            waits = asyncio.run(measure(port, posts, others=others, ask=ask, seconds=options.seconds))
            print(waits.text(name), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
