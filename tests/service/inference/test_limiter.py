import asyncio
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


def test_posts_of_batches_take_half_of_the_places() -> None:
    async def fill() -> None:
        limiter = Limiter(4, 100)
        with limiter.acquire(10) as upload:
            upload.add_bytes(10)
            first, second = [await upload.admit_post(3) for _ in range(2)]
            third = asyncio.create_task(upload.admit_post(3))
            await asyncio.sleep(0)
            assert not third.done()
            with received(limiter, 5), received(limiter, 5):
                with first:
                    pass
                assert (limiter.permits_held, limiter.bytes_held) == (1 + 2 + 2, 7 + 10)
                with await third, second:
                    pass
        assert (limiter.permits_held, limiter.bytes_held) == (0, 0)

    asyncio.run(fill())


def test_post_of_a_batch_waits_for_others() -> None:
    async def wait() -> list[int]:
        limiter = Limiter(1, 100)
        order: list[int] = []

        async def take(number: int, upload: Permit) -> None:
            with await upload.admit_post(0):
                order.append(number)

        with limiter.acquire(0) as upload:
            with received(limiter, 0):
                tasks = [asyncio.create_task(take(number, upload)) for number in range(3)]
                await asyncio.sleep(0.01)
                assert order == []
            await asyncio.gather(*tasks)
        assert limiter.permits_held == 0
        return order

    assert asyncio.run(wait()) == [0, 1, 2]


def test_place_can_be_freed_by_another_thread() -> None:
    async def wait() -> None:
        limiter = Limiter(1, 100)
        with limiter.acquire(0) as upload:
            first = await upload.admit_post(0)
            second = asyncio.create_task(upload.admit_post(0))
            await asyncio.to_thread(first.__exit__)
            with await second:
                assert limiter.permits_held == 2

    asyncio.run(wait())


@pytest.mark.parametrize("place_given", [False, True])
def test_canceled_wait_keeps_no_place(place_given: bool) -> None:
    """Also if the place was given in the moment in which the wait was canceled."""

    async def wait() -> None:
        limiter = Limiter(1, 100)
        with limiter.acquire(0) as upload:
            first = await upload.admit_post(0)
            waiting = asyncio.create_task(upload.admit_post(0))
            await asyncio.sleep(0)
            if place_given:
                first.__exit__()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            if not place_given:
                first.__exit__()
            assert limiter.permits_held == 1  # the request
            with await upload.admit_post(0):
                assert limiter.permits_held == 2

    asyncio.run(wait())


def test_refused_post_holds_nothing() -> None:
    limiter = Limiter(9, 100)
    with pytest.raises(Overloaded):
        limiter.acquire(101)
    assert (limiter.permits_held, limiter.bytes_held) == (0, 0)
