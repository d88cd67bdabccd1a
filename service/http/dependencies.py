"""What routes ask for in their signatures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Receive

from service.errors import ClientDisconnected, MalformedRequest, NotReady, Unauthorized
from service.http.auth import KeyFile
from service.http.bodies.body import QUOTED, Body, announced_length
from service.http.bodies.json_posts import Item, read_batch
from service.http.bodies.post_content import PostContent
from service.http.bodies.reading import read_post
from service.http.request_context import RequestContext
from service.inference.limiter import Permit
from service.inference.pipeline import Pipeline
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.settings import Settings
from service.traces import Traces

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AppState:
    """What all requests share; ``keys`` is None where no key is needed."""

    settings: Settings
    metrics: Metrics
    traces: Traces
    pipeline: Pipeline
    keys: KeyFile | None
    lifecycle: Lifecycle


async def get_state(request: Request) -> AppState:
    state: AppState = request.app.state.service
    return state


async def get_context(request: Request) -> RequestContext:
    context: RequestContext = request.state.context
    return context


StateDep = Annotated[AppState, Depends(get_state)]
ContextDep = Annotated[RequestContext, Depends(get_context)]

_bearer = HTTPBearer(auto_error=False, description="an API key, where the service asks for one")


async def require_key(
    state: StateDep, context: ContextDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    if state.keys is None:
        return
    context.client = None if given is None else state.keys.client(given.credentials)
    if context.client is None:
        raise Unauthorized(key_given=given is not None)


KEY_REQUIRED = Depends(require_key)


async def check_query(request: Request) -> None:
    """Refuse a query parameter that is misspelt or repeated, instead of ignoring it."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in QUERY:
            raise MalformedRequest(f"the query has a parameter {name[:QUOTED]!r}; allowed is {', '.join(QUERY)}")
        if names.count(name) > 1:
            raise MalformedRequest(f"the query has the parameter {name} more than once")


QUERY = ("explain",)  # the parameters of both paths that take posts
QUERY_CHECKED = Depends(check_query)
ExplainDep = Annotated[
    bool, Query(description="add the scores of all types, and where in the photo each entity looked")
]


@contextmanager
def _admitted(request: Request, state: AppState, *, largest: int) -> Iterator[Permit]:
    if (reason := state.lifecycle.refusal_reason) is not None:
        raise NotReady(reason)
    announced = announced_length(request.headers)
    with state.pipeline.limiter.acquire(largest if announced is None else min(announced, largest)) as permit:
        yield permit


async def acquire_permit(request: Request, state: StateDep) -> AsyncIterator[Permit]:
    """Admit the post before its body is read; the permit is held until the answer is sent."""
    with _admitted(request, state, largest=state.settings.max_body_bytes) as permit:
        yield permit


async def acquire_batch_permit(request: Request, state: StateDep) -> AsyncIterator[Permit]:
    """Admit the batch before its body is read; each of its posts gets a permit of its own later."""
    with _admitted(request, state, largest=state.settings.max_batch_body_bytes) as permit:
        yield permit


PermitDep = Annotated[Permit, Depends(acquire_permit)]
BatchPermitDep = Annotated[Permit, Depends(acquire_batch_permit)]


async def receive_post(request: Request, state: StateDep, context: ContextDep, permit: PermitDep) -> PostContent:
    body = Body(request.headers, request.receive, state.settings.max_body_bytes, permit.add_bytes)
    with context.stage_times.measure("receive"):
        post = await read_post(body, state.settings)
    permit.mark_received()
    return post


async def receive_batch(request: Request, state: StateDep, context: ContextDep, permit: BatchPermitDep) -> list[Item]:
    body = Body(request.headers, request.receive, state.settings.max_batch_body_bytes, permit.add_bytes)
    with context.stage_times.measure("receive"):
        items = await read_batch(body, state.settings)
    context.posts = len(items)
    return items


PostDep = Annotated[PostContent, Depends(receive_post)]
BatchDep = Annotated[list[Item], Depends(receive_batch)]


async def cancel_on_disconnect(work: Awaitable[T], receive: Receive) -> T:
    """Do ``work``, but cancel it if the client closes its connection.

    Raises:
        ClientDisconnected: it did.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnected
        return task.result()
    finally:
        task.cancel()
        disconnect.cancel()
        await asyncio.gather(task, disconnect, return_exceptions=True)  # lets the task record its stage times
        del task, disconnect  # breaks a cycle (exception, traceback, frame, task) that would keep the image in memory


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
