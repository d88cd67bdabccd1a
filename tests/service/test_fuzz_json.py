"""JSON bodies made to break something: each gets a documented answer, as the forms of test_fuzz do."""

import base64
import json
from itertools import pairwise
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from tests.service.test_fuzz import BATCH, FILES, POST, TEXT, Change, Target, changed, changes, hostile, mostly, target

__all__ = ["target"]

encoded = st.sampled_from(FILES).map(lambda file: base64.b64encode(file).decode())
odd_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
odd_texts = st.sampled_from(["", " \n", "\ud83c", "\0", "a\r\nb", "x" * 20_000])
odd_images = st.sampled_from(["", "AAAA", "A", "====", "data:image/png;base64,AAAA", "_-_-", "é", "AA\r\nAA"])
usual_posts = st.fixed_dictionaries(
    {"text": mostly(TEXT, odd_texts | odd_values)},
    optional={"image": encoded | odd_images | odd_values},
)
odd_posts = st.dictionaries(st.sampled_from(["text", "image", "id", "Text", "", "\ud800"]), odd_values, max_size=4)
posts = usual_posts | odd_posts
batch_posts = st.builds(lambda post, identity: {"id": identity, **post}, posts, odd_values) | posts | odd_values
batches = st.builds(
    lambda posts, more: {"posts": posts, **more},
    st.lists(batch_posts, max_size=6),
    mostly({}, st.dictionaries(st.sampled_from(["posts", "post", "id"]), odd_values, max_size=2)),
)

WRAPPINGS = [
    (b"\xef\xbb\xbf", b""),
    (b" \r\n\t", b"\n"),
    (b'{"text": "a", "text": ', b"}"),
    (b'{"posts": [', b"]}"),
    (b'{"posts": [{"id": ', b', "text": "a"}]}'),
    (b"[" * 100, b"]" * 100),
    (b'{"id": ' * 20_000, b"}" * 20_000),
    (b"", b"{}"),
    (b"\xff\xfe", b""),
]
JSON_CHANGES: list[Change] = [
    lambda body: body.replace(b"[", b"[" * 50_000, 1),
    lambda body: body.replace(b"{", b'{"posts": [{"text": 1e999}], ', 1),
    lambda body: body.replace(b"null", b"NaN"),
    lambda body: body.replace(b'"id": ', b'"id": ' + b"9" * 5000),
    lambda body: body.decode("utf-8", "replace").encode("utf-16"),
    lambda body: body.replace(b",", b',"text":"",') * 2,
]


@st.composite
def bodies(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> bytes:
    """JSON, some of it damaged, repeated, nested deeply, or in another encoding."""
    body = json.dumps(draw(values), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    before, after = draw(mostly((b"", b""), st.sampled_from(WRAPPINGS)))
    damage = changes | st.sampled_from(JSON_CHANGES).map(lambda change: [change])
    return changed(before + body + after, draw(mostly([], damage)))


cut_places = st.none() | st.lists(st.integers(0, 1000), max_size=5)


def send(target: Target, path: str, body: bytes, cuts: list[int] | None) -> httpx.Response:
    edges = None if cuts is None else [0, *sorted(cuts), len(body)]
    content = body if edges is None else (body[a:b] for a, b in pairwise(edges))
    return target.try_out(path=path, content=content, headers={"Content-Type": "application/json"})


@hostile
@given(body=bodies(posts), cuts=cut_places)
def test_any_json_post_gets_a_documented_answer(target: Target, body: bytes, cuts: list[int] | None) -> None:
    assert send(target, POST, body, cuts).status_code in (200, 400, 413, 415, 422)


@hostile
@given(body=bodies(batches), cuts=cut_places)
def test_any_batch_gets_a_documented_answer(target: Target, body: bytes, cuts: list[int] | None) -> None:
    answer = send(target, BATCH, body, cuts)
    assert answer.status_code in (200, 400, 413)
    if answer.status_code == 200:
        results = answer.json()["results"]
        assert results
        assert all(("entities" in result) != ("error" in result) for result in results)
        assert {result["error"]["status"] for result in results if "error" in result} <= {400, 413, 415, 422}


def test_server_still_answers_as_at_first(target: Target) -> None:
    assert target.is_well()
