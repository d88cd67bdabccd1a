"""The application, put together from its settings and a loaded checkpoint."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware import Middleware

from model import Recognizer
from service.http import health, routes
from service.http.middleware import RequestMiddleware
from service.http.problems import Problem, install_handlers
from service.inference.pipeline import Service
from service.settings import Settings

_DESCRIPTION = """
Named entities in social-media posts, read from the text and the photo together.

Try it: open `POST /recognize` below, press **Try it out**, choose a photo if you like, and **Execute**.
"""


def create_app(settings: Settings, recognizer: Recognizer) -> FastAPI:
    """Make the ASGI application; its :class:`~service.inference.pipeline.Service` is ``app.state.service``."""
    service = Service(settings, recognizer)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.stop)  # it waits for the running batch; the last answers go out meanwhile

    app = FastAPIOffline(  # FastAPI with the documentation page's scripts on board instead of on a CDN
        title="SMNER",
        summary="Multimodal named entity recognition for social media",
        description=_DESCRIPTION,
        version=routes.package_version("smner"),
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[
            Middleware(
                RequestMiddleware,
                metrics=service.metrics,
                deadline_seconds=settings.deadline_seconds,
                max_body_bytes=settings.max_body_bytes,
            )
        ],
    )
    app.state.service = service
    app.include_router(routes.router, tags=["recognition"])
    app.include_router(health.router, tags=["operation"])
    install_handlers(app)
    _describe_problems(app)
    if service.keys is None:
        _ask_for_no_key(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    """Add the schema of problem documents to the OpenAPI document; no route returns them, exceptions do."""
    document = app.openapi()  # made once and kept by FastAPI
    document["components"]["schemas"]["Problem"] = Problem.model_json_schema()


def _ask_for_no_key(app: FastAPI) -> None:
    """Take the API key out of the OpenAPI document, where its route has put it."""
    document = app.openapi()
    del document["components"]["securitySchemes"]
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
