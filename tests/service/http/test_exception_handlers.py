import json

from service.errors import TextTooLong
from service.http.exception_handlers import error_response
from service.http.request_context import RequestContext


def test_problem_has_the_members_of_rfc_9457() -> None:
    context = RequestContext("me-1", deadline_seconds=1)
    answer = error_response(context, TextTooLong(characters=12, limit=10))
    assert answer.media_type == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:smner:problem:text_too_long",
        "title": "The post's text is too long",
        "status": 422,
        "detail": "the text has 12 characters; the limit is 10",
        "code": "text_too_long",
        "request_id": "me-1",
    }
    assert context.code == "text_too_long"


def test_unexpected_exception_reveals_nothing() -> None:
    answer = error_response(RequestContext("", deadline_seconds=1), KeyError("what the client sent"))
    assert answer.status_code == 500
    assert b"what the client sent" not in bytes(answer.body)
