import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BodyTooLarge, MalformedRequest, ServiceError
from service.http.bodies.json_cutter import MAX_BODY_TOKENS, MAX_TOKENS, Cutter
from tests.service.http.bodies.arrival import cut_up

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\{}[],:é🏀\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"{\\', max_size=3), inner, max_size=3),
    max_leaves=12,
)


def new_cutter(depth: int = 0, *, max_bytes: int = 2**24) -> Cutter:
    return Cutter(depth, max_bytes=max_bytes)


def cut(body: bytes, depth: int, cuts: list[int]) -> tuple[list[bytes], bytes]:
    cutter = new_cutter(depth)
    objects = [
        bytes(found) for chunk in cut_up(body, cuts) for found in cutter.feed(chunk) if isinstance(found, bytearray)
    ]
    assert cutter.complete
    return objects, bytes(cutter.skeleton)


def test_posts_are_cut_out_of_their_array() -> None:
    body = b'{"posts": [{"text": "a}"}, 7, {"id": {"b": [{}]}}]}'
    assert cut(body, 2, []) == ([b'{"text": "a}"}', b'{"id": {"b": [{}]}}'], b'{"posts": [{}, 7, {}]}')


@given(posts=st.lists(values, max_size=4), cuts=st.lists(st.integers(0, 200), max_size=6), ascii_=st.booleans())
def test_cut_body_has_all_of_its_values(posts: list[Any], cuts: list[int], ascii_: bool) -> None:
    body = json.dumps({"posts": posts}, ensure_ascii=ascii_).encode()
    objects, skeleton = cut(body, 2, cuts)
    assert [json.loads(found) for found in objects] == [post for post in posts if isinstance(post, dict)]
    assert json.loads(skeleton) == {"posts": [{} if isinstance(post, dict) else post for post in posts]}


@given(value=values, cuts=st.lists(st.integers(0, 200), max_size=6))
def test_whole_object_can_be_cut(value: Any, cuts: list[int]) -> None:
    body = json.dumps(value).encode()
    objects, skeleton = cut(body, 0, cuts)
    assert (objects, skeleton) == (([body], b"{}") if isinstance(value, dict) else ([], body))


@pytest.mark.parametrize("body", [b'{"a', b'{"a\\', b'["', b"[{}", b'"\\"'])
def test_unfinished_body_is_not_complete(body: bytes) -> None:
    cutter = new_cutter()
    list(cutter.feed(body))
    assert not cutter.complete


@pytest.mark.parametrize("body", [b"}", b"[]]", b"{}}"])
def test_too_many_closing_brackets_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequest, match="more brackets than it opens"):
        list(new_cutter().feed(body))


@pytest.mark.parametrize("unit", [b"[", b"[],", b'"ab",', b"1,", b'{"a":'])
def test_body_of_many_tokens_is_refused_early(unit: bytes) -> None:
    """As Python objects they would take twenty times as much memory."""
    with pytest.raises(MalformedRequest, match=f"more than {MAX_TOKENS} JSON strings"):
        list(new_cutter().feed(b'{"text": [' + unit * 1_000_000))


def test_tokens_are_counted_for_each_post() -> None:
    post = b'{"id": [' + b"0," * 400 + b"0]}"
    objects, _ = cut(b'{"posts": [' + b",".join([post] * 20) + b"]}", 2, [])
    assert objects == [post] * 20


def batch(*posts: bytes) -> bytes:
    return b'{"posts": [' + b",".join(posts) + b"]}"


@pytest.mark.parametrize("cuts", [[], [40, 300, 900], list(range(2000))])
def test_refused_posts_are_skipped_to_their_end(cuts: list[int]) -> None:
    good, long, rich = b'{"text": "a"}', b'{"b": "}' + b"x" * 200 + b'"}', b'{"a": [{}' + b',{"]":0}' * 200 + b"]}"
    cutter = new_cutter(2, max_bytes=150)
    found = [found for chunk in cut_up(batch(good, long, good, rich, good), cuts) for found in cutter.feed(chunk)]
    assert cutter.complete
    assert cutter.skeleton == batch(*[b"{}"] * 5)
    assert [bytes(each) for each in found if isinstance(each, bytearray)] == [good] * 3
    assert isinstance(found[1], BodyTooLarge)
    assert isinstance(found[3], ServiceError)


def test_error_names_the_limit_of_a_post() -> None:
    cutter = new_cutter(2, max_bytes=5000)
    large, rich = cutter.feed(batch(b'{"b": "' + b"x" * 5000 + b'"}', b'{"a": [' + b"0," * 600 + b"0]}"))
    assert str(large) == "the post has at least 5009 bytes; the limit is 5000"
    assert str(rich) == f"the post has more than {MAX_TOKENS} JSON strings, brackets and commas"


def test_skeleton_is_bounded() -> None:
    """A long key takes as many times its bytes as a post."""
    with pytest.raises(MalformedRequest, match=r"at least 1\d+ bytes that are not part of a post; the limit is 1000"):
        list(new_cutter(2, max_bytes=1000).feed(b'{"posts": [{}], "' + b"k" * 1000))
    with pytest.raises(MalformedRequest, match=f"more than {MAX_TOKENS} JSON strings.* that are not part of a post"):
        list(new_cutter(2).feed(b"[" + b"1," * 1000))


def test_skipping_ends_somewhere() -> None:
    """A token takes a microsecond, in which nobody else is answered."""
    with pytest.raises(MalformedRequest, match=f"the body has more than {MAX_BODY_TOKENS} JSON strings"):
        list(new_cutter(2).feed(batch(b'{"a": [' + b"0," * MAX_BODY_TOKENS + b"0]}")))


def test_escapes_take_no_longer_than_other_characters() -> None:
    body = b'{"text": "' + b"\\\\" * 5_000_000 + b'"}'
    started = time.monotonic()
    assert len(cut(body, 0, list(range(0, len(body), 65_536)))[0]) == 1
    assert time.monotonic() - started < 2
