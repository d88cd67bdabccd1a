import asyncio
from typing import Any

import pytest

from service.errors import ClientDisconnected
from service.http.dependencies import cancel_on_disconnect


async def stays() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def disconnects() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def answer() -> int:
    return 42


def test_work_is_done_while_the_client_stays() -> None:
    assert asyncio.run(cancel_on_disconnect(answer(), stays)) == 42


def test_work_is_canceled_when_the_client_disconnects() -> None:
    canceled = False

    async def work() -> None:
        nonlocal canceled
        try:
            await asyncio.Event().wait()
        finally:
            canceled = True

    with pytest.raises(ClientDisconnected):
        asyncio.run(cancel_on_disconnect(work(), disconnects))
    assert canceled


def test_error_of_the_work_is_raised() -> None:
    async def fails() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(cancel_on_disconnect(fails(), stays))
