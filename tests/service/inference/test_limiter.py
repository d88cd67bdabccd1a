from concurrent.futures import Future

import pytest

from service.errors import Overloaded
from service.inference.limiter import Gate, Slot


def received(gate: Gate, size: int) -> Slot:
    """The slot of a post that has come in full."""
    slot = gate.enter(size)
    slot.arrived(size)
    slot.complete()
    return slot


def test_one_more_than_the_limit_is_refused_at_the_door_with_the_limit() -> None:
    gate = Gate(2, 100)
    with received(gate, 10), received(gate, 10), pytest.raises(Overloaded, match="no more than 2"):
        gate.enter(10)


def test_uploads_on_their_way_keep_nobody_out_until_they_are_eight_times_as_many() -> None:
    gate = Gate(2, 100)
    uploads = [gate.enter(1) for _ in range(15)]
    with received(gate, 10), received(gate, 10):
        assert gate.inside == 17
    uploads.append(gate.enter(1))
    with pytest.raises(Overloaded, match="16 posts are being received, no more than 16"):
        gate.enter(1)
    for upload in uploads:
        with upload:
            pass
    assert gate.inside == 0


def test_an_upload_that_comes_to_its_end_when_all_places_are_taken_is_refused() -> None:
    gate = Gate(1, 100)
    with gate.enter(10) as slow:
        with received(gate, 10), pytest.raises(Overloaded, match="no more than 1 at once"):
            slow.complete()
        assert gate.inside == 1
    assert gate.inside == 0


def test_a_slot_is_given_back_even_after_a_failure() -> None:
    gate = Gate(1, 100)
    with pytest.raises(KeyError), gate.enter(10):
        raise KeyError
    assert gate.inside == 0


def test_work_that_cannot_be_stopped_keeps_its_slot_until_it_is_over() -> None:
    gate = Gate(1, 100)
    work: Future[None] = Future()
    with received(gate, 10) as slot:
        slot.holds(work)
    assert gate.inside == 1
    work.set_result(None)
    assert gate.inside == 0


def test_work_that_never_began_keeps_nothing() -> None:
    gate = Gate(1, 100)
    work: Future[None] = Future()
    with received(gate, 10) as slot:
        slot.holds(work)
        work.cancel()
    assert gate.inside == 0


def test_one_byte_more_than_the_limit_is_refused_with_the_limit_and_the_value() -> None:
    gate = Gate(9, 100)
    with (
        received(gate, 60),
        received(gate, 40),
        pytest.raises(Overloaded, match=r"of 100 bytes .* the 1 of this .* the 100 "),
    ):
        gate.enter(1)


def test_bytes_count_when_they_arrive_not_when_they_are_announced() -> None:
    gate = Gate(9, 100)
    with gate.enter(100) as slow, gate.enter(100) as quick:
        slow.arrived(1)
        quick.arrived(99)
        with pytest.raises(Overloaded, match=r"of 100 bytes .* the 1 of this"):
            slow.arrived(1)
        assert gate.bytes_inside == 100
    assert gate.bytes_inside == 0


def test_the_bytes_are_given_back_with_the_slot() -> None:
    gate = Gate(9, 100)
    work: Future[None] = Future()
    with received(gate, 60), received(gate, 40) as slot:
        slot.holds(work)
    assert gate.bytes_inside == 40
    work.set_result(None)
    assert gate.bytes_inside == 0


def test_a_refused_post_takes_nothing() -> None:
    gate = Gate(9, 100)
    with pytest.raises(Overloaded):
        gate.enter(101)
    assert (gate.inside, gate.bytes_inside) == (0, 0)
