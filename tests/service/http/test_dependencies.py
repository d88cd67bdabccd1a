import asyncio
from typing import Any

import pytest

from service.errors import ClientGone
from service.http.dependencies import unless_gone


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def leaves() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def answer() -> int:
    return 42


def test_work_is_done_while_the_client_stays() -> None:
    assert asyncio.run(unless_gone(answer(), never)) == 42


def test_work_is_given_up_when_the_client_leaves() -> None:
    given_up = False

    async def work() -> None:
        nonlocal given_up
        try:
            await asyncio.Event().wait()
        finally:
            given_up = True

    with pytest.raises(ClientGone):
        asyncio.run(unless_gone(work(), leaves))
    assert given_up


def test_an_error_of_the_work_comes_through() -> None:
    async def fails() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(unless_gone(fails(), never))
