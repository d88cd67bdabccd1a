import pytest

from service.http.request_context import RequestContext


def test_safe_id_is_kept() -> None:
    assert RequestContext("a-B_3.c", deadline_seconds=1).request_id == "a-B_3.c"


@pytest.mark.parametrize("given_id", ["", "a b", "a\n", "é", "x" * 65, '{"a":1}', "../etc"])
def test_unsafe_id_is_replaced(given_id: str) -> None:
    made = RequestContext(given_id, deadline_seconds=1).request_id
    assert made != given_id
    assert RequestContext(made, deadline_seconds=1).request_id == made


def test_server_timing_is_in_milliseconds() -> None:
    context = RequestContext("", deadline_seconds=1)
    context.stage_times.update(receive=0.0012, decode=1.5)
    assert context.server_timing().startswith("receive;dur=1.2, decode;dur=1500.0, total;dur=")
