"""What every request gets, however it ends: an id, a deadline, an answer, an entry in the metrics and the log.

Plain ASGI, because starlette's BaseHTTPMiddleware hides disconnects from the routes.
"""

import asyncio
import logging
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ClientDisconnected, MalformedRequest, NotReady
from service.http.bodies.body import announced_length
from service.http.exception_handlers import error_response
from service.http.request_context import RequestContext
from service.metrics import Metrics
from service.traces import Traces

log = structlog.get_logger()

CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that disconnected; never sent

# the closed sets from which metrics take their labels
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_ROUTE = "none"
_PROBES = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})

# Closing the connection of a client that is still sending resets it, and the answer is lost. So after an early answer
# the rest of the body is discarded for a moment, like nginx's lingering_close.
_LINGER_SECONDS = 2.0


class RequestMiddleware:
    """Wraps the whole application.

    Args:
        app: the application.
        metrics: counts requests.
        traces: adds the stages to the spans of requests.
        deadline_seconds: how long any request may take, its upload included.
        max_body_bytes: largest body; the connection stays open after a refusal only if the body cannot be longer.
        cors: wraps the application and the errors that it does not answer itself, so that browsers may read these, too.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        traces: Traces,
        deadline_seconds: float,
        max_body_bytes: int,
        cors: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    ) -> None:
        self._app = cors(app)
        self._cors = cors
        self._metrics = metrics
        self._traces = traces
        self._deadline_seconds = deadline_seconds
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        given_id = Headers(scope=scope).get("x-request-id", "")
        context = RequestContext(given_id, deadline_seconds=self._deadline_seconds)
        context.span = self._traces.begin(context.request_id, has_query=bool(scope["query_string"]))
        scope.setdefault("state", {})["context"] = context
        responder = Responder(scope, receive, send, context, max_body_bytes=self._max_body_bytes)
        scope = _with_get(scope)
        with self._metrics.in_flight.track_inprogress():
            error = await self._run(scope, responder, context)
            if error is not None and not isinstance(error, ClientDisconnected) and responder.status is None:
                await self._cors(error_response(context, error))(scope, responder.receive, responder.send)
        self._report(scope, responder, context, method=method)

    async def _run(self, scope: Scope, responder: "Responder", context: RequestContext) -> Exception | None:
        """Run the application within the deadline; returns the error that it did not answer itself."""
        try:
            async with asyncio.timeout(self._deadline_seconds) as timeout:
                context.timeout = timeout
                responder.raise_if_malformed()
                await self._app(scope, responder.receive, responder.send)
        except asyncio.CancelledError:  # uvicorn's grace period is over
            return NotReady("the service has shut down")
        except (ClientDisconnected, MalformedRequest) as error:
            return error
        except Exception as error:  # every request gets an answer
            if timeout.expired():
                return context.deadline.error()
            log.exception("unhandled exception", request_id=context.request_id)
            return error
        return None

    def _report(self, scope: Scope, responder: "Responder", context: RequestContext, *, method: str) -> None:
        status = responder.status or CLIENT_CLOSED_REQUEST
        seconds = context.deadline.elapsed if responder.seconds is None else responder.seconds
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        self._metrics.count_request(
            route=route,
            method=method,
            status=status,
            seconds=seconds,
            stages=context.stage_times,
            code=None if route in _PROBES else context.code,  # a failed probe is not a rejected post
        )
        if context.span is not None:
            self._traces.add_stages(context.span, context.stage_times)
        if context.client is not None:
            self._metrics.count_client_posts(context.client, context.posts)
        log.log(
            logging.DEBUG if route in _PROBES else logging.INFO,
            "request",
            request_id=context.request_id,
            method=method,
            route=route,
            status=status,
            code=context.code,
            client=context.client,
            seconds=round(seconds, 4),
            **context.details,
            **{f"{stage}_seconds": round(taken, 4) for stage, taken in context.stage_times.items()},
        )


def _with_get(scope: Scope) -> Scope:
    """The scope for the routes, which answer HEAD as GET; the server drops the body (RFC 9110, 9.3.2)."""
    return {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope


class Responder:
    """Wraps ``receive`` and ``send`` of one request: adds headers, and ends a refused upload cleanly.

    Attributes:
        status: of the answer, once it has begun.
        seconds: from the request's first byte to the answer's last, once that is sent.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext, *, max_body_bytes: int
    ) -> None:
        self._receive = receive
        self._send = send
        self._context = context
        self._state = scope["state"]
        self._is_closing = self._state.get("is_closing", lambda: False)  # only our protocol sets it
        headers = Headers(scope=scope)
        length = announced_length(headers)
        self._body_left = bool(length) or "transfer-encoding" in headers
        self._bounded = length is not None and length <= max_body_bytes
        self.status: int | None = None
        self.seconds: float | None = None

    def raise_if_malformed(self) -> None:
        """Report what the protocol could not read.

        Raises:
            MalformedRequest: the request is not HTTP or exceeds a limit; raised once.
        """
        reason = self._state.pop("malformed", None)
        if reason is not None:
            raise MalformedRequest(reason)

    async def receive(self) -> Message:
        message = await self._receive()
        self.raise_if_malformed()
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
            if not self._is_closing():  # otherwise the server has dropped the message
                self.status = message["status"]
            return
        if not message.get("more_body", False):
            self.seconds = self._context.deadline.elapsed
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
        except (TimeoutError, MalformedRequest, asyncio.CancelledError):
            pass  # time is up, the rest is not a body, or the server stops
