from concurrent.futures import Future

import pytest

from service.admission import Gate
from service.errors import Overloaded


def test_one_more_than_the_limit_is_refused_with_the_limit() -> None:
    gate = Gate(2)
    with gate.enter(), gate.enter(), pytest.raises(Overloaded, match="no more than 2"):
        gate.enter()


def test_a_slot_is_given_back_even_after_a_failure() -> None:
    gate = Gate(1)
    with pytest.raises(KeyError), gate.enter():
        raise KeyError
    assert gate.inside == 0


def test_work_that_cannot_be_stopped_keeps_its_slot_until_it_is_over() -> None:
    gate = Gate(1)
    work: Future[None] = Future()
    with gate.enter() as slot:
        slot.holds(work)
    assert gate.inside == 1
    work.set_result(None)
    assert gate.inside == 0


def test_work_that_never_began_keeps_nothing() -> None:
    gate = Gate(1)
    work: Future[None] = Future()
    with gate.enter() as slot:
        slot.holds(work)
        work.cancel()
    assert gate.inside == 0
