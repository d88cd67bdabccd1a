"""Reads posts from JSON bodies: one object, or an object with an array of them."""

import binascii
import re
from codecs import BOM_UTF8
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.errors import MalformedRequest, ServiceError
from service.http.bodies.body import QUOTED, Body, MediaType
from service.http.bodies.json_cutter import Cutter
from service.http.bodies.json_text import JSONObject, check_string, check_value, parse_json, type_of
from service.http.bodies.post_content import PostContent, check_image_size
from service.settings import Settings

MEDIA_TYPE = "application/json"

KEYS = ("text", "image")
BATCH_KEYS = ("id", *KEYS)

_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")


@dataclass(slots=True)
class Item:
    """A post of a batch.

    Attributes:
        identity: ``{"id": …}`` to repeat in the answer; empty if the post has none, or one that cannot be repeated.
        size: the bytes of JSON that it took.
        content: the post, or what is wrong with it; None once it was taken.
    """

    identity: Mapping[str, Any]
    size: int
    content: PostContent | ServiceError | None = field(repr=False)

    def take(self) -> PostContent:
        """Hand over the post without keeping it.

        Raises:
            ServiceError: it is not as documented, or exceeds a limit.
        """
        content, self.content = self.content, None
        if isinstance(content, ServiceError):
            raise content
        assert content is not None, "it was taken before"
        return content


async def read_json(body: Body, media_type: MediaType, limits: Settings) -> PostContent:
    """Read a body that is one post.

    Raises:
        ServiceError: it is not as documented, or exceeds a limit.
    """
    _check_charset(media_type)
    cutter = Cutter(depth=0, max_bytes=limits.max_body_bytes)
    cuts = [cut async for chunk in body.chunks() for cut in cutter.feed(chunk)]
    skeleton = _parse_skeleton(cutter)
    return _to_post(_parse_object(cuts[0]) if cuts else skeleton, limits, keys=KEYS)


async def read_batch(body: Body, limits: Settings) -> list[Item]:
    """Read a body of many posts, whatever is wrong with some of them.

    Raises:
        ServiceError: the body is not as documented, or exceeds a limit.
    """
    _check_charset(body.media_type(MEDIA_TYPE))
    cutter = Cutter(depth=2, max_bytes=limits.max_body_bytes)
    objects: list[Item] = []
    count = 0
    async for chunk in body.chunks():
        for cut in cutter.feed(chunk):
            count += 1
            if count <= limits.max_request_posts:
                objects.append(_read_item(cut, limits))
        if count > limits.max_request_posts and not cutter.complete:
            raise MalformedRequest(f"the body has at least {count} posts; the limit is {limits.max_request_posts}")
    posts = _posts_of(_parse_skeleton(cutter))
    if len(posts) > limits.max_request_posts:
        raise MalformedRequest(f"the body has {len(posts)} posts; the limit is {limits.max_request_posts}")
    cut_out = iter(objects)
    return [next(cut_out) if isinstance(post, dict) else _to_item(post, 0, limits) for post in posts]


def _read_item(cut: bytearray | ServiceError, limits: Settings) -> Item:
    size = 0 if isinstance(cut, ServiceError) else len(cut)
    try:
        return _to_item(_parse_object(cut), size, limits)
    except ServiceError as error:
        return Item({}, size, _alone(error))


def _parse_object(cut: bytearray | ServiceError) -> Any:
    if isinstance(cut, ServiceError):
        raise cut
    return parse_json(cut, of="the post")


def _to_item(value: Any, size: int, limits: Settings) -> Item:
    identity = _identity(value)
    try:
        return Item(identity, size, _to_post(value, limits, keys=BATCH_KEYS))
    except ServiceError as error:
        return Item(identity, size, _alone(error))


def _alone(error: ServiceError) -> ServiceError:
    """The error without what would keep the post's text in memory."""
    error.__context__ = error.__traceback__ = None
    return error


def _identity(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or "id" not in value:
        return {}
    try:
        check_value(value["id"], of="the id")
    except MalformedRequest:
        return {}
    return {"id": value["id"]}


def _to_post(value: Any, limits: Settings, *, keys: Collection[str]) -> PostContent:
    """The post that a JSON value stands for.

    Raises:
        ServiceError: it is not as documented, or exceeds a limit.
    """
    if not isinstance(value, JSONObject):
        raise MalformedRequest(f"the post is {type_of(value)}; it must be an object")
    value.check_keys(keys, of="the post")
    if "id" in value:
        check_value(value["id"], of="the id")
    text, image = value.get("text"), value.get("image")
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
