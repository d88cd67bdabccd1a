from collections.abc import Iterator

import pytest

from model import InvalidPost
from service.errors import ServiceError
from service.http.problems import KINDS, documented


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


@pytest.mark.parametrize("kind", [*subclasses(ServiceError), *subclasses(InvalidPost)])
def test_every_error_code_has_a_status(kind: type[Exception]) -> None:
    assert kind.code in KINDS  # type: ignore[attr-defined]


def test_codes_with_equal_status_are_documented_together() -> None:
    responses = documented("overloaded", "not_ready", "empty_text")
    assert list(responses) == [422, 503]
    assert "`overloaded`" in str(responses[503]["description"])
    assert "`not_ready`" in str(responses[503]["description"])
