"""Errors to HTTP, in one place: RFC 9457 problem details, https://www.rfc-editor.org/rfc/rfc9457."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from model import InvalidPost
from service.errors import InternalError, MalformedRequest, ServiceError
from service.http.request_context import RequestContext

MEDIA_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """Status and title of every problem with the same code."""

    status: int
    title: str


KINDS: Mapping[str, Kind] = {
    "malformed_request": Kind(400, "The request is malformed"),
    "unauthorized": Kind(401, "The request has no valid API key"),
    "not_found": Kind(404, "There is nothing at this path"),
    "method_not_allowed": Kind(405, "This path does not take this method"),
    "body_too_large": Kind(413, "The request body is too large"),
    "image_too_large": Kind(413, "The photo is too large"),
    "unsupported_media_type": Kind(415, "The request is not a multipart form"),
    "unsupported_image": Kind(415, "The photo has a format that is not read"),
    "missing_text": Kind(422, "The post has no text"),
    "empty_text": Kind(422, "The post's text is empty"),
    "text_too_long": Kind(422, "The post's text is too long"),
    "unreadable_image": Kind(422, "The photo cannot be read"),
    "internal_error": Kind(500, "The service failed"),
    "overloaded": Kind(503, "The service has as many posts as it takes"),
    "not_ready": Kind(503, "The service takes no posts now"),
    "deadline_exceeded": Kind(504, "The request took too long"),
}
_ROUTING_CODES = {404: "not_found", 405: "method_not_allowed"}


class Problem(BaseModel):
    """What every error answers with."""

    type: Annotated[str, Field(description="URI of the kind of problem", examples=["urn:smner:problem:text_too_long"])]
    title: Annotated[str, Field(description="the kind of problem in words", examples=["The post's text is too long"])]
    status: Annotated[int, Field(description="the HTTP status", examples=[422])]
    detail: Annotated[
        str,
        Field(
            description="this problem in words, naming the limit and the value",
            examples=["the text has 12000 characters, at most 10000 are read"],
        ),
    ]
    code: Annotated[str, Field(description="the kind of problem for programs", examples=["text_too_long"])]
    request_id: Annotated[str, Field(description="the X-Request-ID of this answer", examples=["5f0c…"])]


def problem_response(
    context: RequestContext,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    extensions: Mapping[str, object] | None = None,
) -> Response:
    """An answer that says what is wrong; ``extensions`` are further members of the document."""
    kind = KINDS[code]
    context.code = code
    problem = Problem(
        type=f"urn:smner:problem:{code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        code=code,
        request_id=context.request_id,
    )
    document = {**problem.model_dump(), **(extensions or {})}
    return Response(json.dumps(document), kind.status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def answer_error(context: RequestContext, error: Exception) -> Response:
    """The answer to any exception; one that is not ours says nothing of itself."""
    match error:
        case ServiceError():
            return problem_response(context, error.code, str(error), headers=error.headers)
        case InvalidPost():
            return problem_response(context, error.code, str(error))
        case RequestValidationError():
            return answer_error(context, MalformedRequest(_first_fault(error)))
        case HTTPException(status_code=status) if status in _ROUTING_CODES:
            detail = f"{HTTPStatus(status).phrase}; /docs lists what there is"
            return problem_response(context, _ROUTING_CODES[status], detail, headers=error.headers)
        case _:
            return answer_error(context, InternalError())


def install_handlers(app: FastAPI) -> None:
    """Answer every exception that has an answer with its problem; the rest goes on to the middleware."""

    async def handle(request: Request, error: Exception) -> Response:
        return answer_error(request.state.context, error)

    for kind in (ServiceError, InvalidPost, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)


def documented(*codes: str) -> dict[int | str, dict[str, object]]:
    """OpenAPI's ``responses`` for the problems with these codes."""
    responses: dict[int | str, dict[str, object]] = {}
    for status in sorted({KINDS[code].status for code in codes}):
        names = [code for code in codes if KINDS[code].status == status]
        responses[status] = {
            "description": "; ".join(f"`{name}`: {KINDS[name].title}" for name in names),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return responses


def _first_fault(error: RequestValidationError) -> str:
    fault = error.errors()[0]
    place = " ".join(str(step) for step in fault["loc"])
    return f"{place}: {fault['msg']}"
