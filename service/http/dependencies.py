"""What routes ask for in their signatures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Receive

from service.errors import ClientDisconnected, NotReady, Unauthorized
from service.http.auth import KeyFile
from service.http.request_context import RequestContext
from service.http.upload import Upload, announced_length, read_upload
from service.inference.limiter import Permit
from service.inference.pipeline import Pipeline
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AppState:
    """What all requests share; ``keys`` is None where no key is needed."""

    settings: Settings
    metrics: Metrics
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


async def require_key(state: StateDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    if state.keys is not None and (given is None or not state.keys.accepts(given.credentials)):
        raise Unauthorized(key_given=given is not None)


KEY_REQUIRED = Depends(require_key)


async def acquire_permit(request: Request, state: StateDep) -> AsyncIterator[Permit]:
    """Admit the post before its body is read; the permit is held until the answer is sent."""
    if (reason := state.lifecycle.refusal_reason) is not None:
        raise NotReady(reason)
    announced, largest = announced_length(request.headers), state.settings.max_body_bytes
    with state.pipeline.limiter.acquire(largest if announced is None else min(announced, largest)) as permit:
        yield permit


PermitDep = Annotated[Permit, Depends(acquire_permit)]


async def receive_upload(request: Request, state: StateDep, context: ContextDep, permit: PermitDep) -> Upload:
    with context.stage_times.measure("receive"):
        upload = await read_upload(request.headers, request.receive, state.settings, on_bytes=permit.add_bytes)
    permit.mark_received()
    return upload


UploadDep = Annotated[Upload, Depends(receive_upload)]


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
