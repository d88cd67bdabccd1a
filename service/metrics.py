"""What Prometheus sees. Labels are route templates or members of closed sets, never a value from a request."""

from collections import Counter as Tally
from collections.abc import Callable, Sequence
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
from service.http.problems import KINDS
from service.http.request_context import STAGES, RequestContext

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "none"  # the route label of a path that there is not
PROBES = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_POSTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The service's metrics in a registry of their own, with those of the process.

    Args:
        recognizer: whose checkpoint, device and entity types are named.
        queue_depth: tells how many posts wait for the model now.
    """

    def __init__(self, recognizer: Recognizer, *, queue_depth: Callable[[], int]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.in_flight = Gauge("smner_requests_in_flight", "Requests being answered.", registry=registry)
        self.batch_size = Histogram(
            "smner_batch_size", "Posts that ran through the network together.", buckets=_POSTS, registry=registry
        )
        self._requests = Counter(
            "smner_requests",
            "Requests; status 499 is a client that left.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "smner_request_seconds", "First byte to last, in seconds.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._stage_seconds = Histogram(
            "smner_stage_seconds", "Time in one stage, in seconds.", ["stage"], buckets=_SECONDS, registry=registry
        )
        self._rejected = Counter("smner_rejected", "Problems answered, by code.", ["code"], registry=registry)
        self._entities = Counter("smner_entities", "Entities found, by type.", ["entity_group"], registry=registry)
        self._posts = Counter(
            "smner_posts", "Posts answered, by what became of the photo.", ["image"], registry=registry
        )
        self._image_cache_hits = Counter(
            "smner_image_cache_hits", "Photos whose features were still known.", registry=registry
        )
        self._image_cache_misses = Counter(
            "smner_image_cache_misses", "Photos that had to be decoded and encoded.", registry=registry
        )
        self._device_errors = Counter(
            "smner_device_errors",
            "Batches that failed because the device had no memory left or was lost.",
            registry=registry,
        )
        if recognizer.device.type == "cuda":
            self._watch_gpu_memory(recognizer.device)
        Gauge("smner_queue_depth", "Posts waiting for the model.", registry=registry).set_function(queue_depth)
        Gauge(
            "smner_model_info", "The checkpoint served; always 1.", ["name", "revision", "device"], registry=registry
        ).labels(recognizer.name, recognizer.revision, str(recognizer.device)).set(1)
        self._start_from_zero(recognizer.model.config.entity_types)

    def _watch_gpu_memory(self, device: torch.device) -> None:
        for name, what, read in (
            ("allocated", "held by tensors", torch.cuda.memory_allocated),
            ("reserved", "taken from the GPU by torch", torch.cuda.memory_reserved),
        ):
            gauge = Gauge(f"smner_gpu_memory_{name}_bytes", f"GPU memory {what}, in bytes.", registry=self.registry)
            gauge.set_function(partial(read, device))

    def _start_from_zero(self, entity_types: Sequence[str]) -> None:
        """Show all members of the closed sets at once: a rate over a series that appears late misses its first step."""
        for stage in STAGES:
            self._stage_seconds.labels(stage)
        for code in KINDS:
            self._rejected.labels(code)
        for entity_type in entity_types:
            self._entities.labels(entity_type)
        for image in ("used", "absent"):
            self._posts.labels(image)

    def count_request(self, context: RequestContext, *, route: str, method: str, status: int, seconds: float) -> None:
        """Account for a request that is over."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)
        for stage, seconds in context.stages.items():
            self._stage_seconds.labels(stage).observe(seconds)
        if context.code is not None and route not in PROBES:  # a probe's 503 refuses nobody
            self._rejected.labels(context.code).inc()

    def count_device_error(self) -> None:
        """Account for a batch that failed on the device."""
        self._device_errors.inc()

    def count_image_lookup(self, *, hit: bool) -> None:
        """Account for a photo that was looked for in the cache."""
        (self._image_cache_hits if hit else self._image_cache_misses).inc()

    def count_post(self, entities: Sequence[Entity], *, image_used: bool) -> None:
        """Account for a post that was read."""
        self._posts.labels("used" if image_used else "absent").inc()
        for entity_type, found in Tally(entity.entity_group for entity in entities).items():
            self._entities.labels(entity_type).inc(found)
