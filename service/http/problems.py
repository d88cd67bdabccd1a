"""Problem documents, RFC 9457 (https://www.rfc-editor.org/rfc/rfc9457)."""

import json
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field
from starlette.responses import Response

from service.http.request_context import RequestContext

MEDIA_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """What all problems with the same code share: HTTP status, title and headers."""

    status: int
    title: str
    headers: Mapping[str, str] = {}


_RETRY = {"Retry-After": "1"}  # in about a second a full queue has room again

KINDS: Mapping[str, Kind] = {
    "malformed_request": Kind(400, "The request is malformed"),
    "unauthorized": Kind(401, "The request has no valid API key", {"WWW-Authenticate": "Bearer"}),
    "not_found": Kind(404, "There is nothing at this path"),
    "method_not_allowed": Kind(405, "This path does not support this method"),
    "body_too_large": Kind(413, "The request body is too large"),
    "image_too_large": Kind(413, "The photo is too large"),
    "unsupported_media_type": Kind(415, "The body is of a type that is not supported"),
    "unsupported_image": Kind(415, "The photo's format is not supported"),
    "missing_text": Kind(422, "The post has no text"),
    "empty_text": Kind(422, "The post's text is empty"),
    "text_too_long": Kind(422, "The post's text is too long"),
    "unreadable_image": Kind(422, "The photo cannot be read"),
    "internal_error": Kind(500, "The service failed"),
    "overloaded": Kind(503, "The service has as many posts as it can take", _RETRY),
    "not_ready": Kind(503, "The service takes no posts now", _RETRY),
    "deadline_exceeded": Kind(504, "The request took too long"),
}
ROUTING_CODES = {404: "not_found", 405: "method_not_allowed"}  # of paths and methods that do not exist


class PostProblem(BaseModel):
    """What went wrong with one post of a batch."""

    type: Annotated[str, Field(description="URI of the kind of problem", examples=["urn:smner:problem:text_too_long"])]
    title: Annotated[str, Field(description="the kind of problem in words", examples=["The post's text is too long"])]
    status: Annotated[int, Field(description="the HTTP status", examples=[422])]
    detail: Annotated[
        str,
        Field(
            description="this problem in words, with the limit and the value",
            examples=["the text has 12000 characters; the limit is 10000"],
        ),
    ]
    code: Annotated[str, Field(description="the kind of problem for programs", examples=["text_too_long"])]


class Problem(PostProblem):
    """The body of every error."""

    request_id: Annotated[str, Field(description="the X-Request-ID of this answer", examples=["5f0c…"])]


def post_problem(code: str, detail: str) -> PostProblem:
    """The problem of one post."""
    kind = KINDS[code]
    return PostProblem(type=f"urn:smner:problem:{code}", title=kind.title, status=kind.status, detail=detail, code=code)


def problem_response(
    context: RequestContext,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    extensions: Mapping[str, object] | None = None,
) -> Response:
    """A problem document as an answer, with headers beside those of its kind, and further members."""
    kind = KINDS[code]
    context.code = code
    problem = post_problem(code, detail).model_dump()
    document = {**problem, "request_id": context.request_id, **(extensions or {})}
    return Response(json.dumps(document), kind.status, {**kind.headers, **(headers or {})}, MEDIA_TYPE)


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
