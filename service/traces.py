"""OpenTelemetry's spans: FastAPI makes that of a request, and this adds those of the stages of its posts.

They are made from the measured times once a post is done. So nothing on a post's way knows of them, and without a
provider of spans they cost nothing. No attribute has anything of a post.
"""

import os
import threading
import time
from typing import TYPE_CHECKING

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode, TracerProvider

from service.inference.stage_times import StageTimes

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider

log = structlog.get_logger()

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_CLOSE_SECONDS = 2.0


class Traces:
    """Adds spans to those that FastAPI makes.

    Args:
        provider: of spans; the global one if not given, which makes none unless something has configured it.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("smner", tracer_provider=provider)

    def begin(self, request_id: str, *, has_query: bool) -> Span | None:
        """FastAPI's span of the current request, None if it is not recorded."""
        span = trace.get_current_span()
        if not span.is_recording():
            return None
        span.set_attribute("smner.request_id", request_id)
        if has_query:  # FastAPI records it, and it may have anything in it, even if the service refuses that
            span.set_attribute("url.query", "REDACTED")
        return span

    def add_stages(self, parent: Span, times: StageTimes) -> None:
        """Add a span for each stage, that of the model with the size of its batch."""
        self._add_stages(parent, times, _since_1970())

    def add_post(self, parent: Span, times: StageTimes, *, code: str | None) -> None:
        """Add a span for one post of a batch, with its stages; ``code`` is that of its problem, if it has one."""
        if not times.ends:  # it was refused or is late, and has reached none
            return
        offset = _since_1970()
        span = self._start("post", parent, min(times.ends[stage] - times[stage] for stage in times.ends), offset)
        if code is not None:
            span.set_attribute("error.type", code)
            span.set_status(StatusCode.ERROR)
        self._add_stages(span, times, offset)
        span.end(_nanoseconds(max(times.ends.values()), offset))

    def _add_stages(self, parent: Span, times: StageTimes, offset: int) -> None:
        for stage, ended in times.ends.items():
            span = self._start(stage, parent, ended - times[stage], offset)
            if stage == "model" and times.batch_size is not None:
                span.set_attribute("smner.batch_size", times.batch_size)
            span.end(_nanoseconds(ended, offset))

    def _start(self, name: str, parent: Span, started: float, offset: int) -> Span:
        return self._tracer.start_span(
            name, trace.set_span_in_context(parent), start_time=_nanoseconds(started, offset)
        )


def _since_1970() -> int:
    """Nanoseconds between the Unix epoch and the zero of :func:`time.monotonic_ns`; setting the clock changes them."""
    return time.time_ns() - time.monotonic_ns()


def _nanoseconds(moment: float, offset: int) -> int:
    return round(moment * 1e9) + offset


def provider_from_environment() -> "SDKTracerProvider | None":
    """What sends spans to the collector that OpenTelemetry's own variables name; None if they name none.

    Raises:
        ValueError: other variables of OpenTelemetry do not fit.
    """
    exporters = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"  # empty counts as not set
    if not any(map(os.environ.get, _ENDPOINTS)) or "otlp" not in exporters.split(","):
        return None
    try:  # not at the top: they are an extra, and only this needs them
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no traces are sent to the collector that is configured: they need the extra smner[traces]")
        return None
    resource = Resource.create({"service.name": "smner"}).merge(OTELResourceDetector().detect())
    provider = SDKTracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def close(provider: "SDKTracerProvider | None") -> None:
    """Send the last spans, but give up after some seconds: the SDK itself would wait for half a minute."""
    if provider is not None:
        thread = threading.Thread(target=provider.shutdown, daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS)
