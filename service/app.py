"""Assembles the application from its settings and a loaded checkpoint."""

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from opentelemetry.trace import TracerProvider
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from model import Recognizer
from service.http import batch, health, page, request_bodies, routes
from service.http.auth import KeyFile
from service.http.dependencies import AppState
from service.http.exception_handlers import EXCEPTION_HANDLERS
from service.http.middleware import RequestMiddleware
from service.http.problems import KINDS, Problem, documented
from service.http.request_context import STAGES
from service.inference.batching import Budget
from service.inference.engine import Engine
from service.inference.image_cache import ImageCache
from service.inference.limiter import Limiter
from service.inference.pipeline import Pipeline
from service.inference.preprocessing import Preprocessor
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.settings import Settings
from service.traces import Traces

_PROBLEMS = "\n".join(f"| {kind.status} | `{code}` | {kind.title} |" for code, kind in KINDS.items())
_DESCRIPTION = f"""
Named entities in social-media posts, read from the text and the photo together.

Try it: open `POST /recognize` below, press **Try it out**, choose a photo if you like, and **Execute**.

Every error is a problem document (RFC 9457) with one of these codes. A path that is not listed below is answered with
404, a method that is not listed with 405.

| status | code | meaning |
| --- | --- | --- |
{_PROBLEMS}
"""


def create_app(settings: Settings, recognizer: Recognizer, tracer_provider: TracerProvider | None = None) -> FastAPI:
    """Make the ASGI application; ``app.state.service`` is its :class:`~service.http.dependencies.AppState`.

    Without a ``tracer_provider``, the global one makes the spans of requests, if something has configured it.

    Raises:
        OSError, ValueError: the API keys cannot be read.
    """
    metrics = Metrics(recognizer, stages=STAGES, codes=KINDS, deadline_seconds=settings.deadline_seconds)
    pipeline = build_pipeline(settings, recognizer, metrics)
    traces = Traces(tracer_provider)
    keys = None if settings.api_keys_file is None else KeyFile(settings.api_keys_file, metrics.name_clients)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        pipeline.start()
        try:
            with keys or nullcontext():
                yield
        finally:
            await asyncio.to_thread(pipeline.stop)  # waits for running batches, while the last answers are sent

    app = FastAPIOffline(  # FastAPI whose documentation page loads its scripts from here instead of a CDN
        title="SMNER",
        summary="Multimodal named entity recognition for social media",
        description=_DESCRIPTION,
        version=routes.package_version("smner"),
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers=EXCEPTION_HANDLERS,
        responses=documented("internal_error"),
        middleware=[_request_middleware(settings, metrics, traces)],
        telemetry={**_TRACES_ONLY, "tracer_provider": tracer_provider, "exclude": _takes_no_posts},
    )
    app.state.service = AppState(settings, metrics, traces, pipeline, keys, Lifecycle(pipeline.engine))
    app.include_router(routes.router, tags=["recognition"])
    app.include_router(batch.router, tags=["recognition"])
    app.include_router(health.router, tags=["operation"])
    if settings.metrics_port is None:
        app.include_router(health.metrics_router, tags=["operation"])
    if settings.page == "on":
        app.include_router(page.page_router())
    _complete_openapi(app, max_posts=settings.max_request_posts, needs_key=keys is not None)
    return app


def create_metrics_app(state: AppState) -> FastAPI:
    """Make the application of the port for metrics: these and the health checks, of the same service."""
    app = FastAPI(
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[_request_middleware(state.settings, state.metrics, state.traces)],
        telemetry={**_TRACES_ONLY, "tracing": False},
    )
    app.state.service = state
    app.include_router(health.router)
    app.include_router(health.metrics_router)
    return app


def build_pipeline(settings: Settings, recognizer: Recognizer, metrics: Metrics) -> Pipeline:
    """Build the stages of inference with the limits of ``settings``."""
    on_cpu = recognizer.device.type == "cpu"
    # a CPU pays for each sub-token of padding; on a GPU one more batch costs more than a longer one
    padding = 0.2 if on_cpu and settings.max_batch_padding is None else settings.max_batch_padding
    cache = ImageCache(settings.image_cache_mb * 2**20, on_lookup=metrics.count_image_lookup)
    engine = Engine(
        recognizer,
        budget=Budget(settings.max_batch_tokens, settings.max_batch_images, padding),
        cache=cache,
        torch_threads=settings.model_threads,
        concurrent_batches=concurrent_batches(settings.model_threads, on_cpu=on_cpu),
        on_batch=metrics.batch_size.observe,
        on_device_error=metrics.device_errors.inc,
    )
    preprocessor = Preprocessor(
        recognizer, workers=settings.decode_workers, cache=cache, max_pixels=settings.max_image_pixels
    )
    metrics.queue_depth.set_function(lambda: engine.depth)
    metrics.decode_depth.set_function(lambda: preprocessor.depth)
    limiter = Limiter(settings.max_pending_posts, settings.max_pending_bytes)
    return Pipeline(recognizer, limiter, preprocessor, engine, metrics)


def concurrent_batches(model_threads: int, *, on_cpu: bool) -> int:
    """How many batches run at once: on a CPU, threads that wait for each other in one have work in another."""
    return 2 if on_cpu and model_threads > 1 else 1


# FastAPI's metrics would repeat ours, its logs have the messages of exceptions, and its exporter may delay the end.
_TRACES_ONLY: TelemetryConfig = {"metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}


def _takes_no_posts(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request is not traced. Its path would be in the span, so only known ones are."""
    return scope["method"] != "POST" or scope["path"] not in (routes.PATH, batch.PATH)


def _request_middleware(settings: Settings, metrics: Metrics, traces: Traces) -> Middleware:
    return Middleware(
        RequestMiddleware,
        metrics=metrics,
        traces=traces,
        deadline_seconds=settings.deadline_seconds,
        max_body_bytes=max(settings.max_body_bytes, settings.max_batch_body_bytes),
        cors=_cors(settings.allowed_origins),
    )


def _cors(origins: Sequence[str]) -> Callable[[ASGIApp], ASGIApp]:
    """Lets pages of these origins call an application from a browser."""
    if not origins:
        return lambda app: app
    return partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("Authorization", "Content-Type", "X-Request-ID"),
        expose_headers=("X-Request-ID", "Server-Timing", "Retry-After"),
    )


def _complete_openapi(app: FastAPI, *, max_posts: int, needs_key: bool) -> None:
    """Add what no route says: the schema of problems, and limits. Remove the API key if none is needed."""
    document = app.openapi()  # FastAPI makes it once and keeps it
    of_batch = document["paths"][batch.PATH]["post"]
    of_batch["requestBody"] = request_bodies.batch(max_posts)
    del of_batch["responses"]["422"]  # FastAPI's, which is answered with 400 here
    for unused in ("HTTPValidationError", "ValidationError"):
        del document["components"]["schemas"][unused]
    document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    if not needs_key:
        del document["components"]["securitySchemes"]
        for operations in document["paths"].values():
            for operation in operations.values():
                operation.pop("security", None)
