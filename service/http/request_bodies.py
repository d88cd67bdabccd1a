"""The bodies of requests, as the OpenAPI document describes them; ``bodies/`` reads them itself."""

from collections.abc import Mapping
from typing import Any

from service.http.bodies import form, json_posts

# the smallest photo that all decoders read, so that the examples can be sent: a PNG with one pixel
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
_TEXT: Mapping[str, Any] = {
    "type": "string",
    "description": "the post's text",
    "example": "RT @NBA: Kawhi Leonard is in Toronto",
}
_DIGIT = "[A-Za-z0-9+/][\\r\\n]*"
_PADDING = "=[\\r\\n]*"
_FOUR = 4 * _DIGIT
_BASE64: Mapping[str, Any] = {
    "type": ["string", "null"],
    "pattern": f"^[\\r\\n]*({_FOUR})*({_DIGIT}{_DIGIT}{_PADDING}{_PADDING}|{_DIGIT}{_DIGIT}{_DIGIT}{_PADDING})?$",
    "contentEncoding": "base64",
    "description": (
        "the post's photo: a JPEG, PNG, WebP, GIF or AVIF file as base64 (RFC 4648, section 4), padded, in lines or "
        "not, without `data:` before it"
    ),
}


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [required], "additionalProperties": False, "properties": properties}


def _body(**content: Any) -> dict[str, Any]:
    return {"required": True, "content": content}


_FILE: Mapping[str, Any] = {
    "type": "string",
    "format": "binary",
    "description": "the post's photo: a JPEG, PNG, WebP, GIF or AVIF file",
}
_ID: Mapping[str, Any] = {"description": "any JSON value; the answer repeats it"}
_POST = _object("text", text=_TEXT, image=_BASE64)
_BATCH_POST = _object("text", id=_ID, text=_TEXT, image=_BASE64)

POST = _body(
    **{
        form.MEDIA_TYPE: {"schema": _object("text", text=_TEXT, image=_FILE)},
        json_posts.MEDIA_TYPE: {
            "schema": _POST,
            "examples": {
                "text": {"summary": "a text alone", "value": {"text": "RT @NBA: Kawhi Leonard is in Toronto"}},
                "photo": {"summary": "with a photo", "value": {"text": "Sunset at Lake Como", "image": _PIXEL}},
            },
        },
    }
)


def batch(max_posts: int) -> dict[str, Any]:
    """The body of a batch of at most ``max_posts``."""
    posts = {"type": "array", "minItems": 1, "maxItems": max_posts, "items": _BATCH_POST}
    example = {
        "posts": [
            {"id": 1, "text": "RT @NBA: Kawhi Leonard is in Toronto"},
            {"id": "como", "text": "Sunset at Lake Como", "image": _PIXEL},
        ]
    }
    return _body(**{json_posts.MEDIA_TYPE: {"schema": _object("posts", posts=posts), "example": example}})
