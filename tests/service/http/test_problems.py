import json
from collections.abc import Iterator

import pytest

from model import InvalidPost
from service import errors
from service.http.problems import KINDS, answer_error, documented
from service.http.request_context import RequestContext


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


@pytest.mark.parametrize("kind", [*subclasses(errors.ServiceError), *subclasses(InvalidPost)])
def test_every_error_of_ours_and_of_the_model_has_a_status(kind: type[Exception]) -> None:
    assert kind.code in KINDS  # type: ignore[attr-defined]


def test_a_problem_is_what_rfc_9457_asks_for_and_our_two_members() -> None:
    context = RequestContext("me-1", deadline_seconds=1)
    answer = answer_error(context, errors.TextTooLong(characters=12, limit=10))
    assert answer.media_type == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:smner:problem:text_too_long",
        "title": "The post's text is too long",
        "status": 422,
        "detail": "the text has 12 characters, at most 10 are read",
        "code": "text_too_long",
        "request_id": "me-1",
    }


def test_an_unforeseen_exception_says_nothing_of_itself() -> None:
    answer = answer_error(RequestContext("", deadline_seconds=1), KeyError("what the client sent"))
    assert answer.status_code == 500
    assert b"what the client sent" not in bytes(answer.body)


def test_codes_with_the_same_status_are_documented_together() -> None:
    responses = documented("overloaded", "not_ready", "empty_text")
    assert list(responses) == [422, 503]
    assert "`overloaded`" in str(responses[503]["description"])
    assert "`not_ready`" in str(responses[503]["description"])
