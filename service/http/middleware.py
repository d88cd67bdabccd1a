"""What every request gets, whatever becomes of it: an id, a deadline, an answer, its place in metrics and log.

Plain ASGI: starlette's BaseHTTPMiddleware would hide from the routes that a client has gone.
"""

import asyncio
import logging

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ClientGone, DeadlineExceeded, MalformedRequest, NotReady
from service.http.exchange import Exchange
from service.http.problems import answer_error
from service.http.request_context import RequestContext
from service.metrics import METHODS, NO_ROUTE, PROBES, Metrics

log = structlog.get_logger()

CLIENT_GONE = 499  # nginx's status for a client that closed its connection; never sent


class RequestMiddleware:
    """Stands around the whole application.

    Args:
        app: the application within.
        metrics: where requests are counted.
        deadline_seconds: the time in which any request must be answered, its upload included.
        max_body_bytes: see :class:`service.http.exchange.Exchange`.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, deadline_seconds: float, max_body_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._deadline_seconds = deadline_seconds
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given_id = Headers(scope=scope).get("x-request-id", "")
        context = RequestContext(given_id, deadline_seconds=self._deadline_seconds)
        scope.setdefault("state", {})["context"] = context
        exchange = Exchange(scope, receive, send, context, max_body_bytes=self._max_body_bytes)
        with self._metrics.in_flight.track_inprogress():
            error = await self._run(scope, exchange, context)
            if error is not None and not isinstance(error, ClientGone) and exchange.status is None:
                await answer_error(context, error)(scope, exchange.receive, exchange.send)
        self._account(scope, exchange, context)

    async def _run(self, scope: Scope, exchange: Exchange, context: RequestContext) -> Exception | None:
        """Run the application within the deadline; what it did not answer itself comes back."""
        try:
            async with asyncio.timeout(self._deadline_seconds) as deadline:
                exchange.check()
                await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:  # the server's grace period is over
            return NotReady("the service has shut down")
        except (ClientGone, MalformedRequest) as error:
            return error
        except Exception as error:  # nothing may leave without an answer
            if deadline.expired():
                return DeadlineExceeded(seconds=context.elapsed, limit=self._deadline_seconds)
            log.exception("unforeseen exception", request_id=context.request_id)
            return error
        return None

    def _account(self, scope: Scope, exchange: Exchange, context: RequestContext) -> None:
        status = exchange.status or CLIENT_GONE
        seconds = context.elapsed if exchange.seconds is None else exchange.seconds
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.count_request(context, route=route, method=method, status=status, seconds=seconds)
        log.log(
            logging.DEBUG if route in PROBES else logging.INFO,
            "request",
            request_id=context.request_id,
            method=method,
            route=route,
            status=status,
            code=context.code,
            seconds=round(seconds, 4),
            **{f"{stage}_seconds": round(seconds, 4) for stage, seconds in context.stages.items()},
        )
