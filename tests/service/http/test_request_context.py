import pytest

from service.http.request_context import RequestContext


def test_a_safe_id_is_kept() -> None:
    assert RequestContext("a-B_3.c", deadline_seconds=1).request_id == "a-B_3.c"


@pytest.mark.parametrize("given_id", ["", "a b", "a\n", "é", "x" * 65, '{"a":1}', "../etc"])
def test_any_other_id_is_replaced(given_id: str) -> None:
    made = RequestContext(given_id, deadline_seconds=1).request_id
    assert made != given_id
    assert RequestContext(made, deadline_seconds=1).request_id == made


def test_server_timing_is_in_milliseconds_with_the_stages_in_order() -> None:
    context = RequestContext("", deadline_seconds=1)
    context.record("receive", 0.0012)
    context.record("decode", 1.5)
    assert context.server_timing().startswith("receive;dur=1.2, decode;dur=1500.0, total;dur=")


def test_a_stage_that_fails_is_timed_too() -> None:
    context = RequestContext("", deadline_seconds=1)
    with pytest.raises(KeyError), context.stage("decode"):
        raise KeyError
    assert context.stages["decode"] >= 0
