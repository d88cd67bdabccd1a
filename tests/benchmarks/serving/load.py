"""The load generator, a separate process: closed loops of clients, or arrivals at a fixed rate."""

import asyncio
import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import NamedTuple

from tests.benchmarks.serving.posts import Post
from tests.benchmarks.serving.wire import Connection, Reply, Request, batch, get

_LIMIT_SECONDS = 1800.0  # for one load; each request also has its own timeout
_WARM_UP_SECONDS = 1.0  # at least
_PROBE_SECONDS = 0.1  # between probes
_REMEMBERED = 500  # images that a repeat is chosen from


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send to a server.

    Attributes:
        clients: each sends one post after the other on its own connection, and obeys Retry-After.
        rate: arrivals per second instead of ``clients``, whether or not earlier ones are answered; the live probe is
            measured meanwhile.
        seconds: how long to measure at least, after a warm-up in which every client is answered once.
        posts: indices to send once each, without a warm-up, instead of cycling through all posts for ``seconds``.
        repeats: share of images that were sent before.
        texts: how many posts a request has, as texts alone for ``/recognize/batch``; 0 for one post with its image.
        keep_answers: whether the result includes the bodies of the answers.
    """

    port: int
    clients: int = 1
    rate: float = 0.0
    seconds: float = 0.0
    posts: Sequence[int] | None = None
    repeats: float = 0.0
    texts: int = 0
    keep_answers: bool = False


class Exchange(NamedTuple):
    """One request: index of the post, outcome, when it was sent, how long it took, and the answer if it is kept."""

    post: int
    outcome: str
    sent: float
    seconds: float
    body: bytes


@dataclass(slots=True)
class Result:
    """What a load measured.

    Attributes:
        exchanges: requests that ended while measuring.
        seconds: how long the measurement lasted.
        outcomes: how often each occurred, including the warm-up.
        probes: seconds of each live probe.
        lateness: seconds by which each arrival was late.
        processor_share: of one core, used by the load generator.
        posts: of each request.
    """

    exchanges: list[Exchange] = field(default_factory=list)
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    probes: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    processor_share: float = 0.0
    posts: int = 1

    @property
    def answered(self) -> list[float]:
        """Seconds to each answer."""
        return [exchange.seconds for exchange in self.exchanges if exchange.outcome == "200"]

    @property
    def refused(self) -> list[float]:
        """Seconds to each refusal."""
        return [exchange.seconds for exchange in self.exchanges if exchange.outcome == "503 overloaded"]

    @property
    def rate(self) -> float:
        """Posts answered per second."""
        return self.posts * len(self.answered) / self.seconds if self.answered else 0.0


class LoadGenerator(ProcessPoolExecutor):
    """The process that sends loads; ``with`` ends it."""

    def __init__(self, posts: Sequence[Post]) -> None:
        super().__init__(1, get_context("spawn"), _prepare, (posts,))

    def offer(self, load: Load) -> Result:
        """Send a load and wait until it ends."""
        return self.submit(_offer, load).result(_LIMIT_SECONDS)


_posts: Sequence[Post] = []
_requests: list[Request] = []
_stamps = itertools.count()


def _prepare(posts: Sequence[Post]) -> None:
    global _posts
    _posts = posts
    _requests[:] = map(Request.of, posts)


def _offer(load: Load) -> Result:
    return asyncio.run(_Offer(load).run())


class _Offer:
    """A load that is being sent."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._sequence = _sequence(load)
        self._idle: list[Connection] = []
        self._exchanges: list[Exchange] = []
        self._unwarmed = load.clients
        self._warm = asyncio.Event()
        self._turn = asyncio.Event()  # set when each client has had one more reply, on average
        self._over = False
        self._result = Result(posts=max(load.texts, 1))

    async def run(self) -> Result:
        if self._load.rate:
            await self._open_loop()
        elif self._load.posts is None:
            await self._closed_loop()
        else:
            await self._once()
        for connection in self._idle:
            connection.close()
        return self._result

    async def _once(self) -> None:
        with self._measured():
            async with asyncio.TaskGroup() as group:
                self._start_clients(group)

    async def _closed_loop(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._start_clients(group)
            await asyncio.gather(asyncio.sleep(_WARM_UP_SECONDS), self._warm.wait())
            with self._measured():
                due = time.perf_counter() + self._load.seconds
                while time.perf_counter() < due:  # whole turns, as a server may answer all clients in one batch
                    self._turn.clear()
                    await self._turn.wait()
            self._over = True

    async def _open_loop(self) -> None:
        warm_up = int(self._load.rate * _WARM_UP_SECONDS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._probe())
            start = time.perf_counter()
            await self._arrive(group, start, range(warm_up))
            with self._measured():
                await self._arrive(group, start, range(warm_up, warm_up + int(self._load.rate * self._load.seconds)))
            self._over = True

    def _start_clients(self, group: asyncio.TaskGroup) -> None:
        for _ in range(self._load.clients):
            group.create_task(self._client())

    async def _client(self) -> None:
        connection = Connection(self._load.port)
        for number, (post, stamp) in enumerate(self._sequence):
            reply = await self._ask(connection, post, stamp)
            if number == 0:
                self._unwarmed -= 1
                if self._unwarmed == 0:
                    self._warm.set()
            if self._over:
                break
            if reply is None or reply.status == 503:
                await asyncio.sleep(1.0 if reply is None else float(reply.headers.get("retry-after", 1)))
        connection.close()

    async def _arrive(self, group: asyncio.TaskGroup, start: float, numbers: range) -> None:
        for number in numbers:
            due = start + number / self._load.rate
            await asyncio.sleep(due - time.perf_counter())
            self._result.lateness.append(time.perf_counter() - due)
            group.create_task(self._arrival(*next(self._sequence)))

    async def _arrival(self, post: int, stamp: int) -> None:
        connection = self._idle.pop() if self._idle else Connection(self._load.port)
        await self._ask(connection, post, stamp)
        self._idle.append(connection)

    async def _probe(self) -> None:
        connection = Connection(self._load.port)
        while not self._over:
            sent = time.perf_counter()
            try:
                outcome = (await connection.ask(get("/health/live"))).outcome
            except (OSError, EOFError) as error:
                outcome = type(error).__name__
            self._result.probes.append(time.perf_counter() - sent)
            self._result.outcomes[f"probe {outcome}"] += 1
            await asyncio.sleep(_PROBE_SECONDS)
        connection.close()

    async def _ask(self, connection: Connection, post: int, stamp: int) -> Reply | None:
        sent = time.perf_counter()
        reply: Reply | None = None
        try:
            reply = await connection.ask(self._request(post, stamp))
            outcome = reply.outcome
            if self._load.texts and b'"error"' in reply.body:
                outcome = f"{outcome} with errors"
        except (OSError, EOFError) as error:
            outcome = type(error).__name__
        body = reply.body if reply is not None and self._load.keep_answers else b""
        self._exchanges.append(Exchange(post, outcome, sent, time.perf_counter() - sent, body))
        self._result.outcomes[outcome] += 1
        if len(self._exchanges) % self._load.clients == 0:
            self._turn.set()
        return reply

    def _request(self, post: int, stamp: int) -> tuple[bytes, ...]:
        if not self._load.texts:
            return _requests[post].stamped(stamp)
        chosen = range(post * self._load.texts, (post + 1) * self._load.texts)
        return batch([_posts[number % len(_posts)].text for number in chosen])

    @contextmanager
    def _measured(self) -> Iterator[None]:
        """Measure the requests that end within, from the last answer before it to the last one in it.

        Answers come in batches, so a clock that stopped between two would count a batch too many or too few.
        """
        first, begun, processor = len(self._exchanges), time.perf_counter(), time.process_time()
        yield
        ended = time.perf_counter()
        self._result.processor_share = (time.process_time() - processor) / (ended - begun)
        self._result.exchanges = self._exchanges[first:]
        self._result.seconds = _last_answer(self._exchanges, ended) - _last_answer(self._exchanges[:first], begun)


def _last_answer(exchanges: Sequence[Exchange], otherwise: float) -> float:
    ends = (exchange.sent + exchange.seconds for exchange in reversed(exchanges) if exchange.outcome == "200")
    return next(ends, otherwise)


def _sequence(load: Load) -> Iterator[tuple[int, int]]:
    """Posts and the stamps of their images, new ones except for the repeats."""
    if load.posts is not None:
        yield from ((post, next(_stamps)) for post in load.posts)
        return
    rng = random.Random(0)
    sent: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
    for post in itertools.cycle(range(len(_requests))):
        sent.append((post, next(_stamps)))
        yield sent[-1]
        while rng.random() < load.repeats:
            yield rng.choice(sent)
