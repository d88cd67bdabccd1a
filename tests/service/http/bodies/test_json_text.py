from typing import Any

import pytest

from service.errors import MalformedRequest
from service.http.bodies.json_text import MAX_DEPTH, JSONObject, check_string, check_value, parse_json, type_of


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"{'text': 1}", "Expecting property name"),
        (b'{"text": "a",}', "Illegal trailing comma|Expecting property name"),
        (b"{} {}", "Extra data"),
        (b'"caf\xe9"', "not UTF-8: .* at byte 4"),
        ('{"text": "hi"}'.encode("utf-16"), "not UTF-8"),
        (b'{"id": NaN}', "NaN is no JSON value"),
        (b"-Infinity", "-Infinity is no JSON value"),
        (b"1e999", "1e999 is too large a number"),
        (b"9" * 5000, "a number has 5000 digits; the limit is 1000"),
        (b'"a\nb"', "control character"),
        (b'"\\x"', "Invalid"),
    ],
)
def test_what_is_not_json_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(
        MalformedRequest,
        match=f"it is not JSON: .*{reason}|it is not JSON: it is {reason}".replace(
            "it is not JSON", "the body is not JSON"
        ),
    ):
        parse_json(content)


def test_error_does_not_keep_the_body() -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_json(b'{"text": "private')
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_repeated_key_is_refused_by_name() -> None:
    with pytest.raises(MalformedRequest, match="the post has the key text more than once"):
        parse_json(b'{"text": "a", "image": "", "text": "b"}').check_keys(["text", "image"], of="the post")


def test_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(MalformedRequest, match="the post has a key 'txet'; allowed are text, image"):
        JSONObject([("txet", 1)]).check_keys(["text", "image"], of="the post")


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def test_deep_value_is_refused() -> None:
    check_value(nested(MAX_DEPTH), of="the id")
    with pytest.raises(MalformedRequest, match=f"the id is nested more than {MAX_DEPTH} levels"):
        check_value(nested(MAX_DEPTH + 1), of="the id")


@pytest.mark.parametrize("content", [rb'"\ud83c"', rb'["a", {"b": "\udfc0 c"}]', rb'{"\ud83c": 1}'])
def test_half_of_a_surrogate_pair_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedRequest, match=r"the id has \\ud83c|the id has \\udfc0"):
        check_value(parse_json(content), of="the id")


def test_repeated_key_in_a_value_is_refused() -> None:
    with pytest.raises(MalformedRequest, match="the id has a key more than once"):
        check_value(parse_json(b'[{"a": 1, "a": 2}]'), of="the id")


def test_whole_surrogate_pair_is_a_character() -> None:
    check_string(parse_json(rb'"\ud83c\udfc0"'), of="the text")


def test_types_are_called_as_in_json() -> None:
    values: list[Any] = [None, True, 1, 1.5, "", [], JSONObject([])]
    names = ["null", "a boolean", "a number", "a number", "a string", "an array", "an object"]
    assert [type_of(value) for value in values] == names
