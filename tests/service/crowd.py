"""Many clients at once, and a probe beside them, on one event loop, and what they got."""

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

_stamps = itertools.count(2**32)  # no photo is sent twice, so none is answered from the cache


class Answer(NamedTuple):
    """What a reply says, without what differs between two replies to the same post."""

    outcome: str
    entities: list[tuple[str, int, int]]
    scores: list[float]

    @classmethod
    def of(cls, reply: Reply) -> "Answer":
        found = json.loads(reply.body).get("entities", [])
        places = [(entity["entity_group"], entity["start"], entity["end"]) for entity in found]
        return cls(reply.outcome, places, [entity["score"] for entity in found])

    def same_as(self, other: "Answer") -> bool:
        """Whether they agree; in another batch the sums are rounded otherwise, so scores may differ a little."""
        return self[:2] == other[:2] and all(
            abs(one - another) < 1e-4 for one, another in zip(self.scores, other.scores, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """Each post with its answer, None where the connection failed; and how long each probe took, in seconds."""

    answers: list[tuple[Post, Answer | None]] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)

    @property
    def outcomes(self) -> Counter[str]:
        return Counter("none" if answer is None else answer.outcome for _, answer in self.answers)


def ask(port: int, posts: Iterable[Post], *, clients: int, stamps: Iterator[int] = _stamps) -> Seen:
    """Send ``posts``, ``clients`` at a time, each as soon as one of them has its answer."""
    return asyncio.run(_Crowd(port, iter(posts), stamps).ask(clients))


def raw(post: Post) -> bytes:
    """A request, for those who do something else with it than to send it."""
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
        await asyncio.sleep(0)  # a closed connection is gone only in the loop's next turn
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
