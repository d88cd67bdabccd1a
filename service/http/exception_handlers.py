"""Turns exceptions into problem documents."""

from collections.abc import Callable, Coroutine
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
    match error:
        case ServiceError() | InvalidPost():
            return problem_response(context, error.code, str(error))
        case RequestValidationError():
            return problem_response(context, "malformed_request", _first_fault(error))
        case HTTPException(status_code=status) if status in ROUTING_CODES:
            detail = f"{HTTPStatus(status).phrase}; /docs lists all paths and methods"
            return problem_response(context, ROUTING_CODES[status], detail, headers=error.headers)
        case _:
            return error_response(context, InternalError())


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
