from concurrent.futures import Future

import pytest

from service.admission import Gate
from service.errors import Overloaded


def test_one_more_than_the_limit_is_refused_with_the_limit() -> None:
    gate = Gate(2, 100)
    with gate.enter(10), gate.enter(10), pytest.raises(Overloaded, match="no more than 2"):
        gate.enter(10)


def test_a_slot_is_given_back_even_after_a_failure() -> None:
    gate = Gate(1, 100)
    with pytest.raises(KeyError), gate.enter(10):
        raise KeyError
    assert gate.inside == 0


def test_work_that_cannot_be_stopped_keeps_its_slot_until_it_is_over() -> None:
    gate = Gate(1, 100)
    work: Future[None] = Future()
    with gate.enter(10) as slot:
        slot.holds(work)
    assert gate.inside == 1
    work.set_result(None)
    assert gate.inside == 0


def test_work_that_never_began_keeps_nothing() -> None:
    gate = Gate(1, 100)
    work: Future[None] = Future()
    with gate.enter(10) as slot:
        slot.holds(work)
        work.cancel()
    assert gate.inside == 0


def test_one_byte_more_than_the_limit_is_refused_with_the_limit_and_the_value() -> None:
    gate = Gate(9, 100)
    with gate.enter(60), gate.enter(40), pytest.raises(Overloaded, match=r"of 100 bytes .* the 1 of this .* the 100 "):
        gate.enter(1)


def test_the_bytes_are_given_back_with_the_slot() -> None:
    gate = Gate(9, 100)
    work: Future[None] = Future()
    with gate.enter(60), gate.enter(40) as slot:
        slot.holds(work)
    assert gate.bytes_inside == 40
    work.set_result(None)
    assert gate.bytes_inside == 0


def test_a_refused_post_takes_nothing() -> None:
    gate = Gate(9, 100)
    with pytest.raises(Overloaded):
        gate.enter(101)
    assert (gate.inside, gate.bytes_inside) == (0, 0)
