"""Parts answered by actors on a Ray cluster: one for each GPU, or for a few cores. Only this file knows Ray."""

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from model.bulk.plan import Part
from model.bulk.worker import Event, Finished, Idle, Job, Restarted, Worker
from model.errors import InvalidCheckpoint, SMNERError
from model.recognizer import Recognizer

LOCAL = "local"
_CORES = 4  # of an actor without a GPU
_MAX_DEATHS = 3
_POLL_SECONDS = 1.0


class _Actor:
    """A worker in a process of its own."""

    def __init__(self, job: Job, threads: int) -> None:
        self._job, self._threads = job, threads

    def start(self) -> str:
        """Load the checkpoint; returns its revision."""
        torch.set_num_threads(self._threads)
        job = self._job
        recognizer = Recognizer.from_pretrained(job.checkpoint, device=job.device, precision=job.precision)
        self._worker = Worker(recognizer, job, threads=self._threads)
        return recognizer.revision

    def work(self, part: Part) -> Iterator[Event]:
        yield from self._worker.work(part)


class RayEngine:
    """Shares parts out to actors, one at a time each, and replaces actors that die.

    Args:
        revision: of the checkpoint that every actor must have.
        actors: how many; None is one for each GPU, or for each four cores if there are no GPUs.
    """

    def __init__(self, job: Job, *, revision: str, actors: int | None) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._count = actors or default_actors(nodes)
        self._options = actor_resources(nodes, self._count)
        self._job, self._revision = job, revision
        self._starting: dict[Any, Any] = {}  # what ray.wait takes → actor
        self._busy: dict[Any, tuple[Any, Part]] = {}
        self._waiting: deque[Part] = deque()
        self._deaths: Counter[Part] = Counter()
        self._failed_starts = 0

    def run(self, parts: Sequence[Part]) -> Iterator[Event]:
        """Answer all parts, in any order.

        Raises:
            SMNERError, OSError, ValueError, RuntimeError: the first error of an actor that is not that of a file.
        """
        self._waiting.extend(parts)
        for _ in range(min(self._count, len(parts))):
            self._start()
        try:
            while self._waiting or self._busy:
                ready, _ = ray.wait([*self._starting, *self._busy], timeout=_POLL_SECONDS)
                if not ready:
                    yield Idle()
                for found in ready:
                    yield from self._take(found)
        except RayTaskError as error:
            raise _cause(error) from error
        finally:
            for actor in (*self._starting.values(), *(actor for actor, _ in self._busy.values())):
                ray.kill(actor)

    def _start(self) -> None:
        threads = int(self._options["num_cpus"])
        actor = ray.remote(_Actor).options(**self._options).remote(self._job, threads)
        self._starting[actor.start.remote()] = actor

    def _take(self, found: Any) -> Iterator[Event]:
        if found in self._starting:
            self._started(found)
        else:
            yield from self._advance(found)

    def _started(self, found: Any) -> None:
        actor = self._starting.pop(found)
        try:
            revision = ray.get(found)
        except RayTaskError:
            raise
        except RayError as error:
            self._failed_starts += 1
            if self._failed_starts > _MAX_DEATHS * self._count:
                raise RuntimeError(f"actors die while they start: {_first_line(error)}") from error
            self._start()
            return
        if revision != self._revision:
            raise InvalidCheckpoint(f"a node has checkpoint {revision}, this one {self._revision}")
        self._failed_starts = 0
        self._assign(actor)

    def _assign(self, actor: Any) -> None:
        if self._waiting:
            part = self._waiting.popleft()
            self._busy[actor.work.options(num_returns="streaming").remote(part)] = actor, part
        else:
            ray.kill(actor)

    def _advance(self, found: Any) -> Iterator[Event]:
        actor, part = self._busy[found]
        try:
            yield ray.get(next(found))
        except StopIteration:
            del self._busy[found]
            self._assign(actor)
        except RayError as error:
            if isinstance(error, RayTaskError) and isinstance(error.cause, SMNERError | OSError):
                raise  # any other actor would meet the same; but not a broken GPU, or a bug that this file has found
            del self._busy[found]
            ray.kill(actor)
            yield self._bury(part, error)
            if self._waiting:
                self._start()

    def _bury(self, part: Part, error: RayError) -> Event:
        self._deaths[part] += 1
        if self._deaths[part] == _MAX_DEATHS:
            return Finished(
                part, f"{part.source} was given up: {_MAX_DEATHS} actors died of it; {_first_line(_cause(error))}"
            )
        self._waiting.append(part)
        return Restarted(part)


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Connect to a Ray cluster: ``local`` starts one on this machine, ``auto`` finds one, others are HOST:PORT.

    Raises:
        ValueError, ConnectionError: there is none.
    """
    if address.startswith("ray://"):
        raise ValueError(f"--ray {address}: run this command on the cluster instead, for example with ray job submit")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's default from its next release on
    options = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (RayError, RuntimeError, ConnectionError, ValueError) as error:
        raise ConnectionError(f"--ray {address}: {_first_line(error)}") from error
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
        ):  # to which Ray prints pages for each death
            yield
    finally:
        ray.shutdown()


def default_actors(nodes: Sequence[Mapping[str, float]]) -> int:
    """One for each GPU, or for each four cores; at least one for each node that has cores."""
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    return gpus or sum(max(1, int(node["CPU"]) // _CORES) for node in nodes if node.get("CPU", 0) >= 1) or 1


def actor_resources(nodes: Sequence[Mapping[str, float]], actors: int) -> dict[str, float]:
    """What each of ``actors`` gets, as Ray's options: its share of the cores, and of a GPU if there are any."""
    gpus = sum(node.get("GPU", 0) for node in nodes)
    if not gpus:
        cores = [node.get("CPU", 0) for node in nodes]
        return {"num_cpus": max(1, int(min(sum(cores) // actors, max(cores, default=1))))}
    on_each = -(-actors // int(gpus))
    cores = [node.get("CPU", 0) // (node["GPU"] * on_each) for node in nodes if node.get("GPU", 0)]
    return {"num_cpus": max(1, int(min(cores))), "num_gpus": 1 / on_each}


def _cause(error: Exception) -> Exception:
    """What an actor raised, without the trace of its process, if that is why there is an error."""
    cause = getattr(error, "cause", None)
    if not isinstance(cause, Exception):
        return error
    return cause if isinstance(cause, SMNERError | OSError | ValueError) else RuntimeError(_first_line(cause))


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
