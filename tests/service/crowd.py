"""Many clients and a probe on one event loop, and the answers they got."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.benchmarks.serving.posts import Post
from tests.benchmarks.serving.wire import Connection, Reply, Request, get

_stamps = itertools.count(2**32)  # makes every image unique, so that none is cached


class Answer(NamedTuple):
    """The parts of a reply that are the same for every reply to a post."""

    outcome: str
    entities: list[tuple[str, int, int]]
    scores: list[float]

    @classmethod
    def of(cls, reply: Reply) -> "Answer":
        found = json.loads(reply.body).get("entities", [])
        places = [(entity["entity_group"], entity["start"], entity["end"]) for entity in found]
        return cls(reply.outcome, places, [entity["score"] for entity in found])

    def same_as(self, other: "Answer") -> bool:
        """Whether they agree; scores differ slightly between batches, whose sums round differently."""
        return self[:2] == other[:2] and all(
            abs(one - another) < 1e-4 for one, another in zip(self.scores, other.scores, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """Each post with its answer, None if the connection failed, and the seconds of each probe."""

    answers: list[tuple[Post, Answer | None]] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)

    @property
    def outcomes(self) -> Counter[str]:
        return Counter("none" if answer is None else answer.outcome for _, answer in self.answers)


def ask(port: int, posts: Iterable[Post], *, clients: int, stamps: Iterator[int] = _stamps) -> Seen:
    """Send ``posts`` with this many clients, each of which sends the next as soon as it has an answer."""
    return asyncio.run(_Crowd(port, iter(posts), stamps).ask(clients))


def raw(post: Post) -> bytes:
    """The bytes of a request, for tests that do not simply send it."""
    return b"".join(Request.of(post).stamped(next(_stamps)))


class _Crowd:
    def __init__(self, port: int, posts: Iterator[Post], stamps: Iterator[int]) -> None:
        self._port = port
        self._posts = posts
        self._stamps = stamps
        self._seen = Seen()

    async def ask(self, clients: int) -> Seen:
        probe = asyncio.create_task(self._probe())
        await asyncio.gather(*(self._client() for _ in range(clients)))
        probe.cancel()
        (end,) = await asyncio.gather(probe, return_exceptions=True)
        if isinstance(end, AssertionError):
            raise end
        await asyncio.sleep(0)  # closed connections are freed in the loop's next iteration
        return self._seen

    async def _client(self) -> None:
        connection = Connection(self._port)
        for post in self._posts:
            try:
                answer = Answer.of(await connection.ask(Request.of(post).stamped(next(self._stamps))))
            except (OSError, EOFError):
                answer = None
            self._seen.answers.append((post, answer))
        connection.close()

    async def _probe(self) -> None:
        connection = Connection(self._port)
        try:
            while True:
                sent = time.perf_counter()
                assert (await connection.ask(get("/health/live"))).status == 200
                self._seen.probes.append(time.perf_counter() - sent)
                await asyncio.sleep(0.02)
        finally:
            connection.close()
