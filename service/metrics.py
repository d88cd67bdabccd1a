"""Prometheus metrics. Labels are route templates, members of closed sets or names that the operator has given.

They never have a value from a request.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from model import Entity, Recognizer

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_POSTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The service's metrics and those of the process, in a registry of their own.

    Args:
        recognizer: supplies the checkpoint's identity, the device and the entity types.
        stages: every stage that may be counted.
        codes: every problem code that may be counted.
        deadline_seconds: of a request; the histograms end above it.
    """

    def __init__(
        self, recognizer: Recognizer, *, stages: Iterable[str], codes: Iterable[str], deadline_seconds: float
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series
        self.registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        beyond = (deadline_seconds, 1.5 * deadline_seconds)  # late answers, and those that are hung
        edges = sorted({*_SECONDS, *(edge for edge in beyond if edge > _SECONDS[-1])})
        seconds = partial(Histogram, buckets=edges, registry=registry)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.in_flight = gauge("smner_requests_in_flight", "Requests being answered.")
        self.queue_depth = gauge("smner_queue_depth", "Posts waiting for the model.")
        self.decode_depth = gauge("smner_decode_depth", "Posts waiting for a thread that decodes.")
        self.batch_size = Histogram(
            "smner_batch_size", "Posts in each batch that the network ran.", buckets=_POSTS, registry=registry
        )
        self.device_errors = counter(
            "smner_device_errors", "Batches that failed because the device ran out of memory, failed or was lost."
        )
        self.log_lines_dropped = counter(
            "smner_log_lines_dropped", "Log lines that nobody read, so that they were dropped."
        )
        self._requests = counter(
            "smner_requests", "Requests; status 499 means that the client disconnected.", ["route", "method", "status"]
        )
        self._request_seconds = seconds("smner_request_seconds", "Seconds from first byte to last.", ["route"])
        self._stage_seconds = seconds("smner_stage_seconds", "Seconds in each stage.", ["stage"])
        self._rejected = counter(
            "smner_rejected", "Requests and posts of batches answered with a problem, by code.", ["code"]
        )
        self._entities = counter("smner_entities", "Entities found, by type.", ["entity_group"])
        self._posts = counter("smner_posts", "Posts answered, by whether they had a photo.", ["image"])
        self._client_posts = counter(
            "smner_client_posts", "Posts that each client sent with its key, refused ones included.", ["client"]
        )
        self._clients: frozenset[str] = frozenset()
        self._image_cache_hits = counter("smner_image_cache_hits", "Photos whose features were cached.")
        self._image_cache_misses = counter("smner_image_cache_misses", "Photos that had to be decoded and encoded.")
        model_info = gauge("smner_model_info", "The checkpoint served; always 1.", ["name", "revision", "device"])
        model_info.labels(recognizer.name, recognizer.revision, str(recognizer.device)).set(1)
        if recognizer.device.type == "cuda":
            self._watch_gpu_memory(recognizer.device)
        # A rate over a series that appears late misses its first step, so every member of a closed set starts at zero.
        for metric, labels in (
            (self._stage_seconds, stages),
            (self._rejected, codes),
            (self._entities, recognizer.model.config.entity_types),
            (self._posts, ("used", "absent")),
        ):
            for label in labels:
                metric.labels(label)

    def _watch_gpu_memory(self, device: torch.device) -> None:
        for name, what, read in (
            ("allocated", "held by tensors", torch.cuda.memory_allocated),
            ("reserved", "reserved by torch", torch.cuda.memory_reserved),
        ):
            gauge = Gauge(f"smner_gpu_memory_{name}_bytes", f"GPU memory {what}, in bytes.", registry=self.registry)
            gauge.set_function(partial(read, device))

    def count_request(
        self, *, route: str, method: str, status: int, seconds: float, stages: Mapping[str, float], code: str | None
    ) -> None:
        """Count a finished request; ``code`` is that of the problem, if it counts as rejected."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)
        self.count_stages(stages)
        if code is not None:
            self.count_rejected(code)

    def count_stages(self, stages: Mapping[str, float]) -> None:
        """Count the seconds in each stage, of a request or of one post of a batch."""
        for stage, seconds in stages.items():
            self._stage_seconds.labels(stage).observe(seconds)

    def count_rejected(self, code: str) -> None:
        """Count a request, or one post of a batch, that was answered with a problem."""
        self._rejected.labels(code).inc()

    def name_clients(self, names: frozenset[str]) -> None:
        """Count the posts of these clients from now on, and forget others; any thread may call this."""
        gone, self._clients = self._clients - names, names
        for name in gone:
            self._client_posts.remove(name)
        for name in names:
            self._client_posts.labels(name)

    def count_client_posts(self, client: str, posts: int) -> None:
        """Count posts of a request with a client's key."""
        if client in self._clients:  # else it was removed meanwhile
            self._client_posts.labels(client).inc(posts)

    def count_image_lookup(self, hit: bool) -> None:
        """Count a lookup in the image cache."""
        (self._image_cache_hits if hit else self._image_cache_misses).inc()

    def count_post(self, entities: Sequence[Entity], *, image_used: bool) -> None:
        """Count a post that the model answered."""
        self._posts.labels("used" if image_used else "absent").inc()
        for entity_type, found in Tally(entity.entity_group for entity in entities).items():
            self._entities.labels(entity_type).inc(found)
