import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, count

import pytest

from model.post_files.read_ahead import read_ahead


def square(i: int) -> int:
    time.sleep(0.001 * (i % 3))
    return i * i


def wait_for_threads(before: int) -> None:
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_results_come_in_order() -> None:
    windows = list(read_ahead(iter(range(100)), square, ahead=8, workers=3))
    assert list(chain(*windows)) == [i * i for i in range(100)]
    assert max(map(len, windows)) <= 8


def test_no_items_have_no_results() -> None:
    assert list(read_ahead(iter([]), square, ahead=8, workers=3)) == []


def test_items_are_read_lazily() -> None:
    """At most twice ``ahead``, however slow the caller is, so memory stays bounded."""
    read = []

    def items() -> Iterator[int]:
        for i in count():
            read.append(i)
            yield i

    with closing(read_ahead(items(), square, ahead=8, workers=3)) as windows:
        taken = len(next(windows))
        time.sleep(0.2)
        assert len(read) <= taken + 8 + 1
        for _, window in zip(range(5), windows, strict=False):
            taken += len(window)
        time.sleep(0.2)
        assert len(read) <= taken + 8 + 1


def test_a_slow_source_is_not_waited_for() -> None:
    """Of a pipe, what has come is answered before more comes."""
    more = threading.Event()

    def items() -> Iterator[int]:
        yield 3
        assert more.wait(10)
        yield 4

    windows = read_ahead(items(), square, ahead=8, workers=1)
    assert next(windows) == [9]
    more.set()
    assert list(windows) == [[16]]


def test_an_error_comes_after_the_results_before() -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise ValueError("broken")

    results: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        results.extend(chain.from_iterable(read_ahead(items(), square, ahead=8, workers=3)))
    assert results == [i * i for i in range(20)]


def test_a_workers_exception_does_not_hang() -> None:
    class PanicError(BaseException):
        """As those of the tokenizer."""

    def fail(i: int) -> int:
        if i == 5:
            raise PanicError
        return i

    before = threading.active_count()
    with pytest.raises(PanicError):
        list(read_ahead(count(), fail, ahead=8, workers=3))
    wait_for_threads(before)


def test_closing_ends_the_threads() -> None:
    before = threading.active_count()
    with closing(read_ahead(count(), square, ahead=8, workers=3)) as windows:
        next(windows)
    wait_for_threads(before)


def test_a_closed_reader_is_not_left_behind() -> None:
    """One that lived until Python's exit freed the network in the middle of it: `terminate called`, status 134."""

    def items() -> Iterator[int]:
        for i in count():
            time.sleep(0.05)
            yield i

    with closing(read_ahead(items(), square, ahead=8, workers=3)) as windows:
        next(windows)
    assert "read" not in [thread.name for thread in threading.enumerate()]
