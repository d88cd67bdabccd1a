from concurrent.futures import Future

import pytest

from service.errors import Overloaded
from service.inference.limiter import Limiter, Permit


def received(limiter: Limiter, size: int) -> Permit:
    """The permit of a post that has arrived in full."""
    permit = limiter.acquire(size)
    permit.add_bytes(size)
    permit.mark_received()
    return permit


def test_post_over_the_limit_is_refused() -> None:
    limiter = Limiter(2, 100)
    with received(limiter, 10), received(limiter, 10), pytest.raises(Overloaded, match="the limit is 2"):
        limiter.acquire(10)


def test_eight_uploads_per_post_are_allowed() -> None:
    limiter = Limiter(2, 100)
    uploads = [limiter.acquire(1) for _ in range(15)]
    with received(limiter, 10), received(limiter, 10):
        assert limiter.permits_held == 17
    uploads.append(limiter.acquire(1))
    with pytest.raises(Overloaded, match="16 posts are being received; the limit is 16"):
        limiter.acquire(1)
    for upload in uploads:
        with upload:
            pass
    assert limiter.permits_held == 0


def test_upload_that_ends_at_the_limit_is_refused() -> None:
    limiter = Limiter(1, 100)
    with limiter.acquire(10) as slow:
        with received(limiter, 10), pytest.raises(Overloaded, match="the limit is 1"):
            slow.mark_received()
        assert limiter.permits_held == 1
    assert limiter.permits_held == 0


def test_permit_is_released_after_a_failure() -> None:
    limiter = Limiter(1, 100)
    with pytest.raises(KeyError), limiter.acquire(10):
        raise KeyError
    assert limiter.permits_held == 0


def test_permit_is_held_until_work_is_done() -> None:
    limiter = Limiter(9, 100)
    work: Future[None] = Future()
    with received(limiter, 60), received(limiter, 40) as permit:
        permit.hold_until_done(work)
    assert (limiter.permits_held, limiter.bytes_held) == (1, 40)
    work.set_result(None)
    assert (limiter.permits_held, limiter.bytes_held) == (0, 0)


def test_canceled_work_holds_no_permit() -> None:
    limiter = Limiter(1, 100)
    work: Future[None] = Future()
    with received(limiter, 10) as permit:
        permit.hold_until_done(work)
        work.cancel()
    assert limiter.permits_held == 0


def test_byte_over_the_limit_is_refused() -> None:
    limiter = Limiter(9, 100)
    with (
        received(limiter, 60),
        received(limiter, 40),
        pytest.raises(Overloaded, match="have 100 bytes, this one adds 1; the limit is 100"),
    ):
        limiter.acquire(1)


def test_bytes_count_when_they_arrive() -> None:
    limiter = Limiter(9, 100)
    with limiter.acquire(100) as slow, limiter.acquire(100) as quick:
        slow.add_bytes(1)
        quick.add_bytes(99)
        with pytest.raises(Overloaded, match="have 100 bytes, this one adds 1"):
            slow.add_bytes(1)
        assert limiter.bytes_held == 100
    assert limiter.bytes_held == 0


def test_refused_post_holds_nothing() -> None:
    limiter = Limiter(9, 100)
    with pytest.raises(Overloaded):
        limiter.acquire(101)
    assert (limiter.permits_held, limiter.bytes_held) == (0, 0)
