"""Reads posts from JSON bodies: one object, or an object with an array of them."""

import binascii
import re
from codecs import BOM_UTF8
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from service.errors import MalformedRequest
from service.http.bodies.body import QUOTED, Body, MediaType
from service.http.bodies.json_cutter import Cutter
from service.http.bodies.json_text import JSONObject, check_string, check_value, parse_json, type_of
from service.http.bodies.post_content import PostContent, check_image_size
from service.settings import Settings

MEDIA_TYPE = "application/json"

KEYS = ("text", "image")
BATCH_KEYS = ("id", *KEYS)

_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")


class Item(NamedTuple):
    """A post of a batch as it was parsed, and the bytes that it took; not an object if the client sent another."""

    value: Any
    size: int

    @property
    def identity(self) -> Mapping[str, Any]:
        """``{"id": …}`` to repeat in the answer; empty if the post has none, or one that cannot be repeated."""
        if not isinstance(self.value, dict) or "id" not in self.value:
            return {}
        try:
            check_value(self.value["id"], of="the id")
        except MalformedRequest:
            return {}
        return {"id": self.value["id"]}


async def read_json(body: Body, media_type: MediaType, limits: Settings) -> PostContent:
    """Read a body that is one post.

    Raises:
        ServiceError: it is not as documented, or exceeds a limit.
    """
    _check_charset(media_type)
    cutter = Cutter(depth=0)
    objects = [parse_json(cut) async for chunk in body.chunks() for cut in cutter.feed(chunk)]
    skeleton = _parse_skeleton(cutter)
    post = objects[0] if objects else skeleton
    return to_post(post, limits, keys=KEYS)


async def read_batch(body: Body, limits: Settings) -> list[Item]:
    """Read a body of many posts; what is wrong with one of them is found by :func:`to_post`.

    Raises:
        ServiceError: the body is not as documented, or exceeds a limit.
    """
    _check_charset(body.media_type(MEDIA_TYPE))
    cutter = Cutter(depth=2)
    objects: list[Item] = []
    async for chunk in body.chunks():
        for cut in cutter.feed(chunk):
            objects.append(Item(parse_json(cut, of=f"post {len(objects) + 1}"), len(cut)))
            _check_count(len(objects), limits)
    posts = _posts_of(_parse_skeleton(cutter))
    _check_count(len(posts), limits)
    cut_out = iter(objects)
    return [next(cut_out) if isinstance(post, dict) else Item(post, 0) for post in posts]


def to_post(value: Any, limits: Settings, *, keys: Collection[str]) -> PostContent:
    """The post that a JSON value stands for. Takes the image out of it, so that its base64 can be freed.

    Raises:
        ServiceError: it is not as documented, or exceeds a limit.
    """
    if not isinstance(value, JSONObject):
        raise MalformedRequest(f"the post is {type_of(value)}; it must be an object")
    value.check_keys(keys, of="the post")
    if "id" in value:
        check_value(value["id"], of="the id")
    text, image = value.get("text"), value.pop("image", None)
    if "text" in value:
        _check_text(text)
    return PostContent.checked(text, None if image is None else _decode_image(image, limits), limits)


def _check_charset(media_type: MediaType) -> None:
    charset = media_type.parameters.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in ("utf-8", "utf8"):
        raise MalformedRequest(f"the charset of the body is {charset[:QUOTED]!r}; JSON is UTF-8 (RFC 8259, 8.1)")


def _parse_skeleton(cutter: Cutter) -> Any:
    if not cutter.complete:
        raise MalformedRequest("the body is not JSON: it ends too early")
    return parse_json(cutter.skeleton.removeprefix(BOM_UTF8))


def _posts_of(body: Any) -> list[Any]:
    if not isinstance(body, JSONObject):
        raise MalformedRequest(f'the body is {type_of(body)}; it must be an object such as {{"posts": []}}')
    body.check_keys(["posts"], of="the body")
    posts = body.get("posts")
    if not isinstance(posts, list):
        given = f"posts is {type_of(posts)}" if "posts" in body else "the body has no posts"
        raise MalformedRequest(f"{given}; it must be an array of posts")
    if not posts:
        raise MalformedRequest("the body has 0 posts; it must have at least 1")
    return posts


def _check_count(count: int, limits: Settings) -> None:
    if count > limits.max_request_posts:
        raise MalformedRequest(f"the body has at least {count} posts; the limit is {limits.max_request_posts}")


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise MalformedRequest(f"the text is {type_of(text)}; it must be a string")
    check_string(text, of="the text")


def _decode_image(image: Any, limits: Settings) -> bytes:
    """Decode base64 (RFC 4648, section 4), in lines or not; ``base64`` and MIME encoders break lines."""
    if not isinstance(image, str):
        raise MalformedRequest(f"the image is {type_of(image)}; it must be a string of base64, or null")
    if image[:5].lower() == "data:":
        raise MalformedRequest("the image is a data: URL; send only what stands behind its comma")
    encoded = image.replace("\r", "").replace("\n", "")
    if len(encoded) % 4 == 0:
        check_image_size(len(encoded) // 4 * 3 - encoded[-2:].count("="), limits)
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError as error:
        raise MalformedRequest(f"the image is not base64: {_fault(image, encoded) or error}") from None


def _fault(image: str, encoded: str) -> str | None:
    """What is wrong with base64 that was not padded, or is of another alphabet."""
    if odd := _NO_BASE64.search(image):
        return f"{odd[0]!r} at character {odd.start()} is not one of A-Z, a-z, 0-9, + and /"
    if len(encoded) % 4:
        return f"it has {len(encoded)} characters, which is no multiple of 4; it must be padded with ="
    return None
