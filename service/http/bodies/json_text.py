"""Strict JSON (RFC 8259), and what its values must be like."""

import json
from collections import Counter
from collections.abc import Collection
from typing import Any, NoReturn

from service.errors import MalformedRequest
from service.http.bodies.body import QUOTED

MAX_DEPTH = 32  # of arrays and objects in each other
_MAX_DIGITS = 1000  # of an integer

_NAMES: dict[type, str] = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "an array"}


class JSONObject(dict[str, Any]):
    """An object, which remembers a key that it had twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs) if len(self) < len(pairs) else Counter()
        self.repeated = next((key for key, count in counts.items() if count > 1), None)

    def check_keys(self, allowed: Collection[str], *, of: str) -> None:
        """Refuse other keys than these, and keys that are there twice.

        Raises:
            MalformedRequest: with the key, and ``of`` what it is.
        """
        unknown = next((key for key in self if key not in allowed), None)
        if unknown is not None:
            raise MalformedRequest(f"{of} has a key {unknown[:QUOTED]!r}; allowed are {', '.join(allowed)}")
        if self.repeated is not None:
            raise MalformedRequest(f"{of} has the key {self.repeated} more than once")


def parse_json(content: bytes | bytearray, *, of: str = "the body") -> Any:
    """Parse one value of few tokens, see :class:`~service.http.bodies.json_cutter.Cutter`: others exhaust the stack.

    Raises:
        MalformedRequest: it is not JSON.
    """
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=JSONObject,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except ValueError as error:
        raise MalformedRequest(f"{of} is not JSON: {_reason(error)}") from None  # which has all of the text


def check_value(value: Any, *, of: str) -> None:
    """Refuse what cannot be sent back: deep nesting, repeated keys, half of a surrogate pair.

    Raises:
        MalformedRequest: with the reason, and ``of`` what it is.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        for each in level:
            _check_shallow(each, of=of)
        level = [child for each in level for child in _children(each)]
        if not level:
            return
    raise MalformedRequest(f"{of} is nested more than {MAX_DEPTH} levels deep")


def type_of(value: object) -> str:
    """The JSON name of a value's type, with an article."""
    return "null" if value is None else _NAMES.get(type(value), "an object")


def check_string(value: str, *, of: str) -> None:
    """Refuse a string with half of a surrogate pair, which stands for no character and cannot be encoded."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        surrogate = f"\\u{ord(value[error.start]):04x}"
        raise MalformedRequest(f"{of} has {surrogate}, half of a surrogate pair, at character {error.start}") from None


def _check_shallow(value: Any, *, of: str) -> None:
    if isinstance(value, str):
        check_string(value, of=of)
    if isinstance(value, JSONObject) and value.repeated is not None:
        raise MalformedRequest(f"{of} has a key more than once")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:QUOTED]} is too large a number")
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; the limit is {_MAX_DIGITS}")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8: {error.reason} at byte {error.start}"
    return str(error)
