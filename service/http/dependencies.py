"""What routes ask for in their signatures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Receive

from service.errors import ClientGone
from service.http.request_context import RequestContext
from service.http.upload import Upload, announced_length, read_upload
from service.inference.limiter import Slot
from service.inference.pipeline import Service

T = TypeVar("T")


async def get_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def get_context(request: Request) -> RequestContext:
    context: RequestContext = request.state.context
    return context


ServiceDep = Annotated[Service, Depends(get_service)]
ContextDep = Annotated[RequestContext, Depends(get_context)]


_bearer = HTTPBearer(auto_error=False, description="an API key, where the service asks for one")


async def check_key(
    service: ServiceDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    service.authorize(None if given is None else given.credentials)


KEY_CHECKED = Depends(check_key)


async def take_slot(request: Request, service: ServiceDep) -> AsyncIterator[Slot]:
    """Admission, before a byte of the body is read; the slot is kept until the answer is sent."""
    with service.admit(announced_length(request.headers)) as slot:
        yield slot


SlotDep = Annotated[Slot, Depends(take_slot)]


async def receive_upload(request: Request, service: ServiceDep, context: ContextDep, slot: SlotDep) -> Upload:
    with context.stage("receive"):
        upload = await read_upload(request.headers, request.receive, service.limits, on_bytes=slot.arrived)
    slot.complete()
    return upload


UploadDep = Annotated[Upload, Depends(receive_upload)]


async def unless_gone(work: Awaitable[T], receive: Receive) -> T:
    """Do ``work``, but give it up when the client closes its connection.

    Raises:
        ClientGone: it did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)  # so that the stages it reached are on record
        del task, gone  # an exception's traceback has this frame, and the task has the exception: a photo would stay


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
