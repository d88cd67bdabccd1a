"""One request and its answer as ASGI messages: what both directions carry, and how a refused upload ends."""

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from service.errors import MalformedRequest
from service.http.request_context import RequestContext
from service.http.upload import announced_length

# A connection closed on a client that still sends is reset, and the answer is lost on its way. So behind an early
# answer the rest of the body is read and thrown away for a moment, as nginx does with lingering_close.
_LINGER_SECONDS = 2.0


class Exchange:
    """Wraps ``receive`` and ``send`` of one request.

    Args:
        max_body_bytes: the connection outlives a refusal only if the whole body cannot be longer than this.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext, *, max_body_bytes: int
    ) -> None:
        self._receive = receive
        self._send = send
        self._context = context
        self._state = scope["state"]
        self._is_closing = scope["state"].get("is_closing", lambda: False)  # servers but ours do not say
        headers = Headers(scope=scope)
        length = announced_length(headers)
        self._body_left = bool(length) or "transfer-encoding" in headers
        self._bounded = length is not None and length <= max_body_bytes
        self.status: int | None = None  # of the answer, once it has begun
        self.seconds: float | None = None  # to the end of the answer, once it is sent

    def check(self) -> None:
        """Pass on what the protocol could not read.

        Raises:
            MalformedRequest: the request is not HTTP or over a limit; raised once.
        """
        reason = self._state.pop("malformed", None)
        if reason is not None:
            raise MalformedRequest(reason)

    async def receive(self) -> Message:
        message = await self._receive()
        self.check()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_left = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._context.request_id
            headers["Server-Timing"] = self._context.server_timing()
            if self._body_left and (not self._bounded or message["status"] == 504):
                headers["Connection"] = "close"
            await self._send(message)
            if not self._is_closing():  # else the server has thrown it away
                self.status = message["status"]
            return
        if not message.get("more_body", False):
            self.seconds = self._context.elapsed
            if self._body_left:
                await self._send({**message, "more_body": True})
                message = {"type": "http.response.body", "body": b"", "more_body": False}
                try:
                    await self._discard_body()
                finally:
                    await self._send(message)
                return
        await self._send(message)

    async def _discard_body(self) -> None:
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while self._body_left:
                    await self.receive()
        except (TimeoutError, MalformedRequest):
            pass  # it had its moment, or what comes is no body
