"""Turns exceptions into problem documents."""

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from model import InvalidPost
from service.errors import InternalError, ServiceError
from service.http.problems import ROUTING_CODES, problem_response
from service.http.request_context import RequestContext


def error_response(context: RequestContext, error: Exception) -> Response:
    """The answer to any exception; nothing of an unexpected one is revealed."""
    headers = _with_head(error.headers) if isinstance(error, HTTPException) else None
    return problem_response(context, *described(error), headers=headers)


def described(error: Exception) -> tuple[str, str]:
    """The code and the detail of the problem that an exception stands for."""
    match error:
        case ServiceError() | InvalidPost():
            return error.code, str(error)
        case RequestValidationError():
            return "malformed_request", _first_fault(error)
        case HTTPException(status_code=status) if status in ROUTING_CODES:
            return ROUTING_CODES[status], f"{HTTPStatus(status).phrase}; /docs lists all paths and methods"
        case _:
            return described(InternalError())


def _with_head(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """The headers, whose ``Allow`` names HEAD beside GET: the middleware answers it, so the routes do not know."""
    if headers is None or "GET" not in headers.get("Allow", ""):
        return headers
    return {**headers, "Allow": f"{headers['Allow']}, HEAD"}


def _first_fault(error: RequestValidationError) -> str:
    fault = error.errors()[0]
    location = " ".join(str(step) for step in fault["loc"])
    return f"{location}: {fault['msg']}"


async def _handle(request: Request, error: Exception) -> Response:
    return error_response(request.state.context, error)


# any other exception reaches the middleware, which logs it
EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = (
    dict.fromkeys((ServiceError, InvalidPost, RequestValidationError, HTTPException), _handle)
)
