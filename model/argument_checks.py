"""What Python callers pass by mistake: named by its type, and in a batch by its index."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


def check_text(text: object) -> None:
    """Refuse what is not a text.

    Raises:
        TypeError: the message names the type.
    """
    if not isinstance(text, str):
        raise TypeError(f"a text is a str, not {type_name(text)}")


def as_list(items: Iterable[Item], name: str) -> list[Item]:
    """The items of a list, or of anything else with an order.

    Raises:
        TypeError: ``items`` is a single text or image, or has no order.
    """
    single = isinstance(items, str | bytes | bytearray | memoryview) or is_file(items)
    if single or isinstance(items, Mapping | set | frozenset) or not isinstance(items, Iterable):
        raise TypeError(f"{name} is a list with one item for each post, not {type_name(items)}")
    return list(items)


def check_batch_size(batch_size: object) -> None:
    """Refuse a batch size that is not a whole number of posts.

    Raises:
        TypeError, ValueError: it is something else, or less than 1.
    """
    if not isinstance(batch_size, int) or isinstance(batch_size, bool):
        raise TypeError(f"batch_size is an int, not {type_name(batch_size)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Put ``place``, like ``texts[1]``, before the message of an error, whose class and attributes stay."""
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, OSError) and error.strerror is not None:
            error.strerror = f"{place}: {error.strerror}"  # which the message is made of, not of args
        elif isinstance(error, UnicodeEncodeError | UnicodeDecodeError):
            error.reason = f"{place}: {error.reason}"  # likewise
        else:
            error.args = (f"{place}: {error}", *error.args[1:])
        raise


def is_file(value: object) -> bool:
    """Whether ``value`` is something to be read, like an open file."""
    return callable(getattr(value, "read", None)) and not isinstance(value, type)


def type_name(value: object) -> str:
    """The type of ``value`` as messages call it, like ``numpy.ndarray``."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
