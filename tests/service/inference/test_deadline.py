import time

from service.inference.deadline import Deadline


def test_deadline_expires_and_says_by_how_much() -> None:
    deadline = Deadline(started=time.monotonic() - 9, seconds=8.5)
    assert deadline.expired
    assert str(deadline.error()) == "there was no answer after 9 s; the limit is 8.5 s"
    assert not Deadline(started=time.monotonic(), seconds=9).expired
